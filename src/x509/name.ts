import { VouchError } from '../core/errors.ts';
import { oid, sequence, set, tags, utf8String } from './der.ts';
import { DerReader, malformed } from './der-reader.ts';
import { oids } from './oids.ts';

/** One attribute of a Name, its value as text. */
export interface NameAttribute {
  oid: string;
  value: string;
}

/** The Name without attributes: our leaves carry their identity in subjectAltName. */
export const emptyName: Buffer = sequence();

/** RFC 5280 appendix A.1: ub-common-name, and ub-organization-name is the same. In characters. */
export const commonNameMaxLength = 64;

/** DER Name of an organization and a common name, in that order, as UTF8Strings. Throws `policy-names` where one is empty, longer than 64 characters or has control characters. */
export function rdnName(parts: {
  commonName?: string | undefined;
  organization?: string | undefined;
}): Buffer {
  const attributes: Buffer[] = [];
  if (parts.organization !== undefined) attributes.push(rdn(oids.organizationName, parts.organization));
  if (parts.commonName !== undefined) attributes.push(rdn(oids.commonName, parts.commonName));
  return sequence(...attributes);
}

/** Whether a DER Name is this common name (printable ASCII), in one UTF8String, and nothing else. */
export function isCommonName(name: Buffer, commonName = ''): boolean {
  return /^[\x21-\x7e]{1,64}$/.test(commonName) && name.equals(rdnName({ commonName }));
}

/** A DER Name for people to read, in its own order: `O=Example, CN=Vouch root`. Never parse this. Throws `request-malformed`. */
export function nameText(der: Buffer): string {
  const reader = new DerReader(der);
  const attributes = readName(reader);
  reader.finish('name');
  return attributes
    .map(({ oid: type, value }) => `${shortNames.get(type) ?? type}=${escapeValue(value)}`)
    .join(', ');
}

/** Attributes of the Name at the cursor, of whatever string type. Throws `request-malformed`. */
export function readName(reader: DerReader): NameAttribute[] {
  const attributes: NameAttribute[] = [];
  const names = reader.enter(tags.sequence, 'name');
  while (!names.done) attributes.push(...readRdn(names));
  return attributes;
}

/** Attributes of the RelativeDistinguishedName at the cursor; `tag` for an implicit one. Throws `request-malformed`. */
export function readRdn(names: DerReader, tag: number = tags.set): NameAttribute[] {
  const attributes: NameAttribute[] = [];
  const reader = names.enterFilled(tag, 'relative distinguished name');
  let previous: Buffer | undefined;
  while (!reader.done) {
    const start = reader.at;
    const pair = reader.enter(tags.sequence, 'name attribute');
    attributes.push({ oid: pair.oid('name attribute type'), value: readString(pair) });
    pair.finish('name attribute');
    const element = reader.bytes.subarray(start, reader.at);
    if (previous && Buffer.compare(previous, element) >= 0)
      malformed('name attributes are not in DER order', start);
    previous = element;
  }
  return attributes;
}

function rdn(type: string, value: string): Buffer {
  const length = [...value].length;
  if (length === 0 || length > commonNameMaxLength || /[\p{Cc}\p{Cs}]/u.test(value))
    throw new VouchError(
      'policy-names',
      `a name must have 1 to ${commonNameMaxLength} characters and no control characters`,
    );
  return set(sequence(oid(type), utf8String(value)));
}

function readString(pair: DerReader): string {
  const tag = pair.skip('name attribute value');
  const { bytes, contentStart: start, at: end } = pair;
  if (tag === tags.utf8String) return utf8Text(bytes, start, end);
  if (singleByteStrings.has(tag)) return bytes.toString('latin1', start, end);
  if (tag !== bmpString || (end - start) % 2 !== 0) malformed('name attribute is not a string', start);
  return Buffer.from(bytes.subarray(start, end)).swap16().toString('utf16le');
}

/** NumericString, PrintableString, TeletexString, IA5String, VisibleString. */
const singleByteStrings = new Set([0x12, 0x13, 0x14, 0x16, 0x1a]);

const bmpString = 0x1e;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function utf8Text(bytes: Buffer, start: number, end: number): string {
  try {
    return utf8.decode(bytes.subarray(start, end));
  } catch {
    return malformed('UTF8String is not UTF-8', start);
  }
}

const shortNames = new Map<string, string>([
  [oids.commonName, 'CN'],
  [oids.countryName, 'C'],
  [oids.localityName, 'L'],
  [oids.stateOrProvinceName, 'ST'],
  [oids.organizationName, 'O'],
  [oids.organizationalUnitName, 'OU'],
  [oids.serialNumber, 'serialNumber'],
  [oids.domainComponent, 'DC'],
  [oids.emailAddress, 'emailAddress'],
]);

/** RFC 4514 §2.4; also whatever a terminal might obey or not show. */
function escapeValue(value: string): string {
  return value
    .replace(/[,+"\\<>;=]/g, '\\$&')
    .replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) =>
      Buffer.from(character).toString('hex').replace(/../g, '\\$&'),
    );
}
