import { hash } from 'node:crypto';
import { type Reason, reasonCodes } from '../core/reasons.ts';
import { type Serial, serialBytes } from '../core/serial.ts';
import { algorithmIdentifier, type SignatureAlgorithm } from './algorithm.ts';
import {
  bitString,
  explicit,
  generalizedTime,
  implicit,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  tags,
  tlv,
} from './der.ts';
import { checkDer, DerReader, malformed } from './der-reader.ts';
import { readExtensions } from './extensions.ts';
import { skipGeneralName } from './general-names.ts';
import { oids } from './oids.ts';
import { keyBitsOf } from './public-key.ts';

/** Largest OCSPRequest that is read: one with the longest nonce has 300 bytes, a signed one with its chain 3,000. */
export const ocspRequestMaxBytes = 4096;
/** RFC 9654 §2.1: a nonce has 1 to 128 bytes. */
export const ocspNonceMaxBytes = 128;
/** As in a certificate (RFC 5280 §4.1.2.2). */
const serialMaxBytes = 20;
const hashMaxBytes = 64;

/** How a request names a certificate; the answer has the same form, byte for byte. */
export interface CertIdForm {
  hash: 'sha1' | 'sha256';
  /** The hash algorithm is written with NULL as its parameters. */
  hasParameters: boolean;
  serial: Serial;
}

/** A CertID (RFC 6960 §4.1.1) as it was read; `hash` is undefined where it is another than SHA-1 and SHA-256. */
export interface CertId extends Omit<CertIdForm, 'hash'> {
  hash: CertIdForm['hash'] | undefined;
  issuerNameHash: Buffer;
  issuerKeyHash: Buffer;
}

/** What a request asks. Its own signature, where it has one, is not verified: everybody may ask. */
export interface OcspRequest {
  certId: CertId;
  nonce: Buffer | undefined;
}

/** What is known of one certificate. */
export type OcspStatus = { kind: 'good' } | { kind: 'revoked'; atSeconds: number; reason: Reason };

/** One answer about one certificate; all of its times are Unix seconds. */
export interface OcspAnswer {
  form: CertIdForm;
  status: OcspStatus;
  producedAtSeconds: number;
  thisUpdateSeconds: number;
  nextUpdateSeconds: number;
  nonce: Buffer | undefined;
}

/** Whose answers they are. */
export interface OcspIssuer {
  /** DER Name: its subject. */
  nameDer: Buffer;
  /** DER SubjectPublicKeyInfo. */
  spki: Buffer;
}

/** OCSPResponseStatus of what is not answered; such an answer has no signature (RFC 6960 §2.3). */
export const ocspRefusals = { malformedRequest: 1, internalError: 2, tryLater: 3, unauthorized: 6 } as const;

/**
 * Reads a DER OCSPRequest (RFC 6960 §4.1) for one certificate, strictly. Throws `request-malformed`, also for several
 * certificates, which nobody asks for who takes stored answers (RFC 5019 §2.1.1), and for a critical extension that is
 * no nonce.
 */
export function parseOcspRequest(der: Buffer): OcspRequest {
  if (der.length > ocspRequestMaxBytes) malformed(`request larger than ${ocspRequestMaxBytes} bytes`, 0);
  checkDer(der);
  const outer = new DerReader(der).enter(tags.sequence, 'OCSPRequest');
  const tbs = outer.enter(tags.sequence, 'TBSRequest');
  // Version 1, the only one, is a default that DER leaves out.
  if (tbs.tag === 0xa1) {
    const name = tbs.enter(0xa1, 'requestorName');
    skipGeneralName(name);
    name.finish('requestorName');
  }
  const list = tbs.enterFilled(tags.sequence, 'requestList');
  const request = list.enter(tags.sequence, 'Request');
  list.finish('requestList: it may name one certificate');
  const certId = readCertId(request);
  if (request.tag === 0xa0) readNonce(request, 0xa0);
  request.finish('Request');
  const nonce = tbs.tag === 0xa2 ? readNonce(tbs, 0xa2) : undefined;
  tbs.finish('TBSRequest');
  if (outer.tag === 0xa0) outer.skip('optionalSignature');
  outer.finish('OCSPRequest');
  return { certId, nonce };
}

function readCertId(request: DerReader): CertId {
  const reader = request.enter(tags.sequence, 'CertID');
  const algorithm = reader.enter(tags.sequence, 'hashAlgorithm');
  const algorithmOid = algorithm.oid('hashAlgorithm');
  const hasParameters = algorithm.tag === tags.null;
  if (hasParameters) algorithm.skip('hash parameters');
  algorithm.finish('hashAlgorithm');
  const issuerNameHash = readHash(reader, 'issuerNameHash');
  const issuerKeyHash = readHash(reader, 'issuerKeyHash');
  const serial = reader.unsigned(serialMaxBytes, 'serialNumber').toString('hex') as Serial;
  reader.finish('CertID');
  return { hash: hashOfOid.get(algorithmOid), hasParameters, issuerNameHash, issuerKeyHash, serial };
}

