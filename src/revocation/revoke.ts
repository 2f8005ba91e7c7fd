import { randomBytes } from 'node:crypto';
import { rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { Reason } from '../core/reasons.ts';
import type { Serial } from '../core/serial.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import { takeOverOperator } from '../core/take-over.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { entriesOf } from '../registration/entries.ts';
import { recordLeaf, revocationLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { CertificateRecord, CertificateStanding, RevocationRecord, StoreReader } from '../store/port.ts';
import type { CrlPublisher } from './publisher.ts';
import { shardOf } from '../core/publication.ts';

/** What an operator revokes by. `only` ends one certificate, not its lineage. */
export type RevocationTarget =
  | { by: 'serial'; serial: Serial; only: boolean }
  | { by: 'id'; spiffeId: SpiffeId }
  | { by: 'token'; tokenId: string }
  | { by: 'entry'; entryId: string };

/** The answer to `vouch revoke`. */
export interface RevocationResult {
  revoked: { serial: Serial; revokedAt: string; reason: Reason; logIndex: number }[];
  alreadyRevoked: Serial[];
  /**
   * Certificates revoked before, for another reason that their CRL entry keeps, whose keys are blocked from now on; also
   * one that was ended for another issuer to answer, which none will.
   */
  keysBlocked: Serial[];
  crlNumber: number | null;
  crlUrl: string | null;
  /** False: recorded and durable, but no CRL carries it yet; it will be published without further action. */
  published: boolean;
}

/** How long an operator waits for publication before the answer says `recorded, not published`. */
export const publishedWithinMs = 5_000;
/** A renewal that committed before we looked adds one round; more than this is a defect, not a race. */
const roundsMax = 16;
/** Records on their way into the log at once: one after another would each wait for a commit of its own. */
const recordsAtOnce = 512;

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

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Shows what a revocation would take, without doing it. */
  preview(target: RevocationTarget): CertificateRecord[] {
    return this.#live(target);
  }

  /**
   * Revokes idempotently. First what would issue again is stopped (token revoked, entries suspended), then every
   * unexpired certificate of the target, again until no renewal slipped in between. Throws `request-not-found`.
   */
  async revoke(target: RevocationTarget, reason: Reason, operator: string): Promise<RevocationResult> {
    const stopped = await this.#stopSource(target, operator);
    const barred = await this.#barSuccessors(target, operator);
    const records: RevocationRecord[] = [];
    let live = this.#live(target);
    for (let round = 0; live.length > 0; round += 1) {
      if (round === roundsMax)
        throw new VouchError('unavailable-overloaded', 'renewals keep slipping in; revoke again', {
          retryAfterSeconds: 1,
        });
      const revoked = await inParts(live, (one) => this.#revokeOne(one, reason, operator));
      records.push(...revoked.flat());
      live = this.#live(target);
    }
    const alreadyRevoked = this.#alreadyRevoked(target, records);
    if (records.length === 0 && alreadyRevoked.length === 0 && !stopped)
      throw new VouchError(
        'request-not-found',
        'nothing unexpired matches; `vouch cert list` shows what is live',
      );
    const blocked = reason === 'keyCompromise' ? await this.#blockCompromised(target, records, operator) : [];
    return { ...(await this.#answer(records, reason)), alreadyRevoked, keysBlocked: [...barred, ...blocked] };
  }

  #live(target: RevocationTarget): CertificateRecord[] {
    return this.#unexpired(target).filter(({ revoked }) => revoked === undefined);
  }

  #unexpired(target: RevocationTarget): CertificateStanding[] {
    const { store, clockGuard } = this.#parts;
    // A certificate counts through the whole of the second that its notAfter names.
    const nowMs = clockGuard.earliestTimeMs() - 999;
    if (target.by === 'id') return store.unexpiredCertificates({ spiffeId: target.spiffeId }, nowMs);
    if (target.by === 'token') return store.unexpiredCertificates({ tokenId: target.tokenId }, nowMs);
    if (target.by === 'entry') return store.unexpiredCertificates({ entryId: target.entryId }, nowMs);
    return this.#named(target.serial).flatMap((certificate) =>
      store
        .unexpiredCertificates({ lineage: certificate.lineage }, nowMs)
        .filter((one) => !target.only || one.serial === target.serial),
    );
  }

  #named(serial: Serial): ReturnType<StoreReader['certificatesBySerial']> {
    const found = this.#parts.store.certificatesBySerial(serial);
    if (found.length === 0)
      throw new VouchError(
        'request-not-found',
        `no certificate has the serial ${serial}; \`vouch cert list\` shows them`,
      );
    return found;
  }

  /** What of the target is not one of `records`: revoked before, or by a quicker operator. The named one also when expired. */
  #alreadyRevoked(target: RevocationTarget, records: readonly RevocationRecord[]): Serial[] {
    const named = target.by === 'serial' ? this.#named(target.serial) : [];
    const before = new Set(
      [...named, ...this.#unexpired(target)].filter(({ revoked }) => revoked).map(({ serial }) => serial),
    );
    for (const { serial } of records) before.delete(serial);
    return [...before];
  }

  /**
   * A revocation is final, its reason with it. That the key is known to others is true of certificates that were
   * revoked for a lesser reason as well, so their keys are blocked.
   */
  #blockCompromised(
    target: RevocationTarget,
    records: readonly RevocationRecord[],
    operator: string,
  ): Promise<Serial[]> {
    const done = new Set(records.map(({ serial }) => serial));
    const before = this.#candidates(target).filter(
      ({ serial, revoked }) => revoked && revoked.reason !== 'keyCompromise' && !done.has(serial),
    );
    return this.#blockKeys(before, operator);
  }

  /**
   * What was ended for another issuer to answer, and not answered yet, an operator cannot revoke once more: the key is
   * blocked, so that nobody answers it.
   */
  #barSuccessors(target: RevocationTarget, operator: string): Promise<Serial[]> {
    const { store } = this.#parts;
    const unanswered = this.#candidates(target).filter(
      ({ issuerKeyId, serial, revoked, tokenId, spkiSha256 }) =>
        revoked?.reason === takeOverReason &&
        store.revocation(issuerKeyId, serial)?.operator === takeOverOperator &&
        tokenId !== undefined &&
        store.certificateOfTokenUse(tokenId, spkiSha256)?.serial === serial,
    );
    return this.#blockKeys(unanswered, operator);
  }

  /** Revoked or not, and the named one also when expired. */
  #candidates(target: RevocationTarget): CertificateStanding[] {
    const named = target.by === 'serial' ? this.#named(target.serial) : [];
    return [...new Map([...named, ...this.#unexpired(target)].map((one) => [one.serial, one])).values()];
  }

  /** By whom says a leaf of its own. */
  async #blockKeys(certificates: readonly CertificateStanding[], operator: string): Promise<Serial[]> {
    const { sequencer, clockGuard } = this.#parts;
    const blocked = await inParts(certificates, async ({ issuerKeyId, serial, spkiSha256 }) => {
      const body = { verb: 'key-blocked', issuerKeyId, serial, operator };
      const leaf = recordLeaf('operator', clockGuard.revocationTimeMs(), body);
      const revoked = { issuerKeyId, serial };
      const leafIndex = await unlessDone(
        sequencer.record({ kind: 'key-blocked', leaf, revoked, spkiSha256 }),
      );
      return leafIndex === undefined ? [] : [serial];
    });
    return blocked.flat();
  }

  /** True where something that could issue was there to be stopped. */
  async #stopSource(target: RevocationTarget, operator: string): Promise<boolean> {
    const { store } = this.#parts;
    if (target.by === 'token') {
      const token = store.token(target.tokenId);
      if (!token)
        throw new VouchError(
          'request-not-found',
          `no join token ${target.tokenId}; \`vouch token list\` shows them`,
        );
      await this.revokeToken(target.tokenId, operator);
      return true;
    }
    if (target.by === 'serial') return false;
    const entries =
      target.by === 'id'
        ? entriesOf(store, target.spiffeId)
        : [store.entry(target.entryId)].filter((entry) => entry !== undefined);
    const active = entries.filter((entry) => entry.suspendedAtMs === undefined);
    await inParts(active, ({ entryId }) => this.#suspend(entryId, operator));
    return entries.length > 0;
  }

  /** Ends a join token without touching what it issued. Idempotent. */
  async revokeToken(tokenId: string, operator: string): Promise<void> {
    const { store, sequencer, clockGuard } = this.#parts;
    const token = store.token(tokenId);
    if (!token)
      throw new VouchError('request-not-found', `no join token ${tokenId}; \`vouch token list\` shows them`);
    if (token.revokedAtMs !== undefined) return;
    const atMs = clockGuard.revocationTimeMs();
    const leaf = recordLeaf('token', atMs, { event: 'revoked', tokenId, operator });
    await unlessDone(sequencer.record({ kind: 'token-revoked', tokenId, atMs, leaf }));
  }

  /** Ends a certificate that was never signed, so that another issuer can answer for it. Idempotent. */
  async endUnsigned(certificate: CertificateRecord): Promise<void> {
    await this.#revokeOne(certificate, takeOverReason, takeOverOperator);
  }

  async #suspend(entryId: string, operator: string): Promise<void> {
    const atMs = this.#parts.clockGuard.revocationTimeMs();
    const leaf = recordLeaf('entry', atMs, { event: 'suspended', entryId, operator });
    await unlessDone(this.#parts.sequencer.record({ kind: 'entry-suspended', entryId, atMs, leaf }));
  }

  async #revokeOne(
    certificate: CertificateRecord,
    reason: Reason,
    operator: string,
  ): Promise<RevocationRecord[]> {
    const { sequencer, publisher, clockGuard, shardCount } = this.#parts;
    const { issuerKeyId, serial, notAfterMs } = certificate;
    const revokedAtMs = clockGuard.revocationTimeMs();
    const shard = shardOf(serial, shardCount);
    const salt = randomBytes(16);
    const revocation = { issuerKeyId, serial, shard, revokedAtMs, reason, operator, salt, notAfterMs };
    const leaf = revocationLeaf(revokedAtMs, issuerKeyId, revocation);
    const blockKeySha256 = reason === 'keyCompromise' ? certificate.spkiSha256 : undefined;
    const leafIndex = await unlessDone(
      sequencer.record({ kind: 'revocation', leaf, revocation, blockKeySha256 }),
    );
    if (leafIndex === undefined) return [];
    // What is live follows nothing but a release: it takes no date over.
    const alone = { crlDateSeconds: undefined, followedBy: undefined, mayLeave: false };
    const record = { ...revocation, ...alone, leafIndex, invalidityDateSeconds: undefined };
    publisher.add(record);
    return [record];
  }

  async #answer(
    records: readonly RevocationRecord[],
    reason: Reason,
  ): Promise<Omit<RevocationResult, 'alreadyRevoked' | 'keysBlocked'>> {
    // Recorded before is not yet published: a crash may lie in between. Then everything recorded is waited for.
    const crl = await this.#parts.publisher.published(records, publishedWithinMs);
    return {
      revoked: records.map((record) => ({
        serial: record.serial,
        revokedAt: rfc3339(record.revokedAtMs),
        reason,
        logIndex: record.leafIndex,
      })),
      crlNumber: crl ? Number(crl.crlNumber) : null,
      crlUrl: crl?.url ?? null,
      published: crl !== undefined,
    };
  }
}

/** Undefined where another operator was quicker: what was asked for is done. */
export async function unlessDone(recording: Promise<number>): Promise<number | undefined> {
  try {
    return await recording;
  } catch (error) {
    if (error instanceof VouchError && error.code === 'policy-conflict') return undefined;
    throw error;
  }
}

async function inParts<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += recordsAtOnce)
    results.push(...(await Promise.all(items.slice(from, from + recordsAtOnce).map(work))));
  return results;
}
