import { tags } from './der.ts';
import { type DerReader, malformed } from './der-reader.ts';
import { generalNameTags, skipGeneralName } from './general-names.ts';
import { ipBytes } from './ip-address.ts';

/** One side of nameConstraints, by name type. */
export interface Subtrees {
  uriDomains: string[];
  dnsDomains: string[];
  /** Address and mask, 8 or 32 bytes. */
  ipRanges: Buffer[];
  /** Subtrees of types that Vouch does not check: a path under them is refused. */
  others: number;
}

/** nameConstraints (RFC 5280 §4.2.1.10). A list that is empty on the permitted side constrains nothing. */
export interface NameConstraints {
  critical: boolean;
  permitted: Subtrees;
  excluded: Subtrees;
}

/** Names of a certificate that constraints apply to. */
export interface ConstrainedNames {
  uris: readonly string[];
  dnsNames: readonly string[];
  ipAddresses: readonly string[];
}

const maxSubtrees = 200;

/** Reads the extension's value. Throws `request-malformed` for an empty one, a minimum, a maximum, a mask with holes. */
export function readNameConstraints(value: DerReader, critical: boolean): NameConstraints {
  const reader = value.enterFilled(tags.sequence, 'nameConstraints');
  const permitted =
    reader.tag === 0xa0 ? readSubtrees(reader.enterFilled(0xa0, 'permittedSubtrees')) : noSubtrees();
  const excluded =
    reader.tag === 0xa1 ? readSubtrees(reader.enterFilled(0xa1, 'excludedSubtrees')) : noSubtrees();
  reader.finish('nameConstraints');
  return { critical, permitted, excluded };
}

/**
 * Why these names are not allowed under the constraints, or undefined where they are. Fails closed on types it cannot
 * check. What does not depend on the other side is worked out once: names times constraints can be 200,000.
 */
export function constraintViolation(
  constraints: NameConstraints,
  names: ConstrainedNames,
): string | undefined {
  const { permitted, excluded } = constraints;
  if (permitted.others + excluded.others > 0) return 'name constraints of a type that is not checked';
  const uri = violator(
    names.uris,
    uriHost,
    uriHostWithin,
    lower(permitted.uriDomains),
    lower(excluded.uriDomains),
  );
  if (uri !== undefined) return `URI ${uri} outside the name constraints`;
  const dns = violator(
    names.dnsNames,
    lowerCase,
    dnsWithin,
    lower(permitted.dnsDomains),
    lower(excluded.dnsDomains),
  );
  if (dns !== undefined) return `DNS name ${dns} outside the name constraints`;
  const ip = violator(names.ipAddresses, ipBytes, ipWithin, permitted.ipRanges, excluded.ipRanges);
  return ip === undefined ? undefined : `IP address ${ip} outside the name constraints`;
}

/** How a name stands to a constraint: inside of it, or (a wildcard) reaching into it. */
type Within = 'inside' | 'reaches' | 'outside';

/** The first name that is in no permitted subtree, in or across an excluded one, or cannot be compared at all. */
function violator<Name, Subtree>(
  names: readonly string[],
  comparable: (name: string) => Name | undefined,
  within: (name: Name, subtree: Subtree) => Within,
  permitted: readonly Subtree[],
  excluded: readonly Subtree[],
): string | undefined {
  if (permitted.length + excluded.length === 0) return undefined;
  return names.find((text) => {
    const name = comparable(text);
    if (name === undefined) return true;
    if (permitted.length > 0 && !permitted.some((subtree) => within(name, subtree) === 'inside')) return true;
    return excluded.some((subtree) => within(name, subtree) !== 'outside');
  });
}

function lower(domains: readonly string[]): string[] {
  return domains.map(lowerCase);
}

function lowerCase(text: string): string {
  return text.toLowerCase();
}

/** Host of a URI by its bytes; undefined for one without authority or with an address, which no constraint can hold. */
function uriHost(uri: string): string | undefined {
  const match = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([A-Za-z0-9._-]+)(?::\d*)?(?:[/?#]|$)/.exec(uri);
  const host = match?.[1]?.toLowerCase();
  return host === undefined || ipBytes(host) ? undefined : host;
}

/** RFC 5280 §4.2.1.10: a URI constraint with a leading period takes hosts below it, one without the host itself. */
function uriHostWithin(host: string, domain: string): Within {
  const isWithin = domain.startsWith('.') ? host.endsWith(domain) : host === domain;
  return isWithin ? 'inside' : 'outside';
}

/**
 * A DNS constraint takes the name itself and all below it; with a leading period, as some write it, only those below. A
 * wildcard also stands for a domain one label below it (CVE-2025-61727).
 */
function dnsWithin(name: string, domain: string): Within {
  if (domain === '' || name === domain || isBelow(name, domain)) return 'inside';
  return name.startsWith('*.') && isBelow(domain, name.slice(2)) ? 'reaches' : 'outside';
}

function isBelow(name: string, domain: string): boolean {
  return name.endsWith(domain) && (domain.startsWith('.') || name.at(-domain.length - 1) === '.');
}

function ipWithin(address: Buffer, range: Buffer): Within {
  const size = range.length / 2;
  const isWithin =
    address.length === size &&
    address.every((byte, i) => ((byte ^ (range[i] ?? 0)) & (range[size + i] ?? 0)) === 0);
  return isWithin ? 'inside' : 'outside';
}

function noSubtrees(): Subtrees {
  return { uriDomains: [], dnsDomains: [], ipRanges: [], others: 0 };
}

function readSubtrees(list: DerReader): Subtrees {
  const found = noSubtrees();
  for (let count = 1; !list.done; count++) {
    if (count > maxSubtrees) malformed(`more than ${maxSubtrees} subtrees`, list.at);
    const subtree = list.enter(tags.sequence, 'subtree');
    if (subtree.tag === generalNameTags.uri)
      found.uriDomains.push(subtree.ascii(generalNameTags.uri, 'URI domain'));
    else if (subtree.tag === generalNameTags.dns)
      found.dnsDomains.push(subtree.ascii(generalNameTags.dns, 'DNS domain'));
    else if (subtree.tag === generalNameTags.ip) found.ipRanges.push(readRange(subtree));
    else {
      skipGeneralName(subtree);
      found.others++;
    }
    subtree.finish('subtree (minimum and maximum are not used)');
  }
  return found;
}

function readRange(subtree: DerReader): Buffer {
  const range = subtree.content(generalNameTags.ip, 'IP range');
  const size = range.length / 2;
  const mask = range.subarray(size);
  if (size !== 4 && size !== 16) malformed('IP range is not of 8 or 32 bytes', subtree.contentStart);
  if (!/^1*0*$/.test([...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('')))
    malformed('IP range has a mask with holes', subtree.contentStart);
  return range;
}
