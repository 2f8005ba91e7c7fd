// Child processes of the benchmark: all of them end with it, however it ends.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const running = new Set();
const grandchildren = new Set();
const goneWithinMs = 5_000;

/** Starts a child. `ended` resolves with `{ code, signal }`; a child that cannot start has code 127. */
export function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const ended = new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: 127, signal: null, error }));
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  const started = { child, ended };
  running.add(started);
  void ended.then(() => running.delete(started));
  return started;
}

/** Runs a command to its end and returns what it printed. Throws with its last words unless it exits 0. */
export async function run(command, args, { input, timeoutMs = 60_000, ...options } = {}) {
  const { child, ended } = start(command, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [stdout, stderr, end] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  clearTimeout(timer);
  if (end.code === 0) return stdout;
  const why = end.error?.message ?? (end.signal === null ? `exit ${end.code}` : end.signal);
  throw new Error(`${command} ${args[0] ?? ''} failed (${why}): ${stderr.trim().slice(-2000)}`);
}

/** Asks a child to end, and makes it end after `graceMs`. */
export async function end({ child, ended }, graceMs = 12_000) {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  const how = await ended;
  clearTimeout(timer);
  return how;
}

/** A process that a child of ours started and that ends with it: `killAll` waits for its end, too. */
export function awaitAtEnd(pid) {
  grandchildren.add(pid);
}

/** Whatever still runs ends now; resolves when it is gone, so that nothing writes to its files any more. */
export async function killAll() {
  for (const { child } of running) child.kill('SIGKILL');
  await Promise.all([...running].map(({ ended }) => ended));
  const giveUp = performance.now() + goneWithinMs;
  for (const pid of grandchildren)
    while (existsSync(`/proc/${pid}`) && performance.now() < giveUp) await sleep(20);
}

/** One core for what is measured and another for what drives it. Throws where this process may use only one. */
export function chooseCores() {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  const cores = list.split(',').flatMap((range) => {
    const [from, to = from] = range.split('-').map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
  if (cores.length < 2 || availableParallelism() < 2)
    throw new Error('needs two processor cores: one for the server, one for the load generator');
  return { load: cores[0], server: cores.at(-1) };
}

/** This process, and what it starts from now on, stays on that core. */
export async function pinSelf(core) {
  await run('taskset', ['-a', '-p', '-c', String(core), String(process.pid)]);
}

/**
 * A command line that stays on that core, and is killed with this process even where that was killed itself. Both tools
 * replace themselves, so that the process id is the command's.
 */
export function pinned(core, command, args) {
  return ['setpriv', ['--pdeathsig', 'KILL', 'taskset', '-c', String(core), command, ...args]];
}

async function text(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}
