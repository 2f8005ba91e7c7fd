import type { KeyObject } from 'node:crypto';
import { ocspSpiffeId, type TrustDomain } from '../core/spiffe-id.ts';
import type { Issuance } from '../issuance/issue.ts';
import { type Issuer, signedBy } from '../issuance/issuer.ts';
import { defaultProfile } from '../issuance/profile.ts';
import type { OcspKey, OcspSigner } from '../signer/port.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';
import { assembleSigned } from '../x509/certificate-tbs.ts';
import { importPublicKey } from '../x509/public-key.ts';

/** What answers for an issuer. */
export interface Responder {
  key: OcspKey;
  publicKey: KeyObject;
  /** Its certificate, which every answer carries. */
  certificateDer: Buffer;
  notAfterMs: number;
}

/** A day: nobody asks whether a responder's certificate is revoked (RFC 6960 §4.2.2.2.1), so it ends by itself. */
const lifetimeSeconds = 24 * 3600;
/** More than are issued between two that count: for each issuer, one each half a day. */
const lookedAt = 64;

interface Parts {
  issuance: Issuance;
  store: StoreReader;
  signer: OcspSigner;
  trustDomain: TrustDomain;
  issuers: readonly Issuer[];
  /** Unix milliseconds to go by, also while the clock is in doubt (I12). */
  timeMs: () => number;
}

/**
 * The certificates of the keys that answer OCSP, one for each issuer: issued by it through the log like any other, found
 * again in the store, renewed at half of their life.
 */
export class OcspResponders {
  readonly #parts: Parts;
  /** By the issuer's key id; with what decides when the next one is due. */
  readonly #now = new Map<string, { responder: Responder; record: Validity }>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** What answers for this issuer now; undefined where there is nothing, or nothing that counts. */
  current(issuerKeyId: string): Responder | undefined {
    const responder = this.#now.get(issuerKeyId)?.responder;
    return responder && responder.notAfterMs > this.#parts.timeMs() ? responder : undefined;
  }

  /** Issuers whose token has no key that answers, though its signer is there. */
  withoutKey(isUsable: (issuerKeyId: string) => boolean): string[] {
    const ids = this.#parts.issuers.map(({ keyId }) => keyId);
    return ids.filter((keyId) => isUsable(keyId) && !this.#parts.signer.ocspKey(keyId));
  }

  /** Sees to it that each issuer whose token has a key for it has a responder. Rejects where one cannot be issued now. */
  async renewWhenDue(): Promise<void> {
    for (const issuer of this.#parts.issuers) {
      const key = this.#parts.signer.ocspKey(issuer.keyId);
      if (key) await this.#renew(issuer, key);
    }
  }

  async #renew(issuer: Issuer, key: OcspKey): Promise<void> {
    const known = this.#now.get(issuer.keyId);
    if (known && known.responder.key.publicKeySpki.equals(key.publicKeySpki) && !this.#isDue(known.record))
      return;
    const publicKey = importPublicKey(key.publicKeySpki);
    const made = (certificateDer: Buffer, record: Validity): void => {
      const responder = { key, publicKey: publicKey.key, certificateDer, notAfterMs: record.notAfterMs };
      this.#now.set(issuer.keyId, { responder, record });
    };
    const stored = this.#stored(issuer, publicKey.sha256);
    if (stored?.signature)
      return made(assembleSigned(stored.tbs, issuer.algorithm, stored.signature), stored);
    const issued = await this.#parts.issuance.issue({
      names: { spiffeId: ocspSpiffeId(this.#parts.trustDomain), dnsNames: [], ipAddresses: [] },
      publicKey,
      profile: { ...defaultProfile, name: 'ocsp-responder', lifetimeSeconds },
      lifetimeSeconds,
      issuer,
      entry: undefined,
      tokenId: undefined,
      predecessor: undefined,
      decision: { kind: 'ocsp-certificate' },
    });
    made(issued.der, issued.record);
  }

  /** The newest one for this key that is not due. */
  #stored(issuer: Issuer, spkiSha256: string): CertificateStanding | undefined {
    const { store, trustDomain } = this.#parts;
    return store
      .certificates({ spiffeId: ocspSpiffeId(trustDomain), limit: lookedAt })
      .find(
        (one) =>
          one.issuerKeyId === issuer.keyId &&
          one.spkiSha256 === spkiSha256 &&
          one.signature !== undefined &&
          signedBy(issuer, one.tbs, one.signature) &&
          !this.#isDue(one),
      );
  }

  /** Also one that begins later, and one that an operator ended. */
  #isDue({ issuerKeyId, serial, notBeforeMs, notAfterMs }: Validity): boolean {
    const nowMs = this.#parts.timeMs();
    const isRevoked = this.#parts.store.certificate(issuerKeyId, serial)?.revoked !== undefined;
    return nowMs > (notBeforeMs + notAfterMs) / 2 || nowMs < notBeforeMs || isRevoked;
  }
}

type Validity = Pick<CertificateStanding, 'issuerKeyId' | 'serial' | 'notBeforeMs' | 'notAfterMs'>;
