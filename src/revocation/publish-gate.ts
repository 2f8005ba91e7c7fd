import { shardOf } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import type { Issuer } from '../issuance/issuer.ts';
import { lintParsedCrl } from '../lint/crl.ts';
import type { RevocationRecord } from '../store/port.ts';
import { type ParsedTbsCrl, parseTbsCrl } from '../x509/crl.ts';
import { CrlEntries, type ParsedRevoked } from '../x509/crl-entries.ts';
import { fullScope } from './revoked-set.ts';

/** The last signed CRL of a scope, which the next one has to follow. */
export interface Predecessor {
  crl: ParsedTbsCrl;
  coversTreeSize: number;
}

/** A CRL that wants a number, a leaf and a signature, and then to be published. */
export interface Candidate {
  tbs: Buffer;
  scope: string;
  issuer: Issuer;
  shardCount: number;
  /** Its URL; for a shard the only name its IDP may carry. */
  url: string;
  previous: Predecessor | undefined;
  /** The store's truth: at least every revocation of this issuer that the predecessor does not cover. */
  revocations: readonly RevocationRecord[];
  /** The store's word on any other serial of this issuer. */
  recorded: (serial: Serial) => RevocationRecord | undefined;
  /** Revocations with a smaller leaf index must be on it. */
  coversTreeSize: number;
  nowMs: number;
}

/** What the gate read, and everything that is wrong with it. */
export interface Verdict {
  crl: ParsedTbsCrl | undefined;
  problems: string[];
}

/**
 * I5 as code: reads a CRL with another reader than its writer, before anything of it is committed, so that what is
 * held back leaves no trace that a restart could serve. Without problems it may be signed and published; anything else
 * keeps the previous one served. What the previous one said was judged then: only what differs from it is looked up.
 */
export function publishGate(candidate: Candidate): Verdict {
  let crl: ParsedTbsCrl;
  try {
    crl = parseTbsCrl(candidate.tbs);
  } catch (error) {
    const why = error instanceof Error ? error.message : 'unknown';
    return { crl: undefined, problems: [`it does not parse: ${why}`] };
  }
  if (__VOUCH_WITHOUT__ === 'I5') return { crl, problems: [] };
  const { previous } = candidate;
  const problems = [
    ...lintParsedCrl(crl).map(({ detail }) => detail),
    ...formProblems(crl, candidate),
    ...(previous ? successionProblems(crl, previous.crl) : []),
    ...entryProblems(crl, candidate),
  ];
  return { crl, problems };
}

/** Whether it speaks for the scope that this URL serves: a shard's IDP names it (RFC 5280 §5.2.5), a full CRL has none. */
export function speaksFor(crl: ParsedTbsCrl, scope: string, url: string): boolean {
  return scope === fullScope ? crl.idp === undefined : crl.idp?.urls.join() === url;
}

function formProblems(crl: ParsedTbsCrl, { issuer, scope, url, nowMs }: Candidate): string[] {
  const problems: string[] = [];
  if (!crl.issuerName.equals(issuer.issuerName)) problems.push('its issuer is another');
  if (crl.authorityKeyId !== issuer.keyId) problems.push('its authority key id is another');
  if (crl.algorithm !== issuer.algorithm) problems.push('its signature algorithm is another');
  if (crl.deltaBase !== undefined) problems.push('it is a delta CRL');
  if (!speaksFor(crl, scope, url)) problems.push("its issuing distribution point is not its scope's");
  if (crl.thisUpdateSeconds * 1000 > nowMs) problems.push('its thisUpdate is in the future');
  return problems;
}

/** Number and times rise. */
function successionProblems(crl: ParsedTbsCrl, previous: ParsedTbsCrl): string[] {
  const problems: string[] = [];
  if (crl.crlNumber === undefined || crl.crlNumber <= (previous.crlNumber ?? -1n))
    problems.push('its number does not rise');
  if (crl.thisUpdateSeconds <= previous.thisUpdateSeconds) problems.push('its thisUpdate does not rise');
  if (crl.nextUpdateSeconds < previous.nextUpdateSeconds) problems.push('its nextUpdate falls');
  return problems;
}

const noEntries = new CrlEntries(undefined);

/**
 * What the predecessor said is not taken back: entries stay as they are and leave only when they may. What it did not
 * cover yet and this one covers stands on it as recorded, and nothing else came.
 */
function entryProblems(crl: ParsedTbsCrl, candidate: Candidate): string[] {
  const { previous, revocations, coversTreeSize, scope, shardCount } = candidate;
  const isInScope = (serial: Serial): boolean =>
    scope === fullScope || scope === String(shardOf(serial, shardCount));
  const covered = previous?.coversTreeSize ?? 0;
  const fresh = new Map(
    revocations
      .filter(({ serial, leafIndex }) => leafIndex >= covered && isInScope(serial))
      .map((record) => [record.serial, record]),
  );
  const missing = new Set(fresh.values());
  const problems: string[] = [];
  for (const { serial, before, after } of crl.entries.changesSince(previous?.crl.entries ?? noEntries)) {
    const record = fresh.get(serial) ?? candidate.recorded(serial);
    if (record) missing.delete(record);
    if (after === undefined) {
      if (!mayLeave(record, candidate.nowMs)) problems.push(`${serial} would leave too early`);
    } else if (before !== undefined) problems.push(`${serial} would have another date or reason`);
    else if (!record || !isInScope(serial)) problems.push(`${serial} does not belong on it`);
    else if (!isAsRecorded(after, record))
      problems.push(`${serial} has another date or reason than was recorded`);
  }
  // Those that neither came nor changed: none, but after a restore, whose predecessor covers nothing of this log.
  for (const { serial, leafIndex } of missing)
    if (leafIndex < coversTreeSize && !crl.has(serial)) problems.push(`${serial} is missing`);
  return problems;
}

function isAsRecorded({ dateSeconds, reason }: ParsedRevoked, record: RevocationRecord): boolean {
  const { crlDateSeconds = dateSeconds, revokedAtMs } = record;
  return (
    reason === record.reason &&
    dateSeconds === crlDateSeconds &&
    dateSeconds <= Math.floor(revokedAtMs / 1000)
  );
}

/** The store says that it stood on a scheduled CRL past its end; and past its end it is, whatever the store says. */
function mayLeave(record: RevocationRecord | undefined, nowMs: number): boolean {
  return record?.mayLeave === true && record.notAfterMs < nowMs;
}
