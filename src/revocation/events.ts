import { randomBytes } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import { shardOf } from '../core/publication.ts';
import type { Reason } from '../core/reasons.ts';
import type { Serial } from '../core/serial.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { recordLeaf, revocationLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateRecord, MassRevocationRecord, RevocationRecord } from '../store/records.ts';
import type { CrlPublisher } from './publisher.ts';

/** What an operator has done to certificates. */
export interface Order {
  /** `removeFromCRL`: holds are released. */
  reason: Reason;
  operator: string;
  /** Since when their keys may have been in other hands. */
  invalidityDateSeconds?: number | undefined;
  /** What it belongs to. */
  massRevocation?: Pick<MassRevocationRecord, 'leafIndex'> | undefined;
}

/** Records what ends something or ends a hold, each durable when it resolves; what was done before is no failure. */
export class RevocationEvents {
  readonly #store: StoreReader;
  readonly #sequencer: Sequencer;
  readonly #publisher: Pick<CrlPublisher, 'add'>;
  readonly #clockGuard: ClockGuard;
  readonly #shardCount: number;

  constructor(parts: {
    store: StoreReader;
    sequencer: Sequencer;
    publisher: Pick<CrlPublisher, 'add'>;
    clockGuard: ClockGuard;
    shardCount: number;
  }) {
    this.#store = parts.store;
    this.#sequencer = parts.sequencer;
    this.#publisher = parts.publisher;
    this.#clockGuard = parts.clockGuard;
    this.#shardCount = parts.shardCount;
  }

  /** The event, on its way to the CRLs; undefined where it may not follow what stands (`mayFollow`). */
  async record(certificate: CertificateRecord, order: Order): Promise<RevocationRecord | undefined> {
    const { issuerKeyId, serial, notAfterMs, spkiSha256 } = certificate;
    const { reason, operator } = order;
    const massRevocation = order.massRevocation?.leafIndex;
    const revokedAtMs = this.#clockGuard.revocationTimeMs();
    const revocation = {
      ...{ issuerKeyId, serial, revokedAtMs, reason, operator, notAfterMs },
      shard: shardOf(serial, this.#shardCount),
      salt: randomBytes(16),
      invalidityDateSeconds: this.#invalidityDate(certificate, order),
    };
    const leaf = revocationLeaf(revokedAtMs, issuerKeyId, revocation);
    const blockKeySha256 = reason === 'keyCompromise' ? spkiSha256 : undefined;
    const leafIndex = await unlessDone(
      this.#sequencer.record({ kind: 'revocation', leaf, revocation, blockKeySha256, massRevocation }),
    );
    if (leafIndex === undefined) return undefined;
    // With what it took over from the one before.
    const record = this.#store
      .revocationEvents(issuerKeyId, serial)
      .find((one) => one.leafIndex === leafIndex);
    if (record) this.#publisher.add(record);
    return record;
  }

  /** False where it was suspended or deleted. */
  async suspend(entryId: string, operator: string): Promise<boolean> {
    const entry = this.#store.entry(entryId);
    if (entry === undefined || entry.suspendedAtMs !== undefined) return false;
    const atMs = this.#clockGuard.revocationTimeMs();
    const leaf = recordLeaf('entry', atMs, { event: 'suspended', entryId, operator });
    return isDone(this.#sequencer.record({ kind: 'entry-suspended', entryId, atMs, leaf }));
  }

  /** False where it was revoked. Throws `request-not-found`. */
  async revokeToken(tokenId: string, operator: string): Promise<boolean> {
    if (this.#store.token(tokenId)?.revokedAtMs !== undefined) return false;
    const atMs = this.#clockGuard.revocationTimeMs();
    const leaf = recordLeaf('token', atMs, { event: 'revoked', tokenId, operator });
    return isDone(this.#sequencer.record({ kind: 'token-revoked', tokenId, atMs, leaf }));
  }

  /** Blocks keys of certificates that are revoked already. By whom says a leaf of its own. Serials of those not blocked before. */
  async blockKeys(certificates: readonly CertificateRecord[], operator: string): Promise<Serial[]> {
    const blocked = await Promise.all(
      certificates.map(async ({ issuerKeyId, serial, spkiSha256 }) => {
        const body = { verb: 'key-blocked', issuerKeyId, serial, operator };
        const leaf = recordLeaf('operator', this.#clockGuard.revocationTimeMs(), body);
        const revoked = { issuerKeyId, serial };
        return (await isDone(this.#sequencer.record({ kind: 'key-blocked', leaf, revoked, spkiSha256 })))
          ? [serial]
          : [];
      }),
    );
    return blocked.flat();
  }

  /** Never before the certificate was valid; where none is said, the one that stands stays. */
  #invalidityDate({ issuerKeyId, serial, notBeforeMs }: CertificateRecord, order: Order): number | undefined {
    if (order.reason === 'removeFromCRL') return undefined;
    const standing = this.#store.revocation(issuerKeyId, serial);
    const said = order.invalidityDateSeconds;
    if (said !== undefined) return Math.max(said, Math.ceil(notBeforeMs / 1000));
    return standing?.reason === 'removeFromCRL' ? undefined : standing?.invalidityDateSeconds;
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

async function isDone(recording: Promise<number>): Promise<boolean> {
  return (await unlessDone(recording)) !== undefined;
}
