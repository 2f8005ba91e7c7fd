import { VouchError } from '../core/errors.ts';
import { ocspSpiffeId } from '../core/spiffe-id.ts';
import { parseTbsCertificate } from '../x509/certificate.ts';
import { buildResponseData, type OcspAnswer } from '../x509/ocsp.ts';
import { oids } from '../x509/oids.ts';
import type { SignerAuthority, SigningLimits } from './authority-file.ts';
import {
  allowedExtensions,
  type CertificateBounds,
  checkIssuer,
  checkSigningOnly,
  checkValidity,
  refuse,
  serialGrammar,
} from './certificate-policy.ts';
import type { Hsm } from './hsm.ts';
import type { OcspOrder } from './ocsp-protocol.ts';
import type { PolicyIssuer } from './policy-issuer.ts';

/** What an answer is good for at most: as long as what it says may be withheld from who was shown it once. */
const answerMaxSeconds = 24 * 3600;

const responderExtensions: ReadonlySet<string> = new Set([...allowedExtensions, oids.ocspNoCheck]);

/**
 * The signer's own look at the certificate of its OCSP key (I11): that key and no other, OCSPSigning and no other usage,
 * no CA, the responder's name, and a short life. Throws `policy-lint`, `policy-names`, or the reader's `request-…`.
 */
export function checkResponder(tbs: Buffer, bounds: CertificateBounds): void {
  const certificate = parseTbsCertificate(tbs);
  checkIssuer(certificate, bounds);
  if (!bounds.ocspSpki?.equals(certificate.spki))
    refuse('it certifies another key than that which answers OCSP');
  checkSigningOnly(certificate, responderExtensions);
  const { extendedKeyUsage, ocspNoCheck, uris, dnsNames, ipAddresses, otherNames } = certificate;
  if (extendedKeyUsage?.join() !== oids.ocspSigning) refuse('its extKeyUsage is not OCSPSigning alone');
  if (!ocspNoCheck) refuse('it has no ocsp-nocheck');
  checkValidity(certificate, bounds);
  const names = [...uris, ...dnsNames, ...ipAddresses];
  if (otherNames > 0 || names.join() !== ocspSpiffeId(bounds.trustDomain))
    throw new VouchError(
      'policy-names',
      "the signer refuses this certificate: its name is not the responder's",
    );
}

/** What an OCSP answer is signed with and judged by. */
export interface OcspContext {
  authority: SignerAuthority;
  hsm: Hsm;
  issuers: ReadonlyMap<string, PolicyIssuer>;
  nowMs: number;
}

/**
 * Signs an answer with the key that is for nothing else. The bytes are made here, from the issuer's own certificate: one
 * answer, by that key. Throws `policy-lint` for what it does not sign, `config-state` where there is no such key.
 */
export async function signOcsp({ issuerKeyId, answer }: OcspOrder, context: OcspContext): Promise<Buffer> {
  const { authority, hsm, issuers, nowMs } = context;
  const { ocspKey, limits } = authority;
  if (!ocspKey) throw new VouchError('config-state', 'this signer has no key that answers OCSP');
  const issuer = issuers.get(issuerKeyId);
  if (!issuer) throw new VouchError('policy-lint', `this signer does not answer for issuer ${issuerKeyId}`);
  if (__VOUCH_WITHOUT__ !== 'I11') checkAnswer(answer, limits, nowMs);
  return hsm.sign(ocspKey.ckaId, buildResponseData(issuer, ocspKey.publicKeySpki, answer));
}

/** Not ahead of this process's clock, and not for long: one that is dated back ends the sooner. */
function checkAnswer(answer: OcspAnswer, { maxFutureSeconds }: SigningLimits, nowMs: number): void {
  const { form, status, producedAtSeconds, thisUpdateSeconds, nextUpdateSeconds, nonce } = answer;
  const latest = Math.floor(nowMs / 1000) + maxFutureSeconds;
  if (!serialGrammar.test(form.serial)) refuseAnswer('its serial is none of ours');
  if (thisUpdateSeconds > latest || producedAtSeconds > latest) refuseAnswer('it is dated in the future');
  if (producedAtSeconds < thisUpdateSeconds) refuseAnswer('it was produced before it was known');
  if (nextUpdateSeconds <= thisUpdateSeconds) refuseAnswer('it ends before it begins');
  if (nextUpdateSeconds - thisUpdateSeconds > answerMaxSeconds) refuseAnswer('it is good for too long');
  if (nonce?.length === 0) refuseAnswer('its nonce is empty');
  if (status.kind === 'good') return;
  if (status.atSeconds > thisUpdateSeconds) refuseAnswer('it is revoked in the future');
  if (status.reason === 'removeFromCRL') refuseAnswer('what left a CRL is not revoked');
}

function refuseAnswer(why: string): never {
  throw new VouchError('policy-lint', `the signer refuses this OCSP answer: ${why}`);
}
