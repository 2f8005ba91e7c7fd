import { randomBytes } from 'node:crypto';
import { canonicalJson, type Json } from '../core/canonical-json.ts';
import { VouchError } from '../core/errors.ts';
import { decisionContext, encodeLeaf } from '../log/leaf.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import { type InclusionProof, leafDraft, type Submission } from '../sequencer/submission.ts';
import type { CertificateRecord } from '../store/port.ts';
import { assembleSigned } from '../x509/certificate-tbs.ts';
import { parseCertificate } from '../x509/certificate.ts';
import type { PublicKeyInfo } from '../x509/public-key.ts';
import type { ClockGuard } from './clock-guard.ts';
import { type Issuer, signedBy } from './issuer.ts';
import { type CertificateNames, type IssuanceSettings, prepareCertificate } from './prepare.ts';
import { type Profile, profileSha256 } from './profile.ts';

/** One certificate that policy has allowed. */
export interface IssueRequest {
  names: CertificateNames;
  publicKey: PublicKeyInfo;
  profile: Profile;
  lifetimeSeconds: number | undefined;
  /** The entry that gave the names, with the version that was read; undefined for the server's own certificate. */
  entry: { entryId: string; version: number } | undefined;
  /** The join token whose use is burnt with the serial (I6). */
  tokenId: string | undefined;
  predecessor: Pick<CertificateRecord, 'serial' | 'lineage' | 'tokenId'> | undefined;
  /** Why it is allowed; its salted hash stands in the leaf. */
  decision: { readonly [key: string]: Json };
}

/** A signed certificate with what an agent needs to believe it. */
export interface IssuedCertificate {
  der: Buffer;
  record: Omit<CertificateRecord, 'signature'>;
  timeMs: number;
  context: Buffer;
  proof: InclusionProof;
}

/** prepare → log → sign → verify, for every certificate there is. */
export class Issuance {
  readonly #parts: {
    sequencer: Sequencer;
    clockGuard: ClockGuard;
    issuer: Issuer;
    settings: IssuanceSettings;
  };

  constructor(parts: {
    sequencer: Sequencer;
    clockGuard: ClockGuard;
    issuer: Issuer;
    settings: IssuanceSettings;
  }) {
    this.#parts = parts;
  }

  get issuer(): Issuer {
    return this.#parts.issuer;
  }

  /** Unix milliseconds to judge a request by. Throws `policy-clock` while the clock is in doubt: nothing is issued then. */
  timeMs(): number {
    return this.#parts.clockGuard.issuanceTimeMs();
  }

  /**
   * Issues, or returns the certificate that the same token and key already got (I6). Throws what policy, store or
   * signer refuse with; whatever was committed by then stays revocable.
   */
  async issue(request: IssueRequest): Promise<IssuedCertificate> {
    const { sequencer, clockGuard, issuer, settings } = this.#parts;
    const nowMs = clockGuard.issuanceTimeMs();
    const startedMs = performance.now();
    const isServer = request.entry === undefined;
    const prepared = prepareCertificate(issuer, settings, { ...request, isServer, nowMs });
    const salt = randomBytes(16);
    const { profile } = request;
    const decision = canonicalJson({
      ...request.decision,
      profile: profile.name,
      profileSha256: profileSha256(profile),
    });
    const context = decisionContext(salt, decision);
    const leaf = encodeLeaf({
      type: 'certificate',
      timeMs: nowMs,
      issuerKeyId: issuer.keyId,
      body: prepared.tbs,
      context,
    });
    const certificate = {
      issuerKeyId: issuer.keyId,
      serial: prepared.serial,
      spiffeId: request.names.spiffeId,
      entryId: request.entry?.entryId,
      tokenId: request.tokenId ?? request.predecessor?.tokenId,
      predecessor: request.predecessor?.serial,
      lineage: request.predecessor?.lineage ?? prepared.serial,
      spkiSha256: request.publicKey.sha256,
      notBeforeMs: prepared.notBeforeMs,
      notAfterMs: prepared.notAfterMs,
      tbs: prepared.tbs,
      issuedAtMs: nowMs,
      decision,
      salt,
    };
    const result = await sequencer.sign({
      purpose: isServer ? 'server-certificate' : 'certificate',
      verify: (signature) => signedBy(issuer, prepared.tbs, signature),
      mutation: {
        kind: 'certificate',
        leaf: leafDraft(leaf),
        certificate,
        entryVersion: request.entry?.version,
        tokenUse: request.tokenId === undefined ? undefined : { tokenId: request.tokenId, atMs: nowMs },
      },
    });
    if (result.status === 'exists') return this.recall(result.certificate, startedMs);
    const record = { ...certificate, leafIndex: result.leafIndex };
    return {
      der: this.#finish(record, result.signature),
      record,
      timeMs: nowMs,
      context,
      proof: result.proof,
    };
  }

  /**
   * The certificate of a stored TBS: with its stored signature, or, where a crash left none, signed again byte for
   * byte.
   */
  async recall(stored: CertificateRecord, sinceMs?: number): Promise<IssuedCertificate> {
    const { sequencer } = this.#parts;
    const context = decisionContext(stored.salt, stored.decision);
    const answer = { record: stored, timeMs: stored.issuedAtMs, context };
    // One that rotted on disk is none: the same TBS is signed again (I3).
    if (stored.signature && signedBy(this.#parts.issuer, stored.tbs, stored.signature))
      return {
        ...answer,
        der: this.#finish(stored, stored.signature),
        proof: sequencer.inclusion(stored.leafIndex),
      };
    const again = await sequencer.signAgain(stored.leafIndex, this.#submissionOf(stored, context), sinceMs);
    return { ...answer, der: this.#finish(stored, again.signature), proof: again.proof };
  }

  #submissionOf(stored: CertificateRecord, context: Buffer): Submission {
    const leaf = encodeLeaf({
      type: 'certificate',
      timeMs: stored.issuedAtMs,
      issuerKeyId: stored.issuerKeyId,
      body: stored.tbs,
      context,
    });
    return {
      purpose: stored.entryId === undefined ? 'server-certificate' : 'certificate',
      verify: (signature) => signedBy(this.#parts.issuer, stored.tbs, signature),
      mutation: {
        kind: 'certificate',
        leaf: leafDraft(leaf),
        certificate: stored,
        entryVersion: undefined,
        tokenUse: undefined,
      },
    };
  }

  /** Joins TBS and signature and reads the result once more before it leaves. */
  #finish(record: Pick<CertificateRecord, 'tbs' | 'serial'>, signature: Buffer): Buffer {
    const der = assembleSigned(record.tbs, this.#parts.issuer.algorithm, signature);
    const reread = parseCertificate(der);
    if (!reread.tbs.equals(record.tbs) || reread.serial !== record.serial)
      throw new VouchError(
        'integrity-signature',
        'the finished certificate reads differently from what was logged',
      );
    return der;
  }
}
