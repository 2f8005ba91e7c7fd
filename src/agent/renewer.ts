import { type Clock, rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { anotherFileUntil, versionOf } from './another-file.ts';
import { type Held, hasExpired, renewalDueMs } from './held.ts';
import { momentOf, sleepUntil } from './moment.ts';
import { backgroundBackoff, isTransient, pauseMs } from './retry.ts';
import { type Sleep, systemSleep } from './sleep.ts';

/** Who is ordered to renew does so within this time: a fleet does not come in step. */
const orderedWithinMs = 20_000;
/** Refusals do not pass by themselves: they are asked about again at this pace, or at once with another join file. */
const refusedPauseMs = 60_000;

/** What a renewer works with. */
export interface RenewerParts {
  clock: Clock;
  signal: AbortSignal;
  /** Its path. */
  joinFile: string;
  notice: (line: string) => void;
  /** One attempt to renew, or to enroll again where a new join file is there; resolves to what is held then. */
  attempt: () => Promise<Held>;
  renewed: (held: Held) => void;
  revoked: (detail: string) => void;
  /** The attempt failed; there will be another. */
  failed?: (error: unknown) => void;
  /** Hands over what to call when somebody orders a renewal. */
  ordered?: (order: () => void) => void;
  sleep?: Sleep;
  /** When to renew, by the wall clock; default `renewalDueMs`. */
  dueMs?: (held: Held) => number;
}

/**
 * Renews at half life, for as long as the signal lets it. A server that is away is asked again with full jitter; what is
 * held stays. Never rejects.
 */
export async function keepRenewed(first: Held, parts: RenewerParts): Promise<void> {
  const { clock, signal, joinFile, notice, sleep = systemSleep, dueMs = renewalDueMs } = parts;
  let held = first;
  let due = momentOf(dueMs(held) - clock.now(), clock);
  let failures = 0;
  let said = '';
  let saidExpired = false;
  /** The join file with which we were refused. */
  let refused: { path: string; version: string } | undefined;
  parts.ordered?.(() => {
    const soon = momentOf(Math.random() * orderedWithinMs, clock);
    if (soon.wallMs < due.wallMs) due = soon;
  });
  while (!signal.aborted) {
    if (refused === undefined) await sleepUntil(() => due, { clock, signal, sleep });
    else if (await anotherFileUntil(() => due, refused, { clock, signal, sleep })) said = '';
    if (signal.aborted) return;
    const asked = { path: joinFile, version: versionOf(joinFile) };
    try {
      held = await parts.attempt();
      if (failures > 0) notice('renewed: the server is back');
      failures = 0;
      refused = undefined;
      said = '';
      saidExpired = false;
      due = momentOf(dueMs(held) - clock.now(), clock);
      parts.renewed(held);
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      const detail = error instanceof Error ? error.message : String(error);
      if (detail !== said)
        notice(
          `cannot renew: ${detail}; what is held is valid until ${rfc3339(held.delivered.leaf.notAfterMs)}`,
        );
      said = detail;
      parts.failed?.(error);
      if (error instanceof VouchError && error.code === 'denied-revoked') parts.revoked(detail);
      refused = isTransient(error) ? undefined : asked;
      const after = isTransient(error)
        ? pauseMs(failures, backgroundBackoff, error.retryAfterSeconds)
        : refusedPauseMs * (0.5 + Math.random());
      due = momentOf(after, clock);
    }
    if (!saidExpired && hasExpired(held, clock.now())) {
      saidExpired = true;
      notice(
        'the certificate has expired: peers refuse it. A new join file in place of the old one is picked up',
      );
    }
  }
}
