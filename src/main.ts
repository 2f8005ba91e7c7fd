import { fileURLToPath } from 'node:url';
import { nodeProblem } from './node-version.ts';
import { loadProgram } from './program.ts';

/**
 * argv → program. Each part is a bundle of its own, so that `vouch enroll` in a container loads neither the server nor
 * a native addon, and the signer loads nothing but itself.
 */
type Program = (argv: string[]) => Promise<number>;

const agentVerbs = new Set(['enroll', 'renew', 'exec', 'bundle', 'agent']);

async function programFor(verb: string): Promise<Program> {
  if (verb === 'agent')
    return loadProgram<typeof import('./agent-daemon.ts')>(pathOf('./vouch-agentd.cjs')).runDaemonVerb;
  if (agentVerbs.has(verb)) return (await load<typeof import('./agent.ts')>('./vouch-agent.js')).runAgentVerb;
  if (verb === 'signer') return (await load<typeof import('./signer.ts')>('./vouch-signer.js')).runSignerVerb;
  return (await load<typeof import('./cli/main.ts')>('./vouch-full.js')).runOperatorVerb;
}

function pathOf(bundle: string): string {
  return fileURLToPath(new URL(bundle, import.meta.url));
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

/** `--json` and `--config` may stand in front of the verb: they go behind its words, where each program reads them. */
function withVerbFirst(argv: readonly string[]): string[] {
  let general = 0;
  while (/^--(?:json$|config(?:=|$))/.test(argv[general] ?? ''))
    general += argv[general] === '--config' ? 2 : 1;
  const rest = argv.slice(general);
  const flag = rest.findIndex((word) => word.startsWith('-'));
  return rest.toSpliced(flag === -1 ? rest.length : flag, 0, ...argv.slice(0, general));
}

// `vouch … | head` is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
const args = withVerbFirst(process.argv.slice(2));
process.exitCode = await main(args);
// At once: what an agent verb leaves pending does not keep a container from ending with its workload.
if (agentVerbs.has(args[0] ?? '')) process.exit();
