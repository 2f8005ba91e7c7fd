import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { VouchError } from '../../core/errors.ts';
import { pauseMs } from '../retry.ts';
import type { Workload } from './workload.ts';

/** What `--on-change` asks for. */
export type Hook =
  | { type: 'none' }
  | { type: 'signal'; signal: NodeJS.Signals }
  | { type: 'exec'; command: string };

/** What changed. */
export type Change = 'certificate' | 'crl';

/** Parses `signal:HUP` or `exec:CMD`. Throws `usage-invalid`. */
export function parseHook(text: string | undefined): Hook {
  if (text === undefined) return { type: 'none' };
  if (text.startsWith('exec:') && text.length > 'exec:'.length)
    return { type: 'exec', command: text.slice('exec:'.length) };
  const name = /^signal:(?:SIG)?([A-Z0-9]+)$/.exec(text)?.[1];
  const signal = Object.keys(constants.signals).find((known) => known === `SIG${name}`);
  if (signal === undefined)
    throw new VouchError('usage-invalid', '--on-change takes signal:NAME, as signal:HUP, or exec:COMMAND');
  return { type: 'signal', signal: signal as NodeJS.Signals };
}

/** Attempts at one change before it waits for the next. */
const maxAttempts = 5;
/** A reload is dear for some: changes that come faster are taken together. No longer, as a revocation waits for it. */
const minIntervalMs = 200;
/** How long one run of a command may take. */
const commandTimeoutMs = 30_000;

/** Whoever asks for these wants the command to end, with a handler or without. */
const meantToEnd: readonly string[] = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGKILL'];

/** What a hook works with. */
export interface HookParts {
  dir: string;
  workload: Pick<Workload, 'kill' | 'handles'>;
  notice: (line: string) => void;
  signal: AbortSignal;
  /** Shortest time between two runs; for tests. */
  minIntervalMs?: number;
  /** How long one run of a command may take; for tests. */
  commandTimeoutMs?: number;
}

/** Runs the hook after changes, one at a time; what changes meanwhile is one more run. */
export class HookRunner {
  readonly #hook: Hook;
  readonly #parts: HookParts;
  readonly #pending = new Set<Change>();
  #running = false;

  constructor(hook: Hook, parts: HookParts) {
    this.#hook = hook;
    this.#parts = parts;
  }

  /** Takes note of a change; returns at once. */
  changed(change: Change): void {
    if (this.#hook.type === 'none') return;
    this.#pending.add(change);
    if (!this.#running) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#running = true;
    const { notice, signal } = this.#parts;
    try {
      while (this.#pending.size > 0 && !signal.aborted) {
        const change: Change = this.#pending.has('certificate') ? 'certificate' : 'crl';
        this.#pending.clear();
        await this.#attempt(change);
        await sleep(this.#parts.minIntervalMs ?? minIntervalMs, undefined, { signal });
      }
    } catch (error) {
      if (!signal.aborted) notice(`the --on-change hook stopped: ${String(error)}`);
    } finally {
      this.#running = false;
    }
  }

  async #attempt(change: Change): Promise<void> {
    const { notice, signal } = this.#parts;
    for (let failures = 1; ; failures += 1) {
      const problem = await this.#run(change);
      if (problem === undefined || signal.aborted) return;
      const last = failures >= maxAttempts;
      notice(
        `the --on-change hook failed: ${problem}; ${last ? 'given up until the next change' : 'trying again'}`,
      );
      if (last) return;
      await sleep(pauseMs(failures, { baseMs: 1000, capMs: 10_000 }), undefined, { signal });
    }
  }

  /** Why it failed, or undefined. */
  async #run(change: Change): Promise<string | undefined> {
    const hook = this.#hook;
    if (hook.type === 'none') return undefined;
    if (hook.type === 'signal') return this.#send(hook.signal);
    return this.#runCommand(hook.command, change);
  }

  /** A handler comes a while after the start, and the first CRL may come before it. */
  #send(signal: NodeJS.Signals): string | undefined {
    const { workload } = this.#parts;
    if (!meantToEnd.includes(signal) && !workload.handles(signal))
      return `the command does not handle ${signal} yet`;
    return workload.kill(signal) ? undefined : `${signal} could not be sent`;
  }

  /** In a process group of its own, so that it can be ended with all that it started, whatever it ignores. */
  async #runCommand(command: string, change: Change): Promise<string | undefined> {
    const { dir, signal, commandTimeoutMs: limitMs = commandTimeoutMs } = this.#parts;
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    const { spawn } = process.getBuiltinModule('node:child_process');
    const child = spawn(command, {
      shell: true,
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, VOUCH_DIR: dir, VOUCH_CHANGE: change },
    });
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, by) =>
      resolve(code === 0 ? undefined : by === null ? `exit code ${code}` : `ended by ${by}`),
    );
    // A hook does not outlive the workload, nor its time.
    const over = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
    const end = (): void => killGroup(child.pid);
    over.addEventListener('abort', end);
    const problem = await promise;
    over.removeEventListener('abort', end);
    return problem !== undefined && over.aborted ? `it took longer than ${limitMs / 1000} s` : problem;
  }
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // All of it has ended.
  }
}
