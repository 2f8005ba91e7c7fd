import { VouchError } from '../core/errors.ts';
import { type TrustDomain, trustDomainId } from '../core/spiffe-id.ts';
import { verifySignature } from '../x509/algorithm.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/certificate.ts';
import { constraintViolation } from '../x509/name-constraints.ts';
import { importPublicKey } from '../x509/public-key.ts';

/**
 * Checks that a certificate can be the root of this trust domain: self-signed, a CA that may sign certificates and CRLs
 * with one CA below it, current, for these names, and found by the key id that everything of ours is found by. Throws
 * `config-invalid` with what to do.
 */
export function checkRootCertificate(
  der: Buffer,
  expected: { trustDomain: TrustDomain; nowMs: number },
): ParsedCertificate {
  const root = parsed(der);
  const id = trustDomainId(expected.trustDomain);
  const info = importPublicKey(root.spki);
  const { basicConstraints, keyUsage, nameConstraints, uris } = root;
  if (!root.issuerName.equals(root.subjectName)) refuse('is not self-signed');
  if (!verifySignature(root.algorithm, info.key, root.tbs, root.signature))
    refuse('is not signed with its own key');
  if (root.criticalUnknown.length > 0)
    refuse(`has critical extensions that are not known: ${root.criticalUnknown.join(', ')}`);
  if (!basicConstraints?.isCa || !basicConstraints.critical) refuse('is not a CA certificate');
  if ((basicConstraints?.pathLength ?? 1) < 1) refuse('allows no CA below it (path length 0)');
  if (!keyUsage?.critical || !keyUsage.keyCertSign || !keyUsage.cRLSign)
    refuse('may not sign certificates and CRLs');
  if (root.extendedKeyUsage) refuse('is for some usages only (extendedKeyUsage)');
  if (uris.some((uri) => uri !== id)) refuse(`names ${uris.join(', ')}, not ${id}`);
  const names = { uris: [`${id}/x`], dnsNames: [], ipAddresses: [] };
  const violation = nameConstraints && constraintViolation(nameConstraints, names);
  if (violation !== undefined) refuse(`does not allow names of this trust domain: ${violation}`);
  if (root.notBeforeMs > expected.nowMs || root.notAfterMs < expected.nowMs) refuse('is not valid now');
  const [skid, akid] = [root.subjectKeyId, root.authorityKeyId];
  if (skid !== info.keyId || (akid ?? skid) !== skid)
    refuse(
      `goes by another key id than RFC 7093 method 1 gives (subject ${skid ?? 'none'}, authority ${akid ?? 'none'}): certificates and CRLs below it would not be found; root.reissue: true makes a new one over the same key and name, the pin stays`,
    );
  return root;
}

function parsed(der: Buffer): ParsedCertificate {
  try {
    return parseCertificate(der);
  } catch (cause) {
    throw new VouchError(
      'config-invalid',
      `the root certificate cannot be read: ${cause instanceof Error ? cause.message : ''}`,
      {
        cause,
      },
    );
  }
}

function refuse(why: string): never {
  throw new VouchError('config-invalid', `the root certificate ${why}`);
}
