import { openSync } from 'node:fs';
import { type Arguments, parseArguments } from './agent/arguments.ts';
import type { Keyring } from './agent/daemon/cache-keys.ts';
import { AgentDaemon } from './agent/daemon/daemon.ts';
import { daemonHelp, daemonSpecs, daemonUsage } from './agent/daemon/help.ts';
import { isRunning, isWell, readStatus, statusText } from './agent/daemon/status.ts';
import { makeDeliveryFolder } from './agent/deliver/files.ts';
import { proxyHelp, proxySpec, proxyUsage } from './agent/proxy/help.ts';
import { type Output, processOutput, reportFailure } from './agent/report.ts';
import { systemSleep } from './agent/sleep.ts';
import { loadAgentConfig } from './config/agent-config.ts';
import type { AgentConfig } from './config/agent-file.ts';
import { systemClock } from './core/clock.ts';
import { VouchError } from './core/errors.ts';
import { linux } from './native/linux.ts';
import { readSchemasWithoutCode } from './wire/without-code.ts';

readSchemasWithoutCode();

type Verb = keyof typeof specs;

const specs = { ...daemonSpecs, 'agent proxy': proxySpec };
const usage: Readonly<Record<Verb, string>> = { ...daemonUsage, 'agent proxy': proxyUsage };
const help: Readonly<Record<Verb, string>> = { ...daemonHelp, 'agent proxy': proxyHelp };
const verbs: Readonly<Record<Verb, (args: Arguments, output: Output) => Promise<number>>> = {
  agent: runAgent,
  'agent status': runStatus,
  'agent proxy': async (args, output) => (await import('./agent/proxy/verb.ts')).runProxy(args, output),
};

/** Runs `agent` or a verb of it; `argv` begins with the word. Resolves to the exit code of the contract. */
export async function runDaemonVerb(argv: string[], output: Output = processOutput): Promise<number> {
  const [first = '', second = ''] = argv;
  const both = `${first} ${second}`;
  const verb: Verb = both in verbs ? (both as Verb) : 'agent';
  try {
    const args = parseArguments(argv.slice(verb.split(' ').length), specs[verb]);
    if (!args.help) return await verbs[verb](args, output);
    output.stdout(help[verb]);
    return 0;
  } catch (error) {
    const json = argv.includes('--json');
    const code = reportFailure(error, json, output);
    if (code === 2 && !json) output.stderr(`usage: ${usage[verb]}\n`);
    return code;
  }
}

/** The composition of the daemon: what it holds, and all that serves it. */
async function runAgent(args: Arguments, output: Output): Promise<number> {
  const config = await configOf(args);
  linux().hideMemory();
  await lockFolder(config.dir);
  const stop = new AbortController();
  const { signal } = stop;
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort());
  const notice = (line: string): void => output.stderr(`vouch: ${line}\n`);
  const daemon = new AgentDaemon(
    {
      joinFile: config.joinFile,
      dir: config.dir,
      crlPolicy: config.crl,
      crlRefreshMs: config.crlRefresh * 1000,
    },
    { clock: systemClock, sleep: systemSleep, signal, notice, keyring },
  );
  const ready = daemon.ready();
  const running = daemon.run().finally(() => stop.abort());
  // What serves `daemon.workloads`, begun while the server works for us: a workload that asks early is told to wait.
  const opening = daemon.underWay.then(async () => {
    if (signal.aborted) return undefined;
    const { openServices } = await import('./agent-services.ts');
    return openServices(config, daemon, notice);
  });
  const serving = opening.catch((error: unknown) => {
    stop.abort();
    throw error;
  });
  void Promise.all([ready, opening]).then(
    ([about]) => printReady(about, config, args, output),
    () => undefined,
  );
  const [end, services] = await Promise.allSettled([running, serving]);
  if (services.status === 'fulfilled') await services.value?.close();
  for (const one of [services, end]) if (one.status === 'rejected') throw one.reason;
  return 0;
}

/** For as long as this process lives: two agents would overwrite each other's identity and cache. */
async function lockFolder(dir: string): Promise<void> {
  await makeDeliveryFolder(dir);
  if (linux().tryLock(openSync(dir, 'r'))) return;
  throw new VouchError(
    'config-in-use',
    `another agent runs in ${dir}: stop it, or name another folder with --dir`,
  );
}

function printReady(
  { spiffeId, entries }: { spiffeId: string; entries: number },
  { socket }: AgentConfig,
  args: Arguments,
  output: Output,
): void {
  const { pid } = process;
  output.stdout(
    args.has('json')
      ? `${JSON.stringify({ event: 'ready', spiffeId, socket, pid, entries })}\n`
      : `${spiffeId}, ${entries} registration entries, at ${socket}\n`,
  );
}

async function runStatus(args: Arguments, output: Output): Promise<number> {
  const status = readStatus((await configOf(args)).dir, systemClock.now());
  const running = isRunning(status);
  output.stdout(args.has('json') ? `${JSON.stringify({ ...status, running })}\n` : statusText(status));
  return isWell(status) ? 0 : 1;
}

/** Both throw where the kernel has none for us, or the addon is not there. */
const keyring: Keyring = {
  read: (name) => linux().keyringRead(name),
  write: (name, value) => linux().keyringWrite(name, value),
};

function configOf(args: Arguments): Promise<AgentConfig> {
  const flags = ['join-file', 'dir', 'socket', 'crl', 'crl-refresh'].flatMap((flag) => {
    const value = args.value(flag);
    return value === undefined ? [] : [[flag, value] as const];
  });
  return loadAgentConfig(args.value('config'), Object.fromEntries(flags));
}
