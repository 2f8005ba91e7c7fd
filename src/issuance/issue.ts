import { randomBytes } from 'node:crypto';
import { canonicalJson, type Json } from '../core/canonical-json.ts';
import { VouchError } from '../core/errors.ts';
import type { Purpose } from '../signer/port.ts';
import { type CertificateRole, roleOf } from '../core/spiffe-id.ts';
import { decisionContext, encodeLeaf } from '../log/leaf.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import {
  type AlreadyThere,
  type InclusionProof,
  leafDraft,
  type Submission,
} from '../sequencer/submission.ts';
import type { CertificateRecord } from '../store/records.ts';
import { assembleSigned } from '../x509/certificate-tbs.ts';
import { parseCertificate } from '../x509/certificate.ts';
import type { PublicKeyInfo } from '../x509/public-key.ts';
import type { ClockGuard } from './clock-guard.ts';
import { type Issuer, signedBy } from './issuer.ts';
import type { Issuers } from './issuers.ts';
import { type CertificateNames, type IssuanceSettings, prepareCertificate } from './prepare.ts';
import { type Profile, profileSha256 } from './profile.ts';

/** One certificate that policy has allowed. */
export interface IssueRequest {
  names: CertificateNames;
  publicKey: PublicKeyInfo;
  profile: Profile;
  lifetimeSeconds: number | undefined;
  /** The entry that gave the names, with the version that was read; undefined for the server's own certificates. */
  entry: { entryId: string; version: number } | undefined;
  /** The join token whose use is burnt with the serial (I6). */
  tokenId: string | undefined;
  predecessor: Pick<CertificateRecord, 'serial' | 'lineage' | 'tokenId'> | undefined;
  /** The certificate of the agent who asks in the name of a workload. */
  agent?: Pick<CertificateRecord, 'spiffeId' | 'issuerKeyId' | 'serial' | 'node'>;
  /** What it waits for once it is prepared: those that wait for the same go into the log together. */
  together?: Promise<void>;
  /** Ends a certificate that this request got, and whose signature cannot come now; undefined: it is waited for. */
  end?: (unsigned: CertificateRecord) => Promise<void>;
  /** Whose key signs it; undefined: whichever issues now. */
  issuer?: Issuer;
  /** Why it is allowed; its salted hash stands in the leaf. */
  decision: { readonly [key: string]: Json };
}

