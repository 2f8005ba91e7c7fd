import { nodeProblem } from './node-version.ts';

/**
 * What `scripts/build-sea` makes one executable of, with Node in it: the verbs of the agent, and the daemon, which is
 * initialised only where it is asked for. The exit code is the contract's.
 */
async function main(argv: string[]): Promise<number> {
  const problem = nodeProblem();
  if (problem !== undefined) {
    process.stderr.write(problem);
    return 78;
  }
  if (argv[0] === '--version') {
    process.stdout.write(`${__VOUCH_VERSION__}\n`);
    return 0;
  }
  if (argv[0] === 'agent') return (await import('./agent-daemon.ts')).runDaemonVerb(argv);
  return (await import('./agent.ts')).runAgentVerb(argv);
}

void main(process.argv.slice(2)).then((code) => process.exit(code));
