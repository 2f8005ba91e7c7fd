import { tags } from './der.ts';
import { type DerReader, malformed } from './der-reader.ts';
import type { Extension } from './extensions.ts';
import { generalNameTags, readGeneralNames, skipGeneralName } from './general-names.ts';
import type { NameConstraints } from './name-constraints.ts';
import { readNameConstraints } from './name-constraints.ts';
import { readRdn } from './name.ts';
import { oids } from './oids.ts';

/** basicConstraints (RFC 5280 §4.2.1.9). */
export interface BasicConstraints {
  critical: boolean;
  isCa: boolean;
  pathLength: number | undefined;
}

/** keyUsage by the names of its bits (RFC 5280 §4.2.1.3). */
export interface KeyUsage {
  critical: boolean;
  digitalSignature: boolean;
  contentCommitment: boolean;
  keyEncipherment: boolean;
  dataEncipherment: boolean;
  keyAgreement: boolean;
  keyCertSign: boolean;
  cRLSign: boolean;
  encipherOnly: boolean;
  decipherOnly: boolean;
}

/** What the extensions of a certificate say. */
export interface CertificateExtensions {
  uris: string[];
  dnsNames: string[];
  /** Canonical text (RFC 5952). */
  ipAddresses: string[];
  /** subjectAltName entries of any other type. */
  otherNames: number;
  sanCritical: boolean;
  basicConstraints: BasicConstraints | undefined;
  keyUsage: KeyUsage | undefined;
  /** OIDs. */
  extendedKeyUsage: string[] | undefined;
  /** Hex. */
  authorityKeyId: string | undefined;
  /** Hex. */
  subjectKeyId: string | undefined;
  crlUrls: string[];
  /** URLs of caIssuers in authorityInfoAccess. */
  issuerUrls: string[];
  /** URLs of OCSP in authorityInfoAccess. */
  ocspUrls: string[];
  /** id-pkix-ocsp-nocheck (RFC 6960 §4.2.2.2.1). */
  ocspNoCheck: boolean;
  nameConstraints: NameConstraints | undefined;
  extensionOids: string[];
  /** Critical OIDs that this reader does not process: whoever relies on the certificate must refuse it. */
  criticalUnknown: string[];
}

/** More names than any real certificate has, few enough that checking each against constraints stays cheap. */
const maxNames = 1000;
const maxUrls = 32;
const maxKeyIdBytes = 64;
const serialMaxBytes = 20;

/** Reads the extensions of a certificate or of a CSR. Throws `request-malformed` where one is not what its OID says. */
export function readCertificateExtensions(
  extensions: readonly Extension[],
  limits: { maxNames: number } = { maxNames },
): CertificateExtensions {
  const found: CertificateExtensions = {
    uris: [],
    dnsNames: [],
    ipAddresses: [],
    otherNames: 0,
    sanCritical: false,
    basicConstraints: undefined,
    keyUsage: undefined,
    extendedKeyUsage: undefined,
    authorityKeyId: undefined,
    subjectKeyId: undefined,
    crlUrls: [],
    issuerUrls: [],
    ocspUrls: [],
    ocspNoCheck: false,
    nameConstraints: undefined,
    extensionOids: [],
    criticalUnknown: [],
  };
  for (const extension of extensions) {
    found.extensionOids.push(extension.oid);
    readOne(extension, found, limits.maxNames);
  }
  return found;
}

function readOne(extension: Extension, found: CertificateExtensions, nameLimit: number): void {
  const { oid, critical, value } = extension;
  switch (oid) {
    case oids.subjectAltName:
      Object.assign(found, readGeneralNames(value.enterFilled(tags.sequence, 'subjectAltName'), nameLimit));
      found.sanCritical = critical;
      break;
    case oids.basicConstraints:
      found.basicConstraints = readBasicConstraints(value, critical);
      break;
    case oids.keyUsage:
      found.keyUsage = readKeyUsage(value, critical);
      break;
    case oids.extendedKeyUsage:
      found.extendedKeyUsage = readUsages(value);
      break;
    case oids.authorityKeyIdentifier:
      found.authorityKeyId = readAuthorityKeyId(value);
      break;
    case oids.subjectKeyIdentifier:
      found.subjectKeyId = keyIdText(value.content(tags.octetString, 'subjectKeyIdentifier'), value);
      break;
    case oids.crlDistributionPoints:
      found.crlUrls = readDistributionPoints(value);
      break;
    case oids.authorityInfoAccess:
      Object.assign(found, readAccessUrls(value));
      break;
    case oids.ocspNoCheck:
      if (value.content(tags.null, 'ocsp-nocheck').length > 0)
        malformed('ocsp-nocheck is not NULL', value.contentStart);
      found.ocspNoCheck = true;
      break;
    case oids.nameConstraints:
      found.nameConstraints = readNameConstraints(value, critical);
      break;
    default:
      if (critical) found.criticalUnknown.push(oid);
      return;
  }
  value.finish('extension value');
}

