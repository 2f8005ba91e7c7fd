import { Command, Help, type Option } from 'commander';

/** What Vouch is, for somebody who has never heard of it. */
export const description = [
  'A certificate authority that bootstraps trust between services.',
  'A workload starts and knows nothing. With one join file it enrolls, holds a short-lived certificate whose authority key never left the HSM, and knows whom to trust; within a second of `vouch revoke` its peers refuse it.',
].join('\n\n');

/** Where to begin. */
export const epilogue = `
First steps:
  vouch init --help            keys in two tokens, root, issuer, log: one command, once
  vouch server                 runs the authority
  vouch token create --help    a join file for one identity
  vouch exec --help            where the workload runs: enrolls, starts it, renews while it runs
  vouch agent --help           or one daemon for all workloads of a host; vouch entry --help: who of them gets what
  vouch revoke --help          ends it, everywhere, now

Exit codes: 0 done, 1 refused or failed, 2 usage, 75 try again later, 78 configuration.`;

/** A command whose help names the verbs below it and the flags that must be given, and each flag once. */
export class TeachingCommand extends Command {
  override createCommand(name?: string): Command {
    return new TeachingCommand(name);
  }

  override createHelp(): Help {
    return new TeachingHelp();
  }
}

class TeachingHelp extends Help {
  override showGlobalOptions = true;

  override visibleGlobalOptions(command: Command): Option[] {
    return super.visibleGlobalOptions(command).filter(({ long }) => long !== '--version');
  }

  override optionDescription(option: Option): string {
    return super.optionDescription(option) + (option.mandatory ? ' (required)' : '');
  }

  override subcommandTerm(command: Command): string {
    const verbs = command.commands.map((verb) => verb.name()).join('|');
    const values = command.registeredArguments.map((value) =>
      value.required ? `<${value.name()}>` : `[${value.name()}]`,
    );
    return [command.name(), verbs, ...values].filter((word) => word !== '').join(' ');
  }
}
