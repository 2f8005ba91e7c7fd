import { isIP } from 'node:net';
import { ipBytes, ipText } from '../x509/ip-address.ts';
import { VouchError } from '../core/errors.ts';
import { defaultProfile } from '../issuance/profile.ts';
import {
  isReserved,
  parseSpiffeId,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from '../core/spiffe-id.ts';

/** With `--` in third place only A-labels (RFC 5890 §2.3.1): what the lint of certificates refuses is not registered. */
const label = /^(?!-)(?!..--(?<!xn--))(?!xn--(?:-|$))[a-z0-9-]{1,63}(?<!-)$/;

/** Parses a SPIFFE ID that an operator registers: in our trust domain, not under `/vouch/` (I9). */
export function registrableId(text: string, trustDomain: TrustDomain): SpiffeId {
  const id = parseSpiffeId(text);
  if (trustDomainOf(id) !== trustDomain)
    throw new VouchError('request-malformed', `${id} is outside the trust domain ${trustDomain}`);
  if (isReserved(id))
    throw new VouchError('request-malformed', 'names under /vouch/ are reserved for Vouch itself');
  return id;
}

/** Parses a DNS name as it may stand in a certificate: lower-case letters, digits and hyphens, no wildcard, no address. */
export function registrableDnsName(text: string): string {
  const labels = text.split('.');
  const numeric = /^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '');
  if (text.length > 253 || numeric || !labels.every((one) => label.test(one)))
    throw new VouchError(
      'request-malformed',
      `not a DNS name in lower case without wildcard: ${JSON.stringify(text.slice(0, 80))}`,
    );
  return text;
}

/** Parses an IP address without zone, into the one spelling that certificates are compared by (RFC 5952). */
export function registrableAddress(text: string): string {
  const bytes = isIP(text) === 0 || text.includes('%') ? undefined : ipBytes(text);
  const canonical = bytes && ipText(bytes);
  if (canonical === undefined)
    throw new VouchError('request-malformed', `not an IP address: ${JSON.stringify(text.slice(0, 60))}`);
  return canonical;
}

/** Parses an allowed client: a SPIFFE ID of any trust domain, or a prefix of whole segments ending in `/*`. */
export function allowedClient(text: string): string {
  if (text.endsWith('/*')) {
    parseSpiffeId(`${text.slice(0, -1)}x`);
    return text;
  }
  return parseSpiffeId(text);
}

/** Parses each of several, and keeps it once, in the order given: with a name twice no certificate is issued. */
export function eachOnce<T extends string>(texts: readonly string[], parse: (text: string) => T): T[] {
  return [...new Set(texts.map(parse))];
}

/** Checks a hint, which workloads choose an identity by: 1024 bytes of UTF-8 at most, '' for none. */
export function registrableHint(text: string): string {
  if (Buffer.byteLength(text) > 1024 || /\p{Cc}/u.test(text) || !text.isWellFormed())
    throw new VouchError('request-malformed', 'a hint is text of at most 1024 bytes on one line');
  return text;
}

/** Checks the lifetime of an entry's certificates; undefined: the profile's. */
export function registrableLifetime(seconds: number | undefined): number | undefined {
  return seconds === undefined
    ? undefined
    : bounded(seconds, defaultProfile.maxLifetimeSeconds, 'lifetime in seconds', 120);
}

/** Checks a whole number; `what` begins the sentence that refuses it. */
export function bounded(value: number, most: number, what: string, least = 1): number {
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw new VouchError('request-malformed', `${what} must be between ${least} and ${most}`);
  return value;
}
