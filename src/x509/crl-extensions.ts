import { readAuthorityKeyId, readDistributionPoints } from './certificate-extensions.ts';
import { tags } from './der.ts';
import type { DerReader } from './der-reader.ts';
import type { Extension } from './extensions.ts';
import { readGeneralNames } from './general-names.ts';
import { readRdn } from './name.ts';
import { oids } from './oids.ts';

/** issuingDistributionPoint (RFC 5280 §5.2.5). */
export interface IssuingDistributionPoint {
  urls: string[];
  onlyContainsUserCerts: boolean;
  critical: boolean;
  /** It narrows the CRL in a way that Vouch does not write: CA certificates only, some reasons, indirect, other names. */
  other: boolean;
}

/** What the extensions of a CRL say. */
export interface CrlExtensions {
  /** Hex. */
  authorityKeyId: string | undefined;
  crlNumber: bigint | undefined;
  idp: IssuingDistributionPoint | undefined;
  /** BaseCRLNumber of a delta CRL. */
  deltaBase: bigint | undefined;
  /** URLs of the delta CRL (freshestCRL, RFC 5280 §5.2.6). */
  freshestUrls: string[];
  deltaIsCritical: boolean;
  /** Critical OIDs, of the CRL or of an entry, that this reader does not process: the CRL must not be relied on. */
  criticalUnknown: string[];
}

/** RFC 5280 §5.2.3. */
const crlNumberMaxBytes = 20;
const maxUrls = 32;

/** Reads the extensions of a CRL. Throws `request-malformed` where one is not what its OID says. */
export function readCrlExtensions(extensions: readonly Extension[]): CrlExtensions {
  const found: CrlExtensions = {
    authorityKeyId: undefined,
    crlNumber: undefined,
    idp: undefined,
    deltaBase: undefined,
    freshestUrls: [],
    deltaIsCritical: false,
    criticalUnknown: [],
  };
  for (const { oid, critical, value } of extensions) {
    if (oid === oids.authorityKeyIdentifier) found.authorityKeyId = readAuthorityKeyId(value);
    else if (oid === oids.crlNumber) found.crlNumber = readNumber(value, 'cRLNumber');
    else if (oid === oids.deltaCrlIndicator) {
      found.deltaBase = readNumber(value, 'deltaCRLIndicator');
      found.deltaIsCritical = critical;
    } else if (oid === oids.issuingDistributionPoint) found.idp = readIdp(value, critical);
    else if (oid === oids.freshestCrl && !critical) found.freshestUrls = readDistributionPoints(value);
    else {
      if (critical) found.criticalUnknown.push(oid);
      continue;
    }
    value.finish('extension value');
  }
  return found;
}

function readNumber(value: DerReader, what: string): bigint {
  return BigInt(`0x${value.unsigned(crlNumberMaxBytes, what).toString('hex')}`);
}

function readIdp(value: DerReader, critical: boolean): IssuingDistributionPoint {
  const reader = value.enterFilled(tags.sequence, 'issuingDistributionPoint');
  const found: IssuingDistributionPoint = { urls: [], onlyContainsUserCerts: false, critical, other: false };
  if (reader.tag === 0xa0) readPointName(reader.enterFilled(0xa0, 'distributionPoint'), found);
  if (reader.tag === 0x81) found.onlyContainsUserCerts = reader.trueOnly('onlyContainsUserCerts', 0x81);
  if (reader.tag === 0x82) found.other = reader.trueOnly('onlyContainsCACerts', 0x82);
  if (reader.tag === 0x83) found.other = reader.namedBits('onlySomeReasons', 0x83) !== 0;
  if (reader.tag === 0x84) found.other = reader.trueOnly('indirectCRL', 0x84);
  if (reader.tag === 0x85) found.other = reader.trueOnly('onlyContainsAttributeCerts', 0x85);
  reader.finish('issuingDistributionPoint');
  return found;
}

function readPointName(name: DerReader, found: IssuingDistributionPoint): void {
  if (name.tag === 0xa0) {
    const names = readGeneralNames(name.enterFilled(0xa0, 'fullName'), maxUrls);
    found.urls = names.uris;
    found.other = names.otherNames + names.dnsNames.length + names.ipAddresses.length > 0;
  } else {
    readRdn(name, 0xa1);
    found.other = true;
  }
  name.finish('distributionPoint');
}