/** An empty SEQUENCE is the DER of cA FALSE. */
function readBasicConstraints(value: DerReader, critical: boolean): BasicConstraints {
  const reader = value.enter(tags.sequence, 'basicConstraints');
  const isCa = reader.tag === tags.boolean && reader.trueOnly('cA');
  const pathLength = reader.tag === tags.integer ? reader.small('pathLenConstraint') : undefined;
  reader.finish('basicConstraints');
  return { critical, isCa, pathLength };
}

function readKeyUsage(value: DerReader, critical: boolean): KeyUsage {
  const bits = value.namedBits('keyUsage');
  if ((bits & 0x7f) !== 0) malformed('keyUsage has bits that do not exist', value.contentStart);
  return {
    critical,
    digitalSignature: (bits & 0x8000) !== 0,
    contentCommitment: (bits & 0x4000) !== 0,
    keyEncipherment: (bits & 0x2000) !== 0,
    dataEncipherment: (bits & 0x1000) !== 0,
    keyAgreement: (bits & 0x0800) !== 0,
    keyCertSign: (bits & 0x0400) !== 0,
    cRLSign: (bits & 0x0200) !== 0,
    encipherOnly: (bits & 0x0100) !== 0,
    decipherOnly: (bits & 0x0080) !== 0,
  };
}

function readUsages(value: DerReader): string[] {
  const reader = value.enterFilled(tags.sequence, 'extendedKeyUsage');
  const usages: string[] = [];
  while (!reader.done) {
    const usage = reader.oid('extended key usage');
    if (usages.includes(usage)) malformed('extended key usage stands twice', reader.contentStart);
    if (usages.push(usage) > maxUrls) malformed(`more than ${maxUrls} extended key usages`, reader.at);
  }
  return usages;
}

/** AuthorityKeyIdentifier; issuer and serial may stand beside the key id and are not used. */
export function readAuthorityKeyId(value: DerReader): string | undefined {
  const reader = value.enterFilled(tags.sequence, 'authorityKeyIdentifier');
  const keyId = reader.tag === 0x80 ? keyIdText(reader.content(0x80, 'keyIdentifier'), reader) : undefined;
  if (reader.tag === 0xa1) readGeneralNames(reader.enterFilled(0xa1, 'authorityCertIssuer'), maxUrls);
  if (reader.tag === 0x82) reader.unsigned(serialMaxBytes, 'authorityCertSerialNumber', 0x82);
  reader.finish('authorityKeyIdentifier');
  return keyId;
}

function keyIdText(bytes: Buffer, reader: DerReader): string {
  if (bytes.length === 0 || bytes.length > maxKeyIdBytes)
    malformed('key identifier is empty or too long', reader.contentStart);
  return bytes.toString('hex');
}

export function readDistributionPoints(value: DerReader): string[] {
  const points = value.enterFilled(tags.sequence, 'cRLDistributionPoints');
  const urls: string[] = [];
  while (!points.done) {
    const point = points.enterFilled(tags.sequence, 'distribution point');
    if (point.tag === 0xa0) urls.push(...readPointUrls(point.enterFilled(0xa0, 'distribution point name')));
    if (point.tag === 0x81) point.namedBits('reasons', 0x81);
    if (point.tag === 0xa2) readGeneralNames(point.enterFilled(0xa2, 'cRLIssuer'), maxUrls);
    point.finish('distribution point');
    if (urls.length > maxUrls) malformed(`more than ${maxUrls} URLs`, points.at);
  }
  return urls;
}

function readPointUrls(name: DerReader): string[] {
  const urls = name.tag === 0xa0 ? readGeneralNames(name.enterFilled(0xa0, 'fullName'), maxUrls).uris : [];
  if (name.tag === 0xa1) readRdn(name, 0xa1);
  name.finish('distribution point name');
  return urls;
}

function readAccessUrls(value: DerReader): Pick<CertificateExtensions, 'issuerUrls' | 'ocspUrls'> {
  const list = value.enterFilled(tags.sequence, 'authorityInfoAccess');
  const issuerUrls: string[] = [];
  const ocspUrls: string[] = [];
  while (!list.done) {
    const access = list.enter(tags.sequence, 'access description');
    const method = access.oid('access method');
    const urls = { [oids.caIssuers]: issuerUrls, [oids.ocsp]: ocspUrls }[method];
    if (urls && access.tag === generalNameTags.uri) urls.push(access.ascii(generalNameTags.uri, 'URL'));
    else skipGeneralName(access);
    access.finish('access description');
    if (issuerUrls.length + ocspUrls.length > maxUrls) malformed(`more than ${maxUrls} URLs`, list.at);
  }
  return { issuerUrls, ocspUrls };
}
