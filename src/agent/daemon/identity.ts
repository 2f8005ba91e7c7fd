import { VouchError } from '../../core/errors.ts';
import { anotherFileUntil, versionOf } from '../another-file.ts';
import { repairBundle } from '../bundle-keeper.ts';
import { heldAtBoot, type IdentityOptions, identityAtBoot } from '../boot.ts';
import type { Held } from '../held.ts';
import { momentOf } from '../moment.ts';
import type { AgentParts } from '../obtain.ts';
import { isTransient, pauseMs } from '../retry.ts';
import type { Sleep } from '../sleep.ts';

/** Pauses while the server is away. */
const awayBackoff = { baseMs: 250, capMs: 10_000 };
/** A refusal does not pass by itself: it is asked about at this pace, or at once with another join file. */
const refusedPauseMs = 60_000;

/**
 * The identity that the agent starts with: what it holds where that can be used as it is, else what `identityAtBoot` gets.
 * Goes on trying where the server is away or the join token is spent, and says why once. Throws what the operator has to
 * set right before anything can go on (`config-…`), and when the signal aborts. `failed` is told of each attempt that is
 * followed by another.
 */
export async function ownIdentity(
  options: IdentityOptions,
  parts: AgentParts & { sleep: Sleep; failed: (error: VouchError) => void },
): Promise<Held> {
  const { clock, notice, signal, sleep } = parts;
  const held = heldAtBoot(options, parts);
  if (held !== undefined) {
    await repairBundle(held, parts);
    return held;
  }
  let said = '';
  let hasWaited = false;
  for (let failures = 1; ; failures += 1) {
    const joinFile = { path: options.joinFile, version: versionOf(options.joinFile) };
    try {
      return await identityAtBoot({ ...options, timeoutMs: 0 }, parts);
    } catch (error) {
      if (signal.aborted || !(error instanceof VouchError)) throw error;
      // Another file may be half written.
      if (!hasWaited && isForOperator(error)) throw error;
      // It does not give up after one attempt, as its cause is told to.
      const { detail } = isTransient(error) && error.cause instanceof VouchError ? error.cause : error;
      if (detail !== said) notice(`no identity yet: ${detail}`);
      said = detail;
      parts.failed(error);
      if (isTransient(error)) await sleep(pauseMs(failures, awayBackoff, error.retryAfterSeconds), signal);
      else {
        hasWaited = true;
        const due = momentOf(refusedPauseMs * (0.5 + Math.random()), clock);
        if (await anotherFileUntil(() => due, joinFile, parts)) said = '';
      }
    }
    signal.throwIfAborted();
  }
}

/** A spent token is `config-state`, too, but only another join file is missing: its cause is the server's refusal. */
function isForOperator({ code, cause }: VouchError): boolean {
  return code.startsWith('config-') && !(cause instanceof VouchError);
}
