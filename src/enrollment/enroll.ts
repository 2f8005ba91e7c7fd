import { hash } from 'node:crypto';
import type { NodeAttestor } from '../attestation/port.ts';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import {
  type Issuance,
  type IssuedCertificate,
  type IssueRequest,
  issuerRevoked,
} from '../issuance/issue.ts';
import { type Profile, profileNamed } from '../issuance/profile.ts';
import { matchEntry } from '../registration/match.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';
import {
  evidenceBytes,
  type EnrollRequest,
  renewalEvidenceBytes,
  type RenewRequest,
} from '../wire/enrollment.ts';
import { parseCsr, verifyCsr } from '../x509/csr.ts';
import type { PublicKeyInfo } from '../x509/public-key.ts';
import { verifyBinding } from './binding.ts';
import type { Challenges } from './challenge.ts';
import { refuseForeignNames } from './requested-names.ts';

/** The connection that a request came by. */
export interface Channel {
  peerAddress: string;
  /** The TLS 1.3 exporter of this connection (RFC 9266), 32 bytes. */
  exporter: () => Buffer;
  requestId: string;
  /** Told what the evidence says of who asks, for the log: a refusal that comes later can be attributed then. */
  learned: (who: { tokenId?: string }) => void;
}

/** A certificate with the entry that gave its names, for what is delivered beside it. */
export interface Enrolled {
  issued: IssuedCertificate;
  entry: RegistrationEntry;
}

/** evidence → selectors → entry → certificate, for first enrollments; and the same road for renewals. */
export class Enrollment {
  readonly #attestors: ReadonlyMap<string, NodeAttestor>;
  readonly #store: StoreReader;
  readonly #issuance: Issuance;
  readonly #challenges: Challenges;
  readonly #clock: Clock;
  readonly #end: IssueRequest['end'];
  readonly #profiles: (name: string) => Profile;
  /** Attempts under way, so that a retry with the same token and key waits instead of racing itself (I6). */
  readonly #inFlight = new Map<string, Promise<Enrolled>>();

  constructor(parts: {
    attestors: readonly NodeAttestor[];
    store: StoreReader;
    issuance: Issuance;
    challenges: Challenges;
    clock: Clock;
    /** Ends a certificate whose signature cannot come, so that another issuer can answer the same enrollment. */
    end?: IssueRequest['end'];
    /** The profile that an entry names. */
    profiles?: (name: string) => Profile;
  }) {
    this.#profiles = parts.profiles ?? profileNamed;
    this.#end = parts.end;
    this.#attestors = new Map(parts.attestors.map((attestor) => [attestor.type, attestor]));
    this.#store = parts.store;
    this.#issuance = parts.issuance;
    this.#challenges = parts.challenges;
    this.#clock = parts.clock;
  }

