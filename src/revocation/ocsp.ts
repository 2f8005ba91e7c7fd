import type { Responder } from '../authority/ocsp-responders.ts';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { Reason } from '../core/reasons.ts';
import type { Serial } from '../core/serial.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { OcspSigner } from '../signer/port.ts';
import { verifySignature } from '../x509/algorithm.ts';
import { parseCertificate } from '../x509/certificate.ts';
import {
  buildResponseData,
  type CertId,
  type CertIdForm,
  issuerHashes,
  type OcspAnswer,
  type OcspIssuer,
  type OcspRequest,
  type ocspRefusals,
  ocspRefusal,
  ocspResponse,
  type OcspStatus,
  parseOcspRequest,
} from '../x509/ocsp.ts';

/** What the store says of a certificate now. */
export type Standing =
  | { kind: 'unknown' }
  | { kind: 'good'; notAfterMs: number }
  | { kind: 'revoked'; revokedAtMs: number; reason: Reason };

/** Why there is no signed answer. */
export type OcspRefusal = keyof typeof ocspRefusals;

/** A signed answer as it may be served until its nextUpdate; times are Unix seconds. */
export interface SignedOcsp extends OcspAnswer {
  der: Buffer;
}

/** What goes back. */
export type OcspReply = { signed: SignedOcsp } | { refusal: OcspRefusal; der: Buffer };

interface Parts {
  issuers: readonly Issuer[];
  /** One indexed read. */
  standing: (issuerKeyId: string, serial: Serial) => Standing;
  responder: (issuerKeyId: string) => Responder | undefined;
  signer: OcspSigner;
  clock: Clock;
  /** Unix milliseconds to date by, also while the clock is in doubt (I12). */
  timeMs: () => number;
  settings: { validity: number; nonces: 'ignore' | 'require'; noncesPerSecond: number };
  /** Told of each answer that was signed, for the audit. */
  signed: (issuerKeyId: string, answer: OcspAnswer) => void;
  /** Told why one could not be. */
  failed: (error: unknown) => void;
}

/** Answers that are kept: of 1 KB each, so many as are asked for within their validity. */
const keptMost = 16_384;
/** First questions that wait for the signer at once; past it tryLater. */
const waitingMost = 256;
/** An answer that ends sooner is of no use. */
const usefulSeconds = 60;

/**
 * Answers OCSP for our issuers. An answer is signed when it is first asked for, and kept; each question is held against
 * the store, so that a kept one goes out only while it is still true: a revocation or a release ends it at once, with
 * nobody to tell of it. While the signer is away, what is kept and true goes on until its nextUpdate.
 */
