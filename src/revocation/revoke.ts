import { setImmediate as turn } from 'node:timers/promises';
import { VouchError } from '../core/errors.ts';
import { mayFollow, type Reason } from '../core/reasons.ts';
import { takeOverOperator } from '../core/take-over.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateRecord, CertificateStanding } from '../store/records.ts';
import { type Order, RevocationEvents } from './events.ts';
import type { CrlPublisher } from './publisher.ts';
import { type RevocationResult, Tally } from './tally.ts';
import { type RevocationTarget, type Source, Targets } from './targets.ts';

/** How long an operator waits for publication before the answer says `recorded, not published`. */
export const publishedWithinMs = 5_000;

/** Records on their way into the log at once: one after another would each wait for a commit of its own. */
const recordsAtOnce = 64;

/** What ends a certificate that was never signed. */
const takeOverReason = 'superseded';

interface Parts {
  store: StoreReader;
  sequencer: Sequencer;
  publisher: Pick<CrlPublisher, 'add' | 'published'>;
  clockGuard: ClockGuard;
  shardCount: number;
}

/** Recorded and durable first, then published, then answered. */
export class Revocation {
  readonly #parts: Parts;
  readonly #events: RevocationEvents;
  readonly targets: Targets;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#events = new RevocationEvents(parts);
    this.targets = new Targets(parts);
  }

  /** Revokes (or with `removeFromCRL` releases) in one go, idempotently. Throws `request-not-found`. */
  async revoke(
    target: RevocationTarget,
    reason: Reason,
    operator: string,
    invalidityDateSeconds?: number,
  ): Promise<RevocationResult> {
    await this.targets.require(target);
    const tally = new Tally();
    await this.carryOut(target, { reason, operator, invalidityDateSeconds }, tally);
    return this.answer(tally);
  }

  /**
   * First what would issue again is stopped (tokens revoked, entries suspended), then every unexpired certificate of the
   * target is ended, again until a round finds nothing: no renewal slipped in between. Cut short anywhere, it is
   * completed by doing it again. Throws `unavailable-stopping` once `signal` says so.
   */
  async carryOut(target: RevocationTarget, order: Order, tally: Tally, signal?: AbortSignal): Promise<void> {
    for (let found = 1; found > 0; ) {
      found = order.reason === 'removeFromCRL' ? 0 : await this.#stopSources(target, order.operator);
      for (const page of this.targets.pages(target)) {
        if (signal?.aborted) throw new VouchError('unavailable-stopping', 'the server is stopping');
        found += await this.#end(page, order, tally);
        await turn();
      }
    }
    if (target.by === 'serial') await this.#expired(target, order, tally);
  }

  /** Waits until all of it is published, not for ever. */
  async answer(tally: Tally): Promise<RevocationResult> {
    // Recorded before is not yet published: a crash may lie in between. Then everything recorded is waited for.
    const crl = await this.#parts.publisher.published(tally.newest(), publishedWithinMs);
    return {
      ...tally.counts(),
      crlNumber: crl ? Number(crl.crlNumber) : null,
      crlUrl: crl?.url ?? null,
      published: crl !== undefined,
    };
  }

  /** Ends a join token without touching what it issued. Idempotent. Throws `request-not-found`. */
  async revokeToken(tokenId: string, operator: string): Promise<void> {
    this.targets.requireToken(tokenId);
    await this.#events.revokeToken(tokenId, operator);
  }

  /** Ends a certificate that was never signed, so that another issuer can answer for it. Idempotent. */
  async endUnsigned(certificate: CertificateRecord): Promise<void> {
    await this.#events.record(certificate, { reason: takeOverReason, operator: takeOverOperator });
  }

  /** How many were there to be stopped. */
  async #stopSources(target: RevocationTarget, operator: string): Promise<number> {
    let stopped = 0;
    for (const sources of this.targets.sources(target)) {
      for (let from = 0; from < sources.length; from += recordsAtOnce) {
        const part = sources.slice(from, from + recordsAtOnce);
        const done = await Promise.all(part.map((source) => this.#stop(source, operator)));
        stopped += done.filter(Boolean).length;
      }
      await turn();
    }
    return stopped;
  }

  #stop(source: Source, operator: string): Promise<boolean> {
    if ('tokenId' in source) return this.#events.revokeToken(source.tokenId, operator);
    return this.#events.suspend(source.entryId, operator);
  }

  /** How many of a page got an event. */
  async #end(page: readonly CertificateStanding[], order: Order, tally: Tally): Promise<number> {
    const { reason, operator } = order;
    if (reason !== 'removeFromCRL')
      tally.keyBlocked(
        await this.#events.blockKeys(
          page.filter((one) => this.#isUnanswered(one)),
          operator,
        ),
      );
    let count = await this.#record(page, order, tally);
    // Asked of each, so that a crash between one and the other of a key leaves nothing out.
    if (reason === 'keyCompromise')
      for (const key of new Set(page.map(({ spkiSha256 }) => spkiSha256)))
        count += await this.#record(this.targets.ofKey(key), order, tally);
    return count;
  }

  async #record(certificates: readonly CertificateStanding[], order: Order, tally: Tally): Promise<number> {
    const events = await Promise.all(
      certificates.map(async (one) => {
        const event = mayFollow(one.revoked?.reason, order.reason)
          ? await this.#events.record(one, order)
          : undefined;
        if (event) tally.record(event);
        else if (!this.#isOwn(one, order, tally)) tally.already(one.serial);
        return event;
      }),
    );
    return events.filter((event) => event !== undefined).length;
  }

  /** Of many, not each is remembered: what ended since it began was ended by it. */
  #isOwn({ issuerKeyId, serial }: CertificateStanding, { massRevocation }: Order, tally: Tally): boolean {
    if (tally.has(serial)) return true;
    const last = this.#parts.store.revocation(issuerKeyId, serial)?.leafIndex ?? -1;
    return massRevocation !== undefined && last > massRevocation.leafIndex;
  }

  /** The one that was named is told of when it has expired, too; and if its key is known to others, that is blocked. */
  async #expired(
    { serial }: Extract<RevocationTarget, { by: 'serial' }>,
    { reason, operator }: Order,
    tally: Tally,
  ): Promise<void> {
    const ended = this.targets.named(serial).filter((one) => one.revoked && this.targets.isExpired(one));
    for (const one of ended) tally.already(one.serial);
    if (reason !== 'keyCompromise') return;
    const lesser = ended.filter(({ revoked }) => revoked?.reason !== 'keyCompromise');
    tally.keyBlocked(await this.#events.blockKeys(lesser, operator));
  }

  /**
   * What was ended for another issuer to answer, and not answered yet: its key is blocked, so that nobody answers it
   * after an operator said that it ends.
   */
  #isUnanswered({ issuerKeyId, serial, revoked, tokenId, spkiSha256 }: CertificateStanding): boolean {
    const { store } = this.#parts;
    return (
      revoked?.reason === takeOverReason &&
      store.revocation(issuerKeyId, serial)?.operator === takeOverOperator &&
      tokenId !== undefined &&
      store.certificateOfTokenUse(tokenId, spkiSha256)?.serial === serial
    );
  }
}