  /** A first enrollment. The cheap refusals come before any public key arithmetic. */
  async enroll(request: EnrollRequest, channel: Channel): Promise<Enrolled> {
    const { evidence } = request;
    const attestor = this.#attestors.get(evidence.type);
    if (!attestor)
      throw new VouchError(
        'request-unknown-type',
        `no attestor takes evidence of type ${JSON.stringify(evidence.type)}`,
      );
    const attested = await attestor.attest(evidence, {
      peerAddress: channel.peerAddress,
      // A clock in doubt is no reason to call a token expired.
      nowMs: this.#issuance.timeMs(),
    });
    if (attested.tokenId !== undefined) channel.learned({ tokenId: attested.tokenId });
    const csr = parseCsr(request.csr);
    const publicKey = verifyCsr(csr);
    const bound = evidenceBytes(evidence);
    this.#verifyBinding(publicKey, request.binding, bound, channel);
    const entry = matchEntry(this.#store, attested.selectors, csr.uris);
    refuseForeignNames(csr, entry);
    return this.#once(`${attested.tokenId}:${publicKey.sha256}`, () =>
      this.#issue(entry, publicKey, {
        tokenId: attested.tokenId,
        predecessor: undefined,
        decision: {
          kind: 'enrollment',
          evidence: attested.audit,
          evidenceSha256: hash('sha256', bound, 'hex'),
          requestId: channel.requestId,
        },
      }),
    );
  }

  /**
   * A renewal by the holder of a certificate that still counts, with a fresh key. The names come from its entry as it
   * is now. Throws `denied-certificate` where the entry is gone or names somebody else by now.
   */
  async renew(
    request: RenewRequest,
    predecessor: CertificateStanding,
    certificateDer: Buffer,
    channel: Channel,
  ): Promise<Enrolled> {
    if (predecessor.agent !== undefined)
      throw new VouchError(
        'denied-certificate',
        'an agent got this certificate for its workload: only that agent gets the next one',
      );
    const csr = parseCsr(request.csr);
    const publicKey = verifyCsr(csr);
    const bound = renewalEvidenceBytes(certificateDer);
    this.#verifyBinding(publicKey, request.binding, bound, channel);
    if (publicKey.sha256 === predecessor.spkiSha256)
      throw new VouchError('request-key', 'a renewal needs a fresh key; make a new one for each certificate');
    const entry = predecessor.entryId === undefined ? undefined : this.#store.entry(predecessor.entryId);
    if (entry?.spiffeId !== predecessor.spiffeId)
      throw new VouchError(
        'denied-certificate',
        'the registration entry of this certificate is gone; enroll again',
      );
    refuseForeignNames(csr, entry);
    return this.#once(`${predecessor.serial}:${publicKey.sha256}`, () =>
      this.#issue(entry, publicKey, {
        tokenId: undefined,
        predecessor,
        decision: {
          kind: 'renewal',
          predecessor: predecessor.serial,
          evidenceSha256: hash('sha256', bound, 'hex'),
          requestId: channel.requestId,
          peerAddress: channel.peerAddress,
        },
      }),
    );
  }

  async #issue(
    entry: RegistrationEntry,
    publicKey: PublicKeyInfo,
    why: Pick<Parameters<Issuance['issue']>[0], 'tokenId' | 'predecessor' | 'decision'>,
  ): Promise<Enrolled> {
    const issued = await this.#issuance.issue({
      names: entry,
      publicKey,
      profile: this.#profiles(entry.profile),
      lifetimeSeconds: entry.lifetimeSeconds,
      entry: { entryId: entry.entryId, version: entry.version },
      ...why,
      ...(this.#end && why.tokenId !== undefined ? { end: this.#end } : {}),
      decision: {
        ...why.decision,
        entry: entry.entryId,
        entryVersion: entry.version,
        spiffeId: entry.spiffeId,
      },
    });
    return { issued, entry };
  }

  /** Also for who joined an attempt under way: what was revoked before it was signed is handed to nobody (I6). */
  async #once(key: string, start: () => Promise<Enrolled>): Promise<Enrolled> {
    const enrolled = await this.#shared(key, start);
    const { issuerKeyId, serial } = enrolled.issued.record;
    if (this.#issuance.issuers.isRevoked(issuerKeyId)) throw issuerRevoked();
    if (this.#store.certificate(issuerKeyId, serial)?.revoked)
      throw new VouchError('denied-revoked', 'this certificate was revoked while it was being issued');
    return enrolled;
  }

  #shared(key: string, start: () => Promise<Enrolled>): Promise<Enrolled> {
    const underWay = this.#inFlight.get(key);
    if (underWay) return underWay;
    const attempt = start().finally(() => this.#inFlight.delete(key));
    this.#inFlight.set(key, attempt);
    return attempt;
  }

  #verifyBinding(
    key: PublicKeyInfo,
    binding: EnrollRequest['binding'],
    evidence: Buffer,
    channel: Channel,
  ): void {
    const bound = binding.nonce
      ? this.#challenges.redeem(binding.nonce, this.#clock.now())
      : channel.exporter();
    verifyBinding(key, bound, evidence, binding.signature);
  }
}
