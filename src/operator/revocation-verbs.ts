import { parseRfc3339, rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { parseOperatorReason, type Reason } from '../core/reasons.ts';
import { parseSerial } from '../core/serial.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { blastRadius } from '../revocation/blast-radius.ts';
import type { MassRevocations } from '../revocation/mass.ts';
import type { Revocation } from '../revocation/revoke.ts';
import type { RevocationResult } from '../revocation/tally.ts';
import type { Interval, RevocationTarget } from '../revocation/targets.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { RevocationTargetJson } from '../wire/admin.ts';
import { blastRadiusView, massView, releaseView } from './revocation-views.ts';

/** How long a request waits for a mass revocation; then it says how far that is. */
const progressEveryMs = 1_000;

const release = 'removeFromCRL';

interface Parts {
  revocation: Revocation;
  massRevocations: MassRevocations;
  clockGuard: ClockGuard;
  metrics: Metrics;
}

/**
 * `vouch revoke` and `vouch release`. By serial the answer comes when it is done; by anything else a mass revocation
 * is begun, and the answer is its result or how far it is.
 */
export class RevocationVerbs {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** What it would take, for this reason; `removeFromCRL`: what would be released. */
  async preview(target: RevocationTargetJson, reasonText: string) {
    const reason = reasonText === release ? release : parseOperatorReason(reasonText);
    const { revocation, clockGuard } = this.#parts;
    const radius = await blastRadius(revocation.targets, this.#targetOf(target), reason);
    return blastRadiusView(radius, clockGuard.steadyTimeMs());
  }

  async revoke(
    request: { target: RevocationTargetJson; reason: string; invalidityDate?: string | undefined },
    operator: string,
  ): Promise<object> {
    const reason = parseOperatorReason(request.reason);
    const target = this.#targetOf(request.target);
    const invalidityDateSeconds = this.#invalidityDate(request.invalidityDate, target);
    if (target.by !== 'serial') return this.#begin(target, { reason, invalidityDateSeconds, operator });
    const started = performance.now();
    const result = await this.#parts.revocation.revoke(target, reason, operator, invalidityDateSeconds);
    this.#count(reason, result, started);
    return result;
  }

  /** Lets what is on hold count again. Throws `policy-conflict` where the one that is named is not on hold. */
  async release(target: RevocationTargetJson, operator: string): Promise<object> {
    const parsed = this.#targetOf(target);
    if (parsed.by !== 'serial') return this.#begin(parsed, { reason: release, operator });
    const { revocation } = this.#parts;
    const named = revocation.targets.named(parsed.serial);
    const isHeld = named.some(({ revoked }) => revoked?.reason === 'certificateHold');
    if (!isHeld)
      throw new VouchError(
        'policy-conflict',
        named[0]?.revoked
          ? `${parsed.serial} is revoked for ${named[0].revoked.reason}, which is final: only a hold is released`
          : `${parsed.serial} is not on hold`,
      );
    return releaseView(await revocation.revoke(parsed, release, operator));
  }

  /** A mass revocation by its leaf. */
  async progress(leaf: string): Promise<object> {
    if (!/^\d{1,15}$/.test(leaf))
      throw new VouchError('request-malformed', 'a mass revocation is named by its leaf');
    return massView(await this.#parts.massRevocations.progress(Number(leaf), progressEveryMs));
  }

  async #begin(
    target: RevocationTarget,
    order: { reason: Reason; operator: string; invalidityDateSeconds?: number | undefined },
  ): Promise<object> {
    const { massRevocations } = this.#parts;
    const started = performance.now();
    const progress = await massRevocations.progress(
      await massRevocations.begin(target, order),
      progressEveryMs,
    );
    if (progress.result) this.#count(order.reason, progress.result, started);
    return massView(progress);
  }

  #count(reason: Reason, result: RevocationResult, started: number): void {
    const { revocations, revokeToPublished } = this.#parts.metrics;
    revocations.inc({ reason }, result.revokedCount);
    if (result.published) revokeToPublished.observe((performance.now() - started) / 1000);
  }

  #targetOf(target: RevocationTargetJson): RevocationTarget {
    if ('serial' in target)
      return { by: 'serial', serial: parseSerial(target.serial), only: target.only ?? false };
    const issued = target.issuedBetween === undefined ? {} : { issued: this.#interval(target.issuedBetween) };
    if ('id' in target) return { by: 'id', spiffeId: parseSpiffeId(target.id), ...issued };
    if ('token' in target) return { by: 'token', tokenId: target.token, ...issued };
    if ('entry' in target) return { by: 'entry', entryId: target.entry, ...issued };
    if ('agent' in target) return { by: 'agent', agentId: parseSpiffeId(target.agent), ...issued };
    if ('node' in target) return { by: 'node', node: target.node, ...issued };
    if ('operator' in target) return { by: 'operator', operator: target.operator, ...issued };
    return { by: 'issued', issued: this.#interval(target.issuedBetween) };
  }

  /** What is yet to be issued cannot be taken: it would go on for ever, or take what nobody meant. */
  #interval(text: string): Interval {
    const [from, to, ...more] = text.split('..');
    const nowMs = this.#parts.clockGuard.revocationTimeMs();
    if (from === undefined || to === undefined || more.length > 0)
      throw new VouchError(
        'request-malformed',
        'an interval is written as FROM..TO, or FROM.. for until now',
      );
    const fromMs = parseRfc3339(from);
    // A second is meant whole.
    const toMs = to === '' ? nowMs : parseRfc3339(to) + (to.includes('.') ? 0 : 999);
    if (fromMs > toMs) throw new VouchError('request-malformed', `${from} is after ${to || 'now'}`);
    if (toMs > nowMs + 999)
      throw new VouchError('request-malformed', `${to} is yet to come; ${from}.. means until now`);
    return { fromMs, toMs };
  }

  #invalidityDate(text: string | undefined, target: RevocationTarget): number | undefined {
    if (text === undefined) return undefined;
    const ms = parseRfc3339(text);
    if (ms > this.#parts.clockGuard.revocationTimeMs())
      throw new VouchError('request-malformed', `the invalidity date ${text} is yet to come`);
    const named = target.by === 'serial' ? this.#parts.revocation.targets.named(target.serial) : [];
    for (const { notBeforeMs } of named)
      if (ms < notBeforeMs)
        throw new VouchError(
          'request-malformed',
          `the invalidity date ${text} is before the certificate was valid, ${rfc3339(notBeforeMs)}`,
        );
    return Math.floor(ms / 1000);
  }
}
