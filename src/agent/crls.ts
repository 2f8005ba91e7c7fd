import { rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { isFresh, readCrl, type VerifiedCrl, verifyCrl } from '../client/crl.ts';
import { CrlSource, fullCrlUrl } from '../client/crl-source.ts';
import type { ParsedCertificate } from '../x509/certificate.ts';
import { keyIdOf } from '../x509/public-key.ts';
import { toleratedSkewMs } from './answer.ts';
import { isTransient } from './retry.ts';

/** `require`: without a fresh CRL of every CA nothing is delivered. `allow-stale`: with a notice, it is. */
export type CrlPolicy = 'require' | 'allow-stale';

/** A CA whose CRL we need: of our chain, with what it signed below itself, or an issuer of our peers. */
export interface ChainAuthority {
  authority: ParsedCertificate;
  /** 40 hex characters. */
  keyId: string;
  /** Certificate of ours whose revocation this authority's CRL would tell; undefined for an issuer of peers alone. */
  subject: ParsedCertificate | undefined;
  /** Where its full CRL is; undefined where neither answer nor certificate says. */
  url: string | undefined;
}

/**
 * The CAs above a leaf with their CRL URLs, as the answer gave them, else from the distribution points; then the issuers
 * of peers alone.
 */
export function chainAuthorities(
  leaf: ParsedCertificate,
  authorities: readonly ParsedCertificate[],
  otherIssuers: readonly ParsedCertificate[],
  urls: ReadonlyMap<string, string>,
): ChainAuthority[] {
  const ofPeers = otherIssuers.map((authority): ChainAuthority => {
    const keyId = keyIdOf(authority.spki);
    return { authority, keyId, subject: undefined, url: urls.get(keyId) };
  });
  const ofOurs = authorities.map((authority, index): ChainAuthority => {
    const subject = index === 0 ? leaf : (authorities[index - 1] ?? leaf);
    const keyId = keyIdOf(authority.spki);
    const derived = subject.crlUrls[0];
    return { authority, keyId, subject, url: urls.get(keyId) ?? (derived && fullCrlUrl(derived)) };
  });
  return [...ofOurs, ...ofPeers];
}

/** How CRLs are collected. */
export interface Collecting {
  policy: CrlPolicy;
  /** The highest numbers seen. */
  seen: ReadonlyMap<string, bigint>;
  /** What `readHeldCrls` found, for a publication that is away. */
  held: ReadonlyMap<string, VerifiedCrl>;
  nowMs: number;
  signal: AbortSignal;
  notice: (line: string) => void;
}

/**
 * The CRL of every CA in the chain, fetched and verified. One that cannot be fetched is the held one for as long as that
 * is fresh: it is what peers are judged by meanwhile. An answer that does not hold is an alarm, not an outage. Throws
 * `denied-revoked` where our certificate or its issuer is on one; under `require` also whatever `fetchCrl` throws,
 * under `allow-stale` that becomes a notice, and the held one counts whatever its age and the failure.
 */
export async function collectCrls(
  chain: readonly ChainAuthority[],
  options: Collecting,
): Promise<VerifiedCrl[]> {
  const fetched = await Promise.allSettled(chain.map((one) => fetchCrl(one, options)));
  return chain.flatMap((one, index) => {
    const result = fetched[index];
    return result?.status === 'fulfilled' ? [result.value] : instead(one, result?.reason, options);
  });
}

/** What counts where a fetch has failed, after saying so; throws the failure where nothing does. */
function instead(one: ChainAuthority, error: unknown, options: Collecting): VerifiedCrl[] {
  if (!(error instanceof VouchError) || error.code === 'denied-revoked') throw error;
  // A standby's token may be away for days: nobody of ours needs its CRL, and whom it would tell of is not let in.
  const lenient = options.policy === 'allow-stale' || one.subject === undefined;
  const held = lenient || isTransient(error) ? options.held.get(one.keyId) : undefined;
  if (held !== undefined) {
    assertNotListed(held, one.subject);
    if (lenient || isFresh(held, options.nowMs, toleratedSkewMs)) {
      options.notice(`${error.detail}; the one held is used, which ends at ${rfc3339(held.nextUpdateMs)}`);
      return [held];
    }
  }
  if (!lenient) throw error;
  const why = one.subject === undefined ? 'it is not of our own chain' : 'as --crl allow-stale says';
  options.notice(`${error.detail}; going on without it, ${why}`);
  return [];
}

/**
 * Checks a CRL of `authority` as it came: signature, form, number, freshness, and that its subject is not on it. Throws
 * `integrity-crl`, `integrity-rewind`, `policy-not-fresh` or `denied-revoked`.
 */
function checkCrl(
  der: Buffer,
  { authority, subject }: ChainAuthority,
  minimumNumber: bigint | undefined,
  nowMs: number,
): VerifiedCrl {
  const crl = verifyCrl(readCrl(der), authority, minimumNumber);
  assertNotListed(crl, subject);
  assertFresh(crl, nowMs);
  return crl;
}

/** Throws `denied-revoked`. */
export function assertNotListed(crl: VerifiedCrl, subject: ParsedCertificate | undefined): void {
  if (!subject || !crl.has(subject.serial)) return;
  const what = subject.basicConstraints?.isCa ? 'the issuer of our certificate' : 'our certificate';
  throw new VouchError(
    'denied-revoked',
    `${what} (serial ${subject.serial}) is revoked; enroll again with a new join file`,
  );
}

/**
 * Whether a workload may start with what is held. Throws `denied-revoked`, or under `require` `policy-not-fresh` where a
 * CRL of the chain is missing or over.
 */
export function assertReliable(
  { chain, crls }: { chain: readonly ChainAuthority[]; crls: ReadonlyMap<string, VerifiedCrl> },
  policy: CrlPolicy,
  nowMs: number,
): void {
  for (const { keyId, subject } of chain) {
    const crl = crls.get(keyId);
    if (crl !== undefined) assertNotListed(crl, subject);
  }
  if (policy === 'allow-stale') return;
  for (const { keyId, subject } of chain) {
    if (subject === undefined) continue;
    const crl = crls.get(keyId);
    if (crl === undefined)
      throw new VouchError(
        'policy-not-fresh',
        `no CRL of issuer ${keyId} is here and none can be fetched now; --crl allow-stale goes on without`,
      );
    assertFresh(crl, nowMs);
  }
}

/** Throws `policy-not-fresh`, naming the clock where that is what looks wrong. */
export function assertFresh(crl: VerifiedCrl, nowMs: number): void {
  if (isFresh(crl, nowMs, toleratedSkewMs)) return;
  const when =
    nowMs >= crl.nextUpdateMs
      ? `ended at ${rfc3339(crl.nextUpdateMs)}`
      : `is from ${rfc3339(crl.thisUpdateMs)}, which has not come yet`;
  throw new VouchError(
    'policy-not-fresh',
    `the CRL of issuer ${crl.issuerKeyId} ${when} by this machine's clock (${rfc3339(nowMs)}): set the clock right, or have the operator publish a new one; --crl allow-stale goes on without`,
  );
}

async function fetchCrl(
  one: ChainAuthority,
  { seen, held, nowMs, signal }: Collecting,
): Promise<VerifiedCrl> {
  if (one.url === undefined)
    throw new VouchError(
      'integrity-crl',
      `nothing says where the CRL of issuer ${one.keyId} is; --crl allow-stale goes on without`,
    );
  const known = held.get(one.keyId);
  const source = new CrlSource(one.url);
  try {
    if (known !== undefined) source.holds(known);
    const fetched = await source.fetch(signal);
    if (fetched !== 'unchanged') return checkCrl(fetched.der, one, seen.get(one.keyId), nowMs);
    if (known === undefined)
      throw new VouchError('unavailable-server', `${one.url} answers 304 where nothing was known`);
    assertNotListed(known, one.subject);
    assertFresh(known, nowMs);
    return known;
  } finally {
    source.close();
  }
}
