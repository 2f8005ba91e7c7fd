import { assert } from '../core/errors.ts';
import { type Serial, serialBytes } from '../core/serial.ts';
import { algorithmIdentifier, type SignatureAlgorithm } from './algorithm.ts';
import {
  asciiBytes,
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  time,
} from './der.ts';
import { ipBytes } from './ip-address.ts';
import { emptyName } from './name.ts';
import { oids } from './oids.ts';

/** What a CA certificate adds: how far its path may go on and which names it may carry. */
export interface CaTemplate {
  /** Undefined: no limit. */
  pathLength?: number | undefined;
  nameConstraints?:
    | {
        /** Hosts of URIs, so trust domains; with a leading period everything below instead. */
        permittedUriDomains?: readonly string[] | undefined;
        permittedDnsDomains?: readonly string[] | undefined;
      }
    | undefined;
}

/**
 * Everything a certificate says. Without `ca` it is a leaf: cA FALSE, keyUsage digitalSignature, extendedKeyUsage
 * serverAuth and clientAuth, or with `ocspSigning` a responder's: OCSPSigning alone, and id-pkix-ocsp-nocheck (RFC 6960
 * §4.2.2.2). Names are taken as they are: whoever fills this has checked them.
 */
export interface CertificateTemplate {
  serial: Serial;
  /** The issuer's. */
  algorithm: SignatureAlgorithm;
  /** DER Name, the issuer's subject byte for byte. */
  issuerName: Buffer;
  /** DER Name; subjectAltName is critical where it is empty. */
  subjectName: Buffer;
  notBeforeSeconds: number;
  /** Inclusive (RFC 5280 §4.1.2.5). */
  notAfterSeconds: number;
  /** DER SubjectPublicKeyInfo. */
  spki: Buffer;
  uris: readonly string[];
  dnsNames: readonly string[];
  /** Textual IPv4 or IPv6. */
  ipAddresses: readonly string[];
  /** Hex. */
  authorityKeyId: string;
  /** Hex. */
  subjectKeyId: string;
  ca?: CaTemplate | undefined;
  ocspSigning?: boolean | undefined;
  /** One distribution point each; none: no extension. */
  crlUrls: readonly string[];
  /** authorityInfoAccess caIssuers. */
  issuerUrl?: string | undefined;
  /** authorityInfoAccess OCSP, behind caIssuers. */
  ocspUrl?: string | undefined;
}

/** DER TBSCertificate, version 3 (RFC 5280 §4.1.2). A template that cannot be encoded is a programming error and asserted. */
export function buildCertificateTbs(template: CertificateTemplate): Buffer {
  return sequence(
    version3,
    integer(serialBytes(template.serial)),
    algorithmIdentifier(template.algorithm),
    template.issuerName,
    sequence(time(template.notBeforeSeconds), time(template.notAfterSeconds)),
    template.subjectName,
    template.spki,
    explicit(3, sequence(...extensionsOf(template))),
  );
}

/** Certificate or CertificateList: the signed bytes, the algorithm, the signature value (ECDSA: DER) as a BIT STRING. */
export function assembleSigned(tbs: Buffer, algorithm: SignatureAlgorithm, signature: Buffer): Buffer {
  return sequence(tbs, algorithmIdentifier(algorithm), bitString(signature));
}

/** Encoded once, since every certificate has them. */
const types = {
  authorityInfoAccess: oid(oids.authorityInfoAccess),
  authorityKeyIdentifier: oid(oids.authorityKeyIdentifier),
  basicConstraints: oid(oids.basicConstraints),
  crlDistributionPoints: oid(oids.crlDistributionPoints),
  extendedKeyUsage: oid(oids.extendedKeyUsage),
  keyUsage: oid(oids.keyUsage),
  nameConstraints: oid(oids.nameConstraints),
  subjectAltName: oid(oids.subjectAltName),
  subjectKeyIdentifier: oid(oids.subjectKeyIdentifier),
  caIssuers: oid(oids.caIssuers),
  ocsp: oid(oids.ocsp),
};

