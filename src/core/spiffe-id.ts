import { VouchError } from './errors.ts';

/** A trust domain name: 1 to 255 bytes of `[a-z0-9._-]` (SPIFFE-ID §2.1). Made only by `parseTrustDomain`. */
export type TrustDomain = string & { readonly __brand: 'TrustDomain' };

/** A SPIFFE ID with a path, at most 2,048 bytes. Made only by `parseSpiffeId`. */
export type SpiffeId = string & { readonly __brand: 'SpiffeId' };

const trustDomainGrammar = /^[a-z0-9._-]{1,255}$/;
const segmentGrammar = /^[A-Za-z0-9._-]+$/;
const scheme = 'spiffe://';
const maxBytes = 2048;

/** Parses a trust domain name by its byte grammar. Throws `request-malformed`. */
export function parseTrustDomain(text: string): TrustDomain {
  if (!trustDomainGrammar.test(text))
    throw new VouchError(
      'request-malformed',
      `trust domain must be 1 to 255 of a-z 0-9 . _ -: ${quote(text)}`,
    );
  return text as TrustDomain;
}

/**
 * Parses a workload's SPIFFE ID by the byte grammar of SPIFFE-ID §2: no URL parser, which would normalise
 * `%2e%2e`; no empty, `.` or `..` segment, no trailing slash. Throws `request-malformed`.
 */
export function parseSpiffeId(text: string): SpiffeId {
  const refuse = (why: string): never => {
    throw new VouchError('request-malformed', `SPIFFE ID ${why}: ${quote(text)}`);
  };
  if (text.length > maxBytes) refuse(`longer than ${maxBytes} bytes`);
  if (!text.startsWith(scheme)) refuse('must start with spiffe://');
  const [trustDomain = '', ...segments] = text.slice(scheme.length).split('/');
  if (!trustDomainGrammar.test(trustDomain)) refuse('has a malformed trust domain');
  if (segments.length === 0) refuse('needs a path');
  for (const segment of segments) {
    if (!segmentGrammar.test(segment)) refuse('has a path segment outside A-Z a-z 0-9 . _ -');
    if (segment === '.' || segment === '..') refuse('has a . or .. segment');
  }
  return text as SpiffeId;
}

/** The trust domain of an already parsed SPIFFE ID. */
export function trustDomainOf(id: SpiffeId): TrustDomain {
  return id.slice(scheme.length, id.indexOf('/', scheme.length)) as TrustDomain;
}

/** True for names under `/vouch/`, which no entry, token or template may yield (I9). */
export function isReserved(id: SpiffeId): boolean {
  const path = id.slice(id.indexOf('/', scheme.length));
  return path === '/vouch' || path.startsWith('/vouch/');
}

/** The server's own SPIFFE ID, the only one an agent accepts at the other end (I9). */
export function serverSpiffeId(trustDomain: TrustDomain): SpiffeId {
  return `${scheme}${trustDomain}/vouch/server` as SpiffeId;
}

/** Whose certificate it is; the last two are the only ones without an entry. */
export type CertificateRole = 'workload' | 'server' | 'responder';

/** The role of who has this name, from an entry or from none. */
export function roleOf(id: SpiffeId, hasEntry: boolean): CertificateRole {
  if (hasEntry) return 'workload';
  return id === ocspSpiffeId(trustDomainOf(id)) ? 'responder' : 'server';
}

/** Name of the OCSP responders' certificates; nobody shows it in TLS. */
export function ocspSpiffeId(trustDomain: TrustDomain): SpiffeId {
  return `${scheme}${trustDomain}/vouch/ocsp` as SpiffeId;
}

/** The trust domain's own ID, carried by CA certificates: no path (X509-SVID §3). */
export function trustDomainId(trustDomain: TrustDomain): string {
  return `${scheme}${trustDomain}`;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
