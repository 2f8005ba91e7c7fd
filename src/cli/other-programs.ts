import type { Command } from 'commander';

/** `vouch signer`, which main.ts gives to a program of its own: here for the list of `--help`. */
export function addSignerProgram(program: Command): void {
  program.command('signer').description('run the signer as a user of its own, behind a socket');
}

/** The verbs of the agent, which main.ts gives to a program of its own: here for the list of `--help`. */
export function addAgentProgram(program: Command): void {
  program.command('exec').description('enroll, run a command with its certificate, and renew while it runs');
  program.command('enroll').description('turn a join file into a certificate');
  program.command('renew').description('renew a certificate by itself, once');
  const agent = program
    .command('agent')
    .description('the agent of a host: holds and serves the identities of all its workloads');
  for (const verb of ['status', 'proxy']) agent.command(verb);
  program.command('bundle').description('whom to trust, for mere verifiers').command('fetch');
}