export class OcspAnswers {
  readonly #parts: Parts;
  readonly #issuers = new Map<string, { keyId: string; issuer: OcspIssuer }>();
  /** Least recently asked for first. */
  readonly #kept = new Map<string, SignedOcsp>();
  readonly #underWay = new Map<string, Promise<SignedOcsp>>();
  readonly #nonces: Allowance;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#nonces = new Allowance(parts.settings.noncesPerSecond, parts.clock);
    for (const { keyId, issuerName, certificateDer } of parts.issuers) {
      const issuer = { nameDer: issuerName, spki: parseCertificate(certificateDer).spki };
      for (const hash of ['sha1', 'sha256'] as const)
        this.#issuers.set(issuerText({ hash, ...issuerHashes(issuer, hash) }), { keyId, issuer });
    }
  }

  /** Answers a DER OCSPRequest, whatever it is. Never rejects. */
  async answer(requestDer: Buffer): Promise<OcspReply> {
    let request: OcspRequest;
    try {
      request = parseOcspRequest(requestDer);
    } catch (error) {
      if (!(error instanceof VouchError)) this.#parts.failed(error);
      return refused('malformedRequest');
    }
    try {
      return await this.#answer(request);
    } catch (error) {
      this.#parts.failed(error);
      return refused('tryLater');
    }
  }

  /** An unsigned `unauthorized` for what we do not know: signing that would let strangers choose what is signed. */
  async #answer({ certId, nonce }: OcspRequest): Promise<OcspReply> {
    const found = this.#issuers.get(issuerText(certId));
    if (!found || !certId.hash) return refused('unauthorized');
    const standing = this.#parts.standing(found.keyId, certId.serial);
    const isOver = standing.kind === 'good' && standing.notAfterMs < this.#parts.timeMs();
    if (standing.kind === 'unknown' || isOver) return refused('unauthorized');
    const { hash, hasParameters, serial } = certId;
    const asked = { ...found, form: { hash, hasParameters, serial }, standing };
    if (nonce === undefined || this.#parts.settings.nonces === 'ignore') return this.#fromKept(asked);
    return this.#nonces.take() ? { signed: await this.#sign(asked, nonce) } : refused('tryLater');
  }

  async #fromKept(asked: Asked): Promise<OcspReply> {
    const { hash, hasParameters, serial } = asked.form;
    const name = [asked.keyId, hash, hasParameters, serial].join();
    const kept = this.#kept.get(name);
    const nowSeconds = this.#nowSeconds();
    if (!kept || !isTrue(kept, asked.standing, nowSeconds)) return this.#fresh(name, asked);
    this.#keep(name, kept);
    // From half of its life on a new one is made beside it; where that fails, this one goes on.
    if (nowSeconds * 2 > kept.thisUpdateSeconds + kept.nextUpdateSeconds) void this.#fresh(name, asked);
    return { signed: kept };
  }

  async #fresh(name: string, asked: Asked): Promise<OcspReply> {
    const what = `${name},${asked.standing.kind}`;
    let underWay = this.#underWay.get(what);
    if (!underWay) {
      if (this.#underWay.size >= waitingMost) return refused('tryLater');
      underWay = this.#sign(asked, undefined).finally(() => this.#underWay.delete(what));
      this.#underWay.set(what, underWay);
      underWay.then((signed) => this.#keep(name, signed), this.#parts.failed);
    }
    return underWay.then(
      (signed) => ({ signed }),
      () => refused('tryLater'),
    );
  }

  /** Signed, and verified before it leaves (I3). */
  async #sign({ keyId, issuer, form, standing }: Asked, nonce: Buffer | undefined): Promise<SignedOcsp> {
    const { responder: responderOf, signer, settings } = this.#parts;
    const responder = responderOf(keyId);
    const nowSeconds = this.#nowSeconds();
    const lastSeconds = Math.floor((responder?.notAfterMs ?? 0) / 1000);
    if (!responder || lastSeconds < nowSeconds + usefulSeconds)
      throw new VouchError('unavailable-signer', 'nothing answers OCSP for this issuer now');
    const answer: OcspAnswer = {
      form,
      status: statusOf(standing, nowSeconds),
      producedAtSeconds: nowSeconds,
      thisUpdateSeconds: nowSeconds,
      nextUpdateSeconds: Math.min(nowSeconds + settings.validity, lastSeconds),
      nonce,
    };
    const signature = await signer.signOcsp(keyId, answer);
    const { algorithm, publicKeySpki } = responder.key;
    const responseData = buildResponseData(issuer, publicKeySpki, answer);
    if (
      __VOUCH_WITHOUT__ !== 'I3' &&
      !verifySignature(algorithm, responder.publicKey, responseData, signature)
    )
      throw new VouchError('integrity-signature', 'the signature of an OCSP answer does not verify');
    this.#parts.signed(keyId, answer);
    const der = ocspResponse({ responseData, algorithm, signature, responderDer: responder.certificateDer });
    return { ...answer, der };
  }

  #keep(name: string, signed: SignedOcsp): void {
    this.#kept.delete(name);
    this.#kept.set(name, signed);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= keptMost) break;
      this.#kept.delete(oldest);
    }
  }

  #nowSeconds(): number {
    return Math.floor(this.#parts.timeMs() / 1000);
  }
}

/** A question with what the store says of it. */
interface Asked {
  keyId: string;
  issuer: OcspIssuer;
  form: CertIdForm;
  standing: Exclude<Standing, { kind: 'unknown' }>;
}

function issuerText({
  hash,
  issuerNameHash,
  issuerKeyHash,
}: Pick<CertId, 'hash' | 'issuerNameHash' | 'issuerKeyHash'>) {
  return [hash, issuerNameHash.toString('hex'), issuerKeyHash.toString('hex')].join();
}

function refused(refusal: OcspRefusal): OcspReply {
  return { refusal, der: ocspRefusal(refusal) };
}

function statusOf(standing: Asked['standing'], nowSeconds: number): OcspStatus {
  if (standing.kind === 'good') return { kind: 'good' };
  // A revocation may be dated ahead of a clock that was set back (I12).
  const atSeconds = Math.min(Math.floor(standing.revokedAtMs / 1000), nowSeconds);
  return { kind: 'revoked', atSeconds, reason: standing.reason };
}

/** Whether a kept answer says what the store says, and is neither over nor of a time that is yet to come. */
function isTrue(kept: SignedOcsp, standing: Asked['standing'], nowSeconds: number): boolean {
  const { status, thisUpdateSeconds, nextUpdateSeconds } = kept;
  if (nextUpdateSeconds <= nowSeconds || thisUpdateSeconds > nowSeconds) return false;
  if (status.kind === 'good' || standing.kind === 'good') return status.kind === standing.kind;
  return status.reason === standing.reason;
}

/** So many in a second, and as many at once. */
class Allowance {
  readonly #perSecond: number;
  readonly #clock: Clock;
  #left: number;
  #atMs: number;

  constructor(perSecond: number, clock: Clock) {
    this.#perSecond = perSecond;
    this.#clock = clock;
    this.#left = perSecond;
    this.#atMs = clock.monotonicMs();
  }

  take(): boolean {
    const nowMs = this.#clock.monotonicMs();
    const gained = ((nowMs - this.#atMs) / 1000) * this.#perSecond;
    this.#left = Math.min(this.#perSecond, this.#left + gained);
    this.#atMs = nowMs;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
