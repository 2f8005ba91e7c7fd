import { nodeProblem } from './node-version.ts';

/**
 * argv → program. Each part is a bundle of its own, so that `vouch enroll` in a container loads neither the server nor
 * a native addon, and the signer loads nothing but itself.
 */
type Program = (argv: string[]) => Promise<number>;

const agentVerbs = new Set(['enroll', 'renew', 'exec', 'bundle', 'agent']);

async function programFor(verb: string): Promise<Program> {
  if (agentVerbs.has(verb)) return (await load<typeof import('./agent.ts')>('./vouch-agent.js')).runAgentVerb;
  if (verb === 'signer') return (await load<typeof import('./signer.ts')>('./vouch-signer.js')).runSignerVerb;
  return (await load<typeof import('./cli/main.ts')>('./vouch-full.js')).runOperatorVerb;
}

async function load<T>(bundle: string): Promise<T> {
  return (await import(new URL(bundle, import.meta.url).href)) as T;
}

async function main(argv: string[]): Promise<number> {
  const problem = nodeProblem();
  if (problem !== undefined) {
    process.stderr.write(problem);
    return 78;
  }
  if (argv[0] === '--version' || argv[0] === '-V') {
    process.stdout.write(`${__VOUCH_VERSION__}\n`);
    return 0;
  }
  return (await programFor(argv[0] ?? ''))(argv);
}

// `vouch … | head` is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
const [, , ...args] = process.argv;
process.exitCode = await main(args);
// At once: what an agent verb leaves pending does not keep a container from ending with its workload.
if (agentVerbs.has(args[0] ?? '')) process.exit();
