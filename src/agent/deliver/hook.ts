import { constants } from 'node:os';
import { systemClock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import type { Backoff } from '../retry.ts';
import { runCommand } from './command.ts';
import { PacedTask } from './paced-task.ts';
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
export const minIntervalMs = 200;
/** How long one run of a command may take. */
export const commandTimeoutMs = 30_000;
/** Pauses between attempts. */
const hookBackoff: Backoff = { baseMs: 1000, capMs: 10_000 };

/** Whoever asks for these wants the command to end, with a handler or without. */
export const meantToEnd: readonly string[] = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGKILL'];

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
  readonly #task: PacedTask<Change>;

  constructor(hook: Hook, parts: HookParts) {
    this.#hook = hook;
    this.#parts = parts;
    this.#task = new PacedTask((changes) => this.#run(changes.has('certificate') ? 'certificate' : 'crl'), {
      name: 'the --on-change hook',
      maxAttempts,
      backoff: hookBackoff,
      restMs: () => parts.minIntervalMs ?? minIntervalMs,
      clock: systemClock,
      signal: parts.signal,
      notice: parts.notice,
    });
  }

  /** Takes note of a change; returns at once. */
  changed(change: Change): void {
    if (this.#hook.type !== 'none') this.#task.changed(change);
  }

  /** Why it failed, or undefined. */
  async #run(change: Change): Promise<string | undefined> {
    const hook = this.#hook;
    if (hook.type === 'none') return undefined;
    if (hook.type === 'signal') return this.#send(hook.signal);
    // A hook does not outlive the workload, nor its time.
    const { dir, signal, commandTimeoutMs: limitMs = commandTimeoutMs } = this.#parts;
    const env = { VOUCH_DIR: dir, VOUCH_CHANGE: change };
    return runCommand(hook.command, { env, limitMs, signal, output: 'inherit' });
  }

  /** A handler comes a while after the start, and the first CRL may come before it. */
  #send(signal: NodeJS.Signals): string | undefined {
    const { workload } = this.#parts;
    if (!meantToEnd.includes(signal) && !workload.handles(signal))
      return `the command does not handle ${signal} yet`;
    return workload.kill(signal) ? undefined : `${signal} could not be sent`;
  }
}
