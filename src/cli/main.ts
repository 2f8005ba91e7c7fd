import { type Command, CommanderError, Option } from 'commander';
import { VouchError } from '../core/errors.ts';
import { redacted } from '../core/redacted.ts';
import { defaultConfigFile } from '../config/config.ts';
import { addAuthorityVerbs } from './authority-verbs.ts';
import { addCeremonyVerb } from './ceremony-verb.ts';
import { addCertificateVerbs } from './certificate-verbs.ts';
import { refuseEmpty } from './context.ts';
import { addEntryVerbs } from './entry-verbs.ts';
import { description, epilogue, TeachingCommand } from './help.ts';
import { addInitVerb } from './init-verb.ts';
import { addLogVerbs } from './log-verbs.ts';
import { addAgentProgram, addSignerProgram } from './other-programs.ts';
import { exitCodes, fail } from './output.ts';
import { addCrlVerbs } from './crl-verbs.ts';
import { addRevocationVerbs } from './revocation-verbs.ts';
import { addServerVerbs } from './server-verbs.ts';
import { addStateVerbs } from './state-verbs.ts';
import { addTokenVerbs } from './token-verbs.ts';

/** Every verb, in the order in which a newcomer needs them. */
const groups: Readonly<Record<string, readonly ((program: Command) => void)[]>> = {
  'Set up:': [addInitVerb, addServerVerbs, addSignerProgram, addCeremonyVerb],
  'Workloads:': [addTokenVerbs, addAgentProgram, addEntryVerbs],
  'Every day:': [addAuthorityVerbs, addCertificateVerbs, addRevocationVerbs, addCrlVerbs],
  'The record:': [addLogVerbs],
  'Upkeep:': [addStateVerbs],
};

/** Runs an operator's verb. Returns the exit code. */
export async function runOperatorVerb(argv: string[]): Promise<number> {
  const json = argv.includes('--json');
  const program = new TeachingCommand('vouch')
    .usage('<verb> [options]')
    .description(description)
    .version(__VOUCH_VERSION__, '-V, --version', 'print the version')
    .addOption(
      new Option('--config <file>', 'configuration file').default(defaultConfigFile, defaultConfigFile),
    )
    .option('--json', 'one JSON object on standard output; errors as problem+json on standard error')
    .helpOption('-h, --help', 'print this')
    .addHelpText('after', epilogue)
    .configureOutput({ writeErr: (text) => void (json || process.stderr.write(redacted(text))) })
    .exitOverride()
    .hook('preAction', refuseEmpty);
  for (const [heading, adders] of Object.entries(groups)) {
    program.commandsGroup(heading);
    for (const add of adders) add(program);
  }
  settle(program);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : exitCodes.done;
  } catch (error) {
    if (!(error instanceof CommanderError)) return fail({ json }, error);
    if (error.exitCode === 0) return exitCodes.done;
    return json
      ? fail({ json }, new VouchError('usage-invalid', whyOf(error, program, argv)))
      : exitCodes.usage;
  }
}

/** Commander prints help where a group stands without its verb, which is no sentence. */
function whyOf(error: CommanderError, program: Command, argv: readonly string[]): string {
  if (error.code !== 'commander.help') return error.message.replace(/^error: /, '');
  const group = program.commands.find((command) => command.name() === argv[0]) ?? program;
  return `name a verb: ${group.commands.map((command) => command.name()).join(', ')}`;
}

/** What commander hands on to no subcommand by itself. */
function settle(command: Command): void {
  command.showHelpAfterError('(add --help for what this verb takes)').helpCommand(false);
  for (const sub of command.commands) settle(sub.copyInheritedSettings(command));
}