const hashOfOid: ReadonlyMap<string, CertIdForm['hash']> = new Map([
  [oids.sha1, 'sha1'],
  [oids.sha256, 'sha256'],
]);

function readHash(reader: DerReader, what: string): Buffer {
  const bytes = reader.content(tags.octetString, what);
  if (bytes.length > hashMaxBytes) malformed(`${what} is longer than a hash`, reader.contentStart);
  return bytes;
}

/** The nonce among the extensions in [n]; others are stepped over unless they are critical. */
function readNonce(reader: DerReader, tag: number): Buffer | undefined {
  const wrapper = reader.enter(tag, 'extensions');
  const extensions = readExtensions(wrapper);
  wrapper.finish('extensions');
  let nonce: Buffer | undefined;
  for (const { oid: type, critical, value } of extensions) {
    if (type !== oids.ocspNonce) {
      if (critical) malformed(`critical extension ${type}`, value.at);
      continue;
    }
    nonce = value.content(tags.octetString, 'nonce');
    value.finish('nonce');
    if (nonce.length === 0 || nonce.length > ocspNonceMaxBytes)
      malformed(`nonce is not of 1 to ${ocspNonceMaxBytes} bytes`, value.contentStart);
  }
  return nonce;
}

/** The hashes by which a CertID of this form names an issuer. */
export function issuerHashes(
  { nameDer, spki }: OcspIssuer,
  algorithm: CertIdForm['hash'],
): Pick<CertId, 'issuerNameHash' | 'issuerKeyHash'> {
  return {
    issuerNameHash: hash(algorithm, nameDer, 'buffer'),
    issuerKeyHash: hash(algorithm, keyBitsOf(spki), 'buffer'),
  };
}

/** DER ResponseData (RFC 6960 §4.2.1) with one answer, by the responder whose key this is. Nothing in it is unsaid. */
export function buildResponseData(issuer: OcspIssuer, responderSpki: Buffer, answer: OcspAnswer): Buffer {
  const { form, nonce } = answer;
  const { issuerNameHash, issuerKeyHash } = issuerHashes(issuer, form.hash);
  const certId = sequence(
    sequence(oid(oids[form.hash]), ...(form.hasParameters ? [nullValue] : [])),
    octetString(issuerNameHash),
    octetString(issuerKeyHash),
    integer(serialBytes(form.serial)),
  );
  const single = sequence(
    certId,
    statusElement(answer.status),
    generalizedTime(answer.thisUpdateSeconds),
    explicit(0, generalizedTime(answer.nextUpdateSeconds)),
  );
  return sequence(
    explicit(2, octetString(hash('sha1', keyBitsOf(responderSpki), 'buffer'))),
    generalizedTime(answer.producedAtSeconds),
    sequence(single),
    ...(nonce ? [explicit(1, sequence(sequence(nonceType, octetString(octetString(nonce)))))] : []),
  );
}

const nonceType = oid(oids.ocspNonce);

/** As on a CRL, `unspecified` is said by saying no reason (RFC 5280 §5.3.1). */
function statusElement(status: OcspStatus): Buffer {
  if (status.kind === 'good') return implicit(0, Buffer.alloc(0));
  const code = reasonCodes[status.reason];
  const reason = code === 0 ? [] : [explicit(0, tlv(tags.enumerated, Buffer.from([code])))];
  return implicit(1, Buffer.concat([generalizedTime(status.atSeconds), ...reason]), true);
}

/** DER OCSPResponse, `successful`: signed ResponseData with the responder's certificate beside it (RFC 6960 §4.2.1). */
export function ocspResponse(signed: {
  responseData: Buffer;
  algorithm: SignatureAlgorithm;
  signature: Buffer;
  responderDer: Buffer;
}): Buffer {
  const basic = sequence(
    signed.responseData,
    algorithmIdentifier(signed.algorithm),
    bitString(signed.signature),
    explicit(0, sequence(signed.responderDer)),
  );
  return sequence(responseStatus(0), explicit(0, sequence(oid(oids.ocspBasic), octetString(basic))));
}

/** DER OCSPResponse that says why there is no answer; nobody signs it. */
export function ocspRefusal(status: keyof typeof ocspRefusals): Buffer {
  return sequence(responseStatus(ocspRefusals[status]));
}

function responseStatus(code: number): Buffer {
  return tlv(tags.enumerated, Buffer.from([code]));
}
