import { rfc3339 } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import { type TrustDomain, trustDomainId } from '../core/spiffe-id.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/certificate.ts';
import { nameText } from '../x509/name.ts';
import { validateCa } from '../x509/path.ts';
import { decodePem, encodePem } from '../x509/pem.ts';
import { keyIdOf } from '../x509/public-key.ts';

/** Whose root a CA above has certified. */
export interface CrossCertified {
  rootDer: Buffer;
  /** The issuer below it that signs now. */
  issuerDer: Buffer;
  trustDomain: TrustDomain;
  nowMs: number;
}

/** A chain that holds. */
export interface CrossChain {
  /** The second certificate of our root's key and name. */
  certificate: ParsedCertificate;
  /** It and the CAs above it, up to a self-signed one. */
  chainPem: string;
  /** What holds now and may surprise later. */
  warnings: string[];
}

/** Cross-certificate, policy CAs, root: a verifier has ours below them. */
const chainMost = 6;

/**
 * Checks that a chain certifies our root's key so that a verifier who trusts its last certificate only finds a path to
 * our workloads (RFC 5280 §6.1): same key, name and key id, CA rights with room for our issuers, names of our trust
 * domain permitted by every CA. Throws `denied-certificate` with what is wrong.
 */
export function checkCrossChain(pem: string, ours: CrossCertified): CrossChain {
  const chain = read(pem);
  const issuer = parseCertificate(ours.issuerDer);
  const [certificate] = chain;
  if (!certificate) return refuse('it is empty');
  checkSameCa(certificate, ours);
  const last = chain.at(-1);
  if (!last?.issuerName.equals(last.subjectName)) refuse('it does not end at a self-signed CA');
  chain.forEach((one, index) => {
    const below = [issuer, ...chain.slice(0, index)];
    try {
      validateCa(one, { issuer: chain[index + 1] ?? one, below, nowMs: ours.nowMs });
    } catch (cause) {
      refuse(`${label(one, index)}: ${asVouchError(cause).detail}`, cause);
    }
  });
  return {
    certificate,
    chainPem: chain.map(({ der }) => encodePem('CERTIFICATE', der)).join(''),
    warnings: warningsOf(chain, issuer),
  };
}

function read(pem: string): ParsedCertificate[] {
  let ders: Buffer[];
  try {
    ders = decodePem(pem, 'CERTIFICATE');
  } catch (cause) {
    return refuse(`${asVouchError(cause).detail}; put nothing but CERTIFICATE blocks into it`, cause);
  }
  if (ders.length < 2 || ders.length > chainMost)
    refuse(
      `it has ${ders.length} certificate(s): ours by the CA above, then that CA, up to a self-signed one`,
    );
  return ders.map((der, index) => {
    try {
      return parseCertificate(der);
    } catch (cause) {
      return refuse(`its certificate ${index + 1} cannot be read: ${asVouchError(cause).detail}`, cause);
    }
  });
}

/** What a verifier finds our issuers' CA by, in either certificate. */
function checkSameCa(certificate: ParsedCertificate, { rootDer, trustDomain }: CrossCertified): void {
  const root = parseCertificate(rootDer);
  const keyId = keyIdOf(root.spki);
  if (!certificate.spki.equals(root.spki))
    refuse(
      'its first certificate is of another key than our root: the one made from root.csr comes first, then its CAs',
    );
  if (certificate.issuerName.equals(certificate.subjectName))
    refuse("its first certificate is our own self-signed one, not another CA's");
  if (!certificate.subjectName.equals(root.subjectName))
    refuse(
      `its first certificate has the subject ${nameText(certificate.subjectName)}, not byte for byte that of our root, ${nameText(root.subjectName)}: have the CA take subject and string types as they are in root.csr`,
    );
  if (certificate.subjectKeyId !== keyId)
    refuse(
      `its first certificate has the subjectKeyIdentifier ${certificate.subjectKeyId ?? 'none'}: OpenSSL would not find it above our issuers, which name ${keyId}, as root.csr asks for`,
    );
  const id = trustDomainId(trustDomain);
  if (certificate.uris.some((uri) => uri !== id))
    refuse(`its first certificate names ${certificate.uris.join(', ')}, not ${id}`);
}

function warningsOf(chain: readonly ParsedCertificate[], issuer: ParsedCertificate): string[] {
  const warnings = chain.flatMap((one, index) => {
    const what = label(one, index);
    const { permitted, excluded } = one.nameConstraints ?? {};
    const isBound = [permitted, excluded].some(
      (side) => side !== undefined && side.dnsDomains.length + side.ipRanges.length > 0,
    );
    const dns = [permitted, excluded].map((side) => side?.dnsDomains.join(', ') || 'none');
    return [
      ...(one.notAfterMs < issuer.notAfterMs
        ? [`${what}: ends at ${rfc3339(one.notAfterMs)}, before our issuer`]
        : []),
      ...(isBound
        ? [
            `${what}: constrains DNS names or IP addresses (DNS permitted: ${dns[0]}; excluded: ${dns[1]}); who trusts this CA only refuses a workload with any other`,
          ]
        : []),
    ];
  });
  return chain[0]?.keyUsage?.cRLSign
    ? warnings
    : [
        ...warnings,
        "the cross-certificate lacks cRLSign: who trusts that CA only cannot check our root's CRL",
      ];
}

function label(certificate: ParsedCertificate, index: number): string {
  return `certificate ${index + 1} of the chain (${nameText(certificate.subjectName)})`;
}

function refuse(why: string, cause?: unknown): never {
  throw new VouchError('denied-certificate', `the chain cannot be taken: ${why}`, { cause });
}