/** A signed certificate with what an agent needs to believe it. */
export interface IssuedCertificate {
  der: Buffer;
  issuer: Issuer;
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
    issuers: Issuers;
    settings: IssuanceSettings;
  };

  constructor(parts: {
    sequencer: Sequencer;
    clockGuard: ClockGuard;
    issuers: Issuers;
    settings: IssuanceSettings;
  }) {
    this.#parts = parts;
  }

  get issuers(): Issuers {
    return this.#parts.issuers;
  }

  /** Unix milliseconds to judge a request by. Throws `policy-clock` while the clock is in doubt: nothing is issued then. */
  timeMs(): number {
    return this.#parts.clockGuard.issuanceTimeMs();
  }

  /**
   * Issues, or returns the certificate that the same token and key already got (I6). Where that has no signature and its
   * issuer gave way to another, it is ended, durably, before the other one's is made. Throws what policy, store or
   * signer refuse with; whatever was committed by then stays revocable.
   */
  async issue(request: IssueRequest): Promise<IssuedCertificate> {
    try {
      return await this.#issueOrRecall(request);
    } catch (error) {
      const inSeconds = this.#parts.issuers.takeOverInSeconds();
      if (!(error instanceof VouchError) || error.code !== 'unavailable-signer' || inSeconds === undefined)
        throw error;
      // Whoever waits shall be there when the standby is, and not all at once.
      const retryAfterSeconds = inSeconds + Math.random();
      throw new VouchError(error.code, error.detail, { cause: error.cause, retryAfterSeconds });
    }
  }

  async #issueOrRecall(request: IssueRequest): Promise<IssuedCertificate> {
    const startedMs = performance.now();
    const issued = await this.#attempt(request);
    if (!isThere(issued)) return issued;
    const { certificate, isEnded } = issued;
    if (!request.end || !(isEnded || this.#isStuck(certificate))) return this.recall(certificate, startedMs);
    if (!isEnded) await request.end(certificate);
    const again = await this.#attempt({ ...request, predecessor: certificate });
    return isThere(again) ? this.recall(again.certificate, startedMs) : again;
  }

  /** Without a good signature, and with nobody to make one: its issuer is away, and another issues. */
  #isStuck({ issuerKeyId, tbs, signature }: CertificateRecord): boolean {
    const { issuers, sequencer } = this.#parts;
    if (signature && signedBy(issuers.of(issuerKeyId), tbs, signature)) return false;
    return issuers.current().keyId !== issuerKeyId && !sequencer.signerAnswers(issuerKeyId);
  }

  async #attempt(request: IssueRequest): Promise<IssuedCertificate | AlreadyThere> {
    const { sequencer, clockGuard, issuers, settings } = this.#parts;
    const { issuer = issuers.current() } = request;
    if (!issuers.mayIssue(issuer.keyId))
      throw new VouchError(
        'unavailable-issuer',
        `no issuer of this trust domain may issue: ${issuer.keyId} was ${issuers.isRevoked(issuer.keyId) ? 'revoked by the root' : 'replaced'}; its operator makes another (docs/ceremony.md)`,
      );
    const nowMs = clockGuard.issuanceTimeMs();
    const role = roleOf(request.names.spiffeId, request.entry !== undefined);
    const prepared = prepareCertificate(issuer, settings, { ...request, role, nowMs });
    const salt = randomBytes(16);
    const { profile, predecessor, agent } = request;
    const decision = canonicalJson({
      ...request.decision,
      ...(predecessor ? { predecessor: predecessor.serial } : {}),
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
      tokenId: request.tokenId ?? predecessor?.tokenId,
      predecessor: predecessor?.serial,
      lineage: predecessor?.lineage ?? prepared.serial,
      agent: agent?.spiffeId,
      node: agent?.node,
      spkiSha256: request.publicKey.sha256,
      notBeforeMs: prepared.notBeforeMs,
      notAfterMs: prepared.notAfterMs,
      tbs: prepared.tbs,
      issuedAtMs: nowMs,
      decision,
      salt,
    };
    await request.together;
    const result = await sequencer.sign({
      purpose: purposes[role],
      verify: (signature) => signedBy(issuer, prepared.tbs, signature),
      mutation: {
        kind: 'certificate',
        leaf: leafDraft(leaf),
        certificate,
        entryVersion: request.entry?.version,
        askedBy: agent,
        tokenUse: request.tokenId === undefined ? undefined : { tokenId: request.tokenId, atMs: nowMs },
      },
    });
    if (result.status === 'exists') return result;
    const record = { ...certificate, leafIndex: result.leafIndex };
    return {
      issuer,
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
    const { sequencer, issuers } = this.#parts;
    const issuer = issuers.of(stored.issuerKeyId);
    if (issuers.isRevoked(issuer.keyId)) throw issuerRevoked();
    const context = decisionContext(stored.salt, stored.decision);
    const answer = { issuer, record: stored, timeMs: stored.issuedAtMs, context };
    // One that rotted on disk is none: the same TBS is signed again (I3).
    if (stored.signature && signedBy(issuer, stored.tbs, stored.signature))
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
      purpose: purposes[roleOf(stored.spiffeId, stored.entryId !== undefined)],
      verify: (signature) => signedBy(this.#parts.issuers.of(stored.issuerKeyId), stored.tbs, signature),
      mutation: {
        kind: 'certificate',
        leaf: leafDraft(leaf),
        certificate: stored,
        entryVersion: undefined,
        askedBy: undefined,
        tokenUse: undefined,
      },
    };
  }

  /** Joins TBS and signature and reads the result once more before it leaves. */
  #finish(record: Pick<CertificateRecord, 'tbs' | 'serial' | 'issuerKeyId'>, signature: Buffer): Buffer {
    const { algorithm } = this.#parts.issuers.of(record.issuerKeyId);
    const der = assembleSigned(record.tbs, algorithm, signature);
    const reread = parseCertificate(der);
    if (!reread.tbs.equals(record.tbs) || reread.serial !== record.serial)
      throw new VouchError(
        'integrity-signature',
        'the finished certificate reads differently from what was logged',
      );
    return der;
  }
}

/** What the signer is told that it signs. */
const purposes = {
  workload: 'certificate',
  server: 'server-certificate',
  responder: 'ocsp-certificate',
} as const satisfies Record<CertificateRole, Purpose>;

/** Of a certificate whose issuer the root has revoked. */
export function issuerRevoked(): VouchError {
  return new VouchError(
    'denied-revoked',
    'the root has revoked the issuer of this certificate; enroll again, with a new join token',
  );
}

function isThere(result: IssuedCertificate | AlreadyThere): result is AlreadyThere {
  return 'status' in result;
}
