import { hash } from 'node:crypto';
import { canonicalJson } from '../core/canonical-json.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import { isWorse, type Reason } from '../core/reasons.ts';
import type { Serial } from '../core/serial.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import { decodeBase64 } from '../log/base64.ts';
import { type IssuerRevocationsJson, issuerRevocationsSchema } from '../wire/ceremony.ts';
import { verifySignature } from '../x509/algorithm.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/certificate.ts';
import type { ParsedRevoked } from '../x509/crl-entries.ts';
import { importPublicKey, keyIdOf } from '../x509/public-key.ts';

/** An issuer that the root is asked to end; its certificate was verified. */
export interface IssuerRevocation {
  keyId: string;
  serial: Serial;
  notAfterMs: number;
  reason: IssuerRevocationsJson['issuers'][number]['reason'];
  invalidityDateSeconds: number | undefined;
  /** How many of its certificates had not expired when the authority was asked. */
  unexpired: number;
}

/** All of one file. */
export interface IssuerRevocations {
  /** SHA-256 of the file, hex: what people compare by eye. */
  sha256: string;
  /** By the authority's clock. */
  createdAtMs: number;
  issuers: readonly IssuerRevocation[];
}

/** The file's text: canonical JSON and a line end. */
export function encodeIssuerRevocations(revocations: IssuerRevocationsJson): string {
  return `${canonicalJson(revocations)}\n`;
}

/**
 * Reads what `vouch ceremony --revoke-issuer` wrote: one encoding only, every certificate an issuer's that this root
 * signed, none twice. Throws `config-invalid`.
 */
export function parseIssuerRevocations(
  fileText: string,
  { root, trustDomain }: { root: ParsedCertificate; trustDomain: TrustDomain },
): IssuerRevocations {
  const json = jsonOf(fileText);
  if (json.trustDomain !== trustDomain) refuse(`is of the trust domain ${json.trustDomain}`);
  const issuers = json.issuers.map(({ certificate, reason, invalidityDate, unexpired }) => {
    const { serial, notAfterMs, spki } = issuerOf(certificate, root);
    const keyId = keyIdOf(spki);
    const invalidityDateSeconds =
      invalidityDate === undefined ? undefined : Date.parse(invalidityDate) / 1000;
    return { keyId, serial, notAfterMs, reason, invalidityDateSeconds, unexpired };
  });
  if (new Set(issuers.map(({ serial }) => serial)).size !== issuers.length) refuse('names one issuer twice');
  return { sha256: hash('sha256', fileText, 'hex'), createdAtMs: Date.parse(json.createdAt), issuers };
}

/**
 * What the next CRL lists, in serial order: all that the last one does, and these issuers. One that is listed already
 * keeps its date and only gets a worse reason (DESIGN I5). Throws `config-invalid` where nothing would change.
 */
export function revokedWith(
  last: readonly ParsedRevoked[],
  revocations: readonly IssuerRevocation[],
  nowSeconds: number,
): { all: ParsedRevoked[]; added: (ParsedRevoked & Pick<IssuerRevocation, 'keyId' | 'reason'>)[] } {
  const standing = new Map(last.map((revoked) => [revoked.serial, revoked]));
  const added = revocations.map(({ keyId, serial, reason, invalidityDateSeconds }) => {
    const before = standing.get(serial);
    if (before && !isWorse(before.reason, reason))
      throw new VouchError(
        'config-invalid',
        `the issuer ${keyId} is on the root's CRL already, for ${before.reason}: only a worse reason changes that, not ${reason}`,
      );
    const since = invalidityDateSeconds ?? before?.invalidityDateSeconds;
    const dateSeconds = before?.dateSeconds ?? nowSeconds;
    return {
      keyId,
      serial,
      dateSeconds,
      reason,
      ...(since !== undefined && { invalidityDateSeconds: since }),
    };
  });
  for (const { keyId: _keyId, ...revoked } of added) standing.set(revoked.serial, revoked);
  return { all: [...standing.values()].toSorted(bySerial), added };
}

/** Whether a CRL may say `now` of a serial of which the one before said `before`: the same, or worse of the same date. */
export function follows(
  before: { reason: Reason; dateSeconds: number | undefined },
  now: ParsedRevoked,
): boolean {
  const isSameDate = before.dateSeconds === undefined || before.dateSeconds === now.dateSeconds;
  return isSameDate && (before.reason === now.reason || isWorse(before.reason, now.reason));
}

function bySerial({ serial: a }: ParsedRevoked, { serial: b }: ParsedRevoked): number {
  return a.length - b.length || (a < b ? -1 : Number(a > b));
}

function jsonOf(fileText: string): IssuerRevocationsJson {
  let value: unknown;
  try {
    value = JSON.parse(fileText);
  } catch (cause) {
    throw new VouchError('config-invalid', 'the file of revoke is not JSON', { cause });
  }
  const parsed = issuerRevocationsSchema.safeParse(value);
  if (!parsed.success) return refuse('is not one that `vouch ceremony --revoke-issuer` writes');
  if (encodeIssuerRevocations(parsed.data) !== fileText) refuse('is not in its one encoding');
  return parsed.data;
}

function issuerOf(base64: string, root: ParsedCertificate): ParsedCertificate {
  const der = decodeBase64(base64) ?? refuse('has a certificate that is not base64');
  const certificate = readOf(der);
  const { tbs, signature, algorithm, issuerName } = certificate;
  const isOurs =
    issuerName.equals(root.subjectName) &&
    !tbs.equals(root.tbs) &&
    verifySignature(algorithm, importPublicKey(root.spki).key, tbs, signature);
  if (!isOurs) refuse('names a certificate that this root did not sign');
  return certificate;
}

function readOf(der: Buffer): ParsedCertificate {
  try {
    return parseCertificate(der);
  } catch (cause) {
    return refuse(`has a certificate that cannot be read: ${asVouchError(cause).detail}`);
  }
}

function refuse(why: string): never {
  throw new VouchError('config-invalid', `the file of revoke ${why}`);
}