const version3 = explicit(0, integer(2n));

const signingOnly: readonly Buffer[] = [
  extension(types.basicConstraints, true, sequence()),
  extension(types.keyUsage, true, bitString(Buffer.from([0x80]), 7)),
];

const leafExtensions: readonly Buffer[] = [
  ...signingOnly,
  extension(types.extendedKeyUsage, false, sequence(oid(oids.serverAuth), oid(oids.clientAuth))),
];

const responderExtensions: readonly Buffer[] = [
  ...signingOnly,
  extension(types.extendedKeyUsage, false, sequence(oid(oids.ocspSigning))),
  extension(oid(oids.ocspNoCheck), false, nullValue),
];

/** keyCertSign and cRLSign. */
const caKeyUsage = extension(types.keyUsage, true, bitString(Buffer.from([0x06]), 1));

function extensionsOf(template: CertificateTemplate): Buffer[] {
  const extensions = template.ca
    ? caExtensions(template.ca)
    : [...(template.ocspSigning ? responderExtensions : leafExtensions)];
  extensions.push(
    extension(types.subjectKeyIdentifier, false, octetString(keyIdBytes(template.subjectKeyId))),
    extension(
      types.authorityKeyIdentifier,
      false,
      sequence(implicit(0, keyIdBytes(template.authorityKeyId))),
    ),
  );
  const names = generalNames(template);
  if (names.length > 0)
    extensions.push(
      extension(types.subjectAltName, template.subjectName.equals(emptyName), sequence(...names)),
    );
  if (template.crlUrls.length > 0)
    extensions.push(
      extension(types.crlDistributionPoints, false, sequence(...template.crlUrls.map(distributionPoint))),
    );
  const { issuerUrl, ocspUrl } = template;
  const access = [
    ...(issuerUrl === undefined ? [] : [sequence(types.caIssuers, uriName(issuerUrl))]),
    ...(ocspUrl === undefined ? [] : [sequence(types.ocsp, uriName(ocspUrl))]),
  ];
  if (access.length > 0) extensions.push(extension(types.authorityInfoAccess, false, sequence(...access)));
  return extensions;
}

/** basicConstraints, keyUsage and nameConstraints of a CA, DER each. */
export function caExtensions(ca: CaTemplate): Buffer[] {
  const constraints = ca.pathLength === undefined ? [] : [integer(BigInt(ca.pathLength))];
  const extensions = [
    extension(types.basicConstraints, true, sequence(boolean(true), ...constraints)),
    caKeyUsage,
  ];
  const subtrees = [
    ...(ca.nameConstraints?.permittedUriDomains ?? []).map((domain) => sequence(uriName(domain))),
    ...(ca.nameConstraints?.permittedDnsDomains ?? []).map((domain) => sequence(dnsName(domain))),
  ];
  if (subtrees.length > 0)
    extensions.push(extension(types.nameConstraints, true, sequence(explicit(0, ...subtrees))));
  return extensions;
}

function extension(type: Buffer, critical: boolean, value: Buffer): Buffer {
  return critical ? sequence(type, boolean(true), octetString(value)) : sequence(type, octetString(value));
}

function generalNames(template: CertificateTemplate): Buffer[] {
  return [
    ...template.uris.map(uriName),
    ...template.dnsNames.map(dnsName),
    ...template.ipAddresses.map(ipName),
  ];
}

function uriName(uri: string): Buffer {
  return implicit(6, asciiBytes(uri));
}

function dnsName(name: string): Buffer {
  return implicit(2, asciiBytes(name));
}

function ipName(address: string): Buffer {
  const bytes = ipBytes(address);
  assert(bytes, 'IP address in a template is one');
  return implicit(7, bytes);
}

/** DistributionPoint with the URL as its fullName. */
function distributionPoint(url: string): Buffer {
  return sequence(explicit(0, explicit(0, uriName(url))));
}

function keyIdBytes(hex: string): Buffer {
  assert(/^(?:[0-9a-f]{2})+$/.test(hex), 'key id is hex');
  return Buffer.from(hex, 'hex');
}
