import type { Issuer } from '../issuance/issuer.ts';
import { signedBy } from '../issuance/issuer.ts';
import type { Serial } from '../core/serial.ts';
import type { RevocationRecord } from '../store/port.ts';
import { type ParsedCrl, parseCrl } from '../x509/crl.ts';
import { fullScope } from './revoked-set.ts';

/** A finished CRL that wants to be published. */
export interface Candidate {
  der: Buffer;
  scope: string;
  issuer: Issuer;
  /** Its URL; for a shard the only name its IDP may carry. */
  url: string;
  /** The CRL of this scope that is served now. */
  previous: Buffer | undefined;
  /** The store's truth: every revocation of this issuer that may not leave the CRLs yet. */
  revocations: readonly RevocationRecord[];
  /** The store's word on any other serial of this issuer. */
  recorded: (serial: Serial) => RevocationRecord | undefined;
  /** Revocations with a smaller leaf index must be on it. */
  coversTreeSize: number;
  nowMs: number;
}

/**
 * I5 as code: reads a finished CRL with another reader than its writer and tells everything that is wrong with it. An
 * empty list lets it out; anything else keeps the previous one served.
 */
export function publishGate(candidate: Candidate): string[] {
  if (__VOUCH_WITHOUT__ === 'I5') return [];
  let crl: ParsedCrl;
  try {
    crl = parseCrl(candidate.der);
  } catch (error) {
    return [`it does not parse: ${error instanceof Error ? error.message : 'unknown'}`];
  }
  return [
    ...formProblems(crl, candidate),
    ...timeProblems(crl, candidate),
    ...coverageProblems(crl, candidate),
    ...(candidate.previous ? successionProblems(crl, parseCrl(candidate.previous), candidate) : []),
  ];
}

function formProblems(crl: ParsedCrl, { issuer, scope, url }: Candidate): string[] {
  const problems: string[] = [];
  if (!crl.issuerName.equals(issuer.issuerName)) problems.push('its issuer is another');
  if (crl.authorityKeyId !== issuer.keyId) problems.push('its authority key id is another');
  if (crl.algorithm !== issuer.algorithm || !signedBy(issuer, crl.tbs, crl.signature))
    problems.push('its signature does not verify');
  if (crl.criticalUnknown.length > 0 || crl.deltaBase !== undefined)
    problems.push('it has an extension it must not have');
  if (scope === fullScope) {
    if (crl.idp) problems.push('the full CRL has an issuing distribution point');
  } else if (
    !crl.idp?.critical ||
    !crl.idp.onlyContainsUserCerts ||
    crl.idp.other ||
    crl.idp.urls.join() !== url
  )
    problems.push('its issuing distribution point is not its URL');
  return problems;
}

function timeProblems(crl: ParsedCrl, { nowMs }: Candidate): string[] {
  const problems: string[] = [];
  if (crl.thisUpdateSeconds * 1000 > nowMs) problems.push('its thisUpdate is in the future');
  if (crl.nextUpdateSeconds <= crl.thisUpdateSeconds)
    problems.push('its nextUpdate is not after its thisUpdate');
  return problems;
}

/** Every revocation that it covers stands on it as recorded, and nothing else does. */
function coverageProblems(
  crl: ParsedCrl,
  { revocations, recorded, scope, coversTreeSize }: Candidate,
): string[] {
  const inScope = (record: RevocationRecord): boolean =>
    scope === fullScope || String(record.shard) === scope;
  const required = new Map(revocations.filter(inScope).map((record) => [record.serial, record]));
  const problems: string[] = [];
  const listed = new Set<Serial>();
  for (const { serial, dateSeconds, reason } of crl.revoked()) {
    const record = required.get(serial) ?? recorded(serial);
    listed.add(serial);
    if (!record || !inScope(record)) problems.push(`${serial} does not belong on it`);
    else if (dateSeconds > Math.floor(record.revokedAtMs / 1000) || reason !== record.reason)
      problems.push(`${serial} has another date or reason than was recorded`);
  }
  if (listed.size !== crl.count) problems.push('it lists a serial twice');
  for (const record of required.values())
    if (record.leafIndex < coversTreeSize && !listed.has(record.serial))
      problems.push(`${record.serial} is missing`);
  return problems;
}

/** What an older CRL said is not taken back: number and times rise, and entries leave only when they may. */
function successionProblems(crl: ParsedCrl, previous: ParsedCrl, { recorded }: Candidate): string[] {
  const problems: string[] = [];
  if (crl.crlNumber === undefined || crl.crlNumber <= (previous.crlNumber ?? -1n))
    problems.push('its number does not rise');
  if (crl.thisUpdateSeconds <= previous.thisUpdateSeconds) problems.push('its thisUpdate does not rise');
  if (crl.nextUpdateSeconds < previous.nextUpdateSeconds) problems.push('its nextUpdate falls');
  const now = new Map([...crl.revoked()].map((entry) => [entry.serial, entry]));
  for (const before of previous.revoked()) {
    const after = now.get(before.serial);
    if (!after && recorded(before.serial)?.mayLeave !== true)
      problems.push(`${before.serial} would leave too early`);
    if (after && after.dateSeconds !== before.dateSeconds)
      problems.push(`the date of ${before.serial} would change`);
  }
  return problems;
}
