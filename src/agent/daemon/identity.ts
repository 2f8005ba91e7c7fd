import { statSync } from 'node:fs';
import { VouchError } from '../../core/errors.ts';
import { heldAtBoot, type IdentityOptions, identityAtBoot } from '../boot.ts';
import type { Held } from '../held.ts';
import type { AgentParts } from '../obtain.ts';
import { isTransient, pauseMs } from '../retry.ts';
import type { Sleep } from '../sleep.ts';

/** Pauses while the server is away. */
const awayBackoff = { baseMs: 250, capMs: 10_000 };
/** A refusal does not pass by itself: it is asked about at this pace, or at once with another join file. */
const refusedPauseMs = 60_000;
/** How often a join file is looked at. */
const lookMs = 1000;

/**
 * The identity that the agent starts with: what it holds where that can be used as it is, else what `identityAtBoot` gets.
 * Goes on trying where the server is away or the join token is spent, and says why once. Throws what the operator has to
 * set right before anything can go on (`config-…`), and when the signal aborts.
 */
export async function ownIdentity(
  options: IdentityOptions,
  parts: AgentParts & { sleep: Sleep },
): Promise<Held> {
  const { notice, signal, sleep } = parts;
  const held = heldAtBoot(options, parts);
  if (held !== undefined) return held;
  let said = '';
  for (let failures = 1; ; failures += 1) {
    try {
      return await identityAtBoot({ ...options, timeoutMs: 0 }, parts);
    } catch (error) {
      if (signal.aborted || !(error instanceof VouchError) || isForOperator(error)) throw error;
      if (error.detail !== said) notice(`no identity yet: ${error.detail}`);
      said = error.detail;
      if (isTransient(error)) await sleep(pauseMs(failures, awayBackoff, error.retryAfterSeconds), signal);
      else await untilAnotherFile(options.joinFile, parts);
    }
    signal.throwIfAborted();
  }
}

/** A spent token is `config-state`, too, but only another join file is missing: its cause is the server's refusal. */
function isForOperator({ code, cause }: VouchError): boolean {
  return code.startsWith('config-') && !(cause instanceof VouchError);
}

async function untilAnotherFile(
  path: string,
  { sleep, signal, clock }: AgentParts & { sleep: Sleep },
): Promise<void> {
  const before = versionOf(path);
  const untilMs = clock.monotonicMs() + refusedPauseMs * (0.5 + Math.random());
  while (!signal.aborted && clock.monotonicMs() < untilMs && versionOf(path) === before)
    await sleep(lookMs, signal);
}

function versionOf(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? '' : `${found.ino} ${found.mtimeMs} ${found.size}`;
}
