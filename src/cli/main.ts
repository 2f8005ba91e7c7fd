import { Command, CommanderError, Option } from 'commander';
import { VouchError } from '../core/errors.ts';
import { redacted } from '../core/redacted.ts';
import { defaultConfigFile } from '../config/config.ts';
import { addAuthorityVerbs } from './authority-verbs.ts';
import { addCertificateVerbs } from './certificate-verbs.ts';
import { refuseEmpty } from './context.ts';
import { addEntryVerbs } from './entry-verbs.ts';
import { addLogVerbs } from './log-verbs.ts';
import { exitCodes, fail } from './output.ts';
import { addRevocationVerbs } from './revocation-verbs.ts';
import { addServerVerbs } from './server-verbs.ts';
import { addStateVerbs } from './state-verbs.ts';
import { addTokenVerbs } from './token-verbs.ts';

const description = [
  'A certificate authority that bootstraps trust between services.',
  'A workload starts and knows nothing. With one join file it enrolls, holds a short-lived certificate whose authority key never left the HSM, and knows whom to trust; within a second of `vouch revoke` its peers refuse it.',
].join('\n\n');

const epilogue = `
Set up:     vouch init --help       keys, root, issuer, log: once
            vouch server            runs the authority
Workloads:  vouch token create      a join file for one identity
            vouch exec              enroll, run a command, renew while it runs
            vouch enroll, renew     the same by hand; vouch bundle fetch for mere verifiers
Every day:  vouch cert list         what is live       vouch explain SERIAL   why it is
            vouch revoke            end it, everywhere, now
            vouch status            signer, log, CRLs  vouch doctor           what to mend
            vouch log verify        nothing was signed that is not written down

Every verb takes --json. Exit codes: 0 done, 1 refused or failed, 2 usage, 75 try again later, 78 configuration.`;

/** Runs an operator's verb. Returns the exit code. */
export async function runOperatorVerb(argv: string[]): Promise<number> {
  const json = argv.includes('--json');
  const program = new Command('vouch')
    .description(description)
    .version(__VOUCH_VERSION__, '-V, --version')
    .addOption(new Option('--config <file>', 'configuration file').default(defaultConfigFile))
    .option('--json', 'one JSON object on standard output', false)
    .addHelpText('after', epilogue)
    .showHelpAfterError('(add --help for what this verb takes)')
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeErr: (text) => void (json || process.stderr.write(redacted(text))) })
    .exitOverride();
  addServerVerbs(program);
  addAuthorityVerbs(program);
  addTokenVerbs(program);
  addCertificateVerbs(program);
  addRevocationVerbs(program);
  addEntryVerbs(program);
  addLogVerbs(program);
  addStateVerbs(program);
  inherit(program);
  program.hook('preAction', refuseEmpty);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : exitCodes.done;
  } catch (error) {
    if (!(error instanceof CommanderError)) return fail({ json }, error);
    if (error.exitCode === 0) return exitCodes.done;
    return json
      ? fail({ json }, new VouchError('usage-invalid', error.message.replace(/^error: /, '')))
      : exitCodes.usage;
  }
}

/** `--config` and `--json` may stand before or after the verb. */
function inherit(command: Command): void {
  for (const sub of command.commands) {
    sub
      .copyInheritedSettings(command)
      .showHelpAfterError('(add --help for what this verb takes)')
      .helpCommand(false);
    if (sub.commands.length === 0) {
      if (!sub.options.some((option) => option.long === '--json'))
        sub.option('--json', 'one JSON object on standard output');
      if (!sub.options.some((option) => option.long === '--config'))
        sub.option('--config <file>', `configuration file (default: ${defaultConfigFile})`);
    }
    inherit(sub);
  }
}
