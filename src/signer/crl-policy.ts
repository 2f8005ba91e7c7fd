import { VouchError } from '../core/errors.ts';
import type { CrlBody } from '../log/leaf.ts';
import type { ParsedCrlHead } from '../x509/crl.ts';
import type { SigningLimits } from './authority-file.ts';
import type { CrlNumbers } from './crl-numbers.ts';
import type { PolicyIssuer } from './policy-issuer.ts';

const deltaScope = 'delta';
/** How many numbers may be passed over where the clock was set back: a batch takes a few, a lost state some thousands. */
const numbersAhead = 2n ** 20n;

/**
 * How far below the issuer's last: a large full CRL gets its number when its content is taken, and is signed after shards
 * with higher ones (adr 011). Ten minutes of Unix milliseconds.
 */
const numbersLate = 600_000n;

/** What a CRL number is compared with. */
export interface NumberBounds {
  limits: SigningLimits;
  crlNumbers: CrlNumbers;
  nowMs: number;
}

/** What a CRL is compared with. */
export interface CrlBounds extends NumberBounds {
  issuer: PolicyIssuer;
  /** What its leaf says of it. */
  crl: CrlBody;
  occasion: 'first' | 'again';
}

/**
 * The signer's own look at a CRL before an issuer's key signs it (I11): its number only rises, it speaks for its scope
 * alone, its times are not ahead. It cannot know whether the CRL is complete. Throws `policy-lint`.
 */
export function checkCrl(crl: ParsedCrlHead, bounds: CrlBounds): void {
  if (crl.algorithm !== bounds.issuer.algorithm) refuse("its algorithm is not its issuer's");
  if (!crl.issuerName.equals(bounds.issuer.nameDer)) refuse('it names another issuer');
  if (crl.authorityKeyId !== bounds.issuer.keyId) refuse('its authorityKeyId is not its issuer');
  if (crl.criticalUnknown.length > 0) refuse('it has a critical extension that Vouch does not write');
  checkNumber(crl, bounds);
  checkTimes(crl, bounds);
  checkScope(crl, bounds);
}

/**
 * Highest number of an issuer that is signed or remembered: numbers are max(last + 1, Unix ms). One far ahead, taken in
 * the minute for which somebody held the server, would put every later CRL below it, for good.
 */
export function crlNumberCeiling(issuerKeyId: string, { limits, crlNumbers, nowMs }: NumberBounds): bigint {
  const byTime = BigInt(Math.floor(nowMs) + limits.maxFutureSeconds * 1000);
  const byLast = (crlNumbers.highest(issuerKeyId) ?? 0n) + numbersAhead;
  return byLast > byTime ? byLast : byTime;
}

function checkNumber(crl: ParsedCrlHead, bounds: CrlBounds): void {
  const { crl: said, issuer, crlNumbers, occasion } = bounds;
  if (crl.crlNumber === undefined || crl.crlNumber !== said.crlNumber)
    refuse('its number is not the one in its leaf');
  const last = crlNumbers.ofScope(issuer.keyId, said.scope);
  // Logged under this number and never signed; another CRL under the same number would be a second truth.
  if (occasion === 'again' && last?.crlNumber === said.crlNumber && last.tbsSha256.equals(said.tbsSha256))
    return;
  if (last && said.crlNumber <= last.crlNumber)
    refuse(`number ${said.crlNumber} is not above ${last.crlNumber}, the last of scope ${said.scope}`);
  if (said.crlNumber > crlNumberCeiling(issuer.keyId, bounds))
    refuse(`number ${said.crlNumber} is too far ahead`);
  const minimum = crlNumbers.minimum(issuer.keyId);
  if (minimum !== undefined && said.crlNumber <= minimum)
    refuse(`number ${said.crlNumber} is not above ${minimum}, the issuer's last before this start`);
  const highest = crlNumbers.highest(issuer.keyId);
  if (highest !== undefined && said.crlNumber + numbersLate < highest)
    refuse(`number ${said.crlNumber} is far below ${highest}, the issuer's last`);
}

function checkTimes(crl: ParsedCrlHead, { limits, nowMs }: CrlBounds): void {
  if (crl.thisUpdateSeconds * 1000 > nowMs) refuse('its thisUpdate is in the future');
  if (crl.nextUpdateSeconds <= crl.thisUpdateSeconds) refuse('its nextUpdate is not after its thisUpdate');
  if (crl.nextUpdateSeconds - crl.thisUpdateSeconds > limits.maxCrlSeconds)
    refuse('its nextUpdate is too far away');
}

function checkScope(crl: ParsedCrlHead, { crl: said, issuer }: CrlBounds): void {
  if (said.scope === deltaScope) return checkDelta(crl, said);
  if (crl.deltaBase !== undefined) refuse('it is a delta CRL');
  // Who read it would take a revoked certificate for a good one.
  if (crl.removals > 0) refuse('only a delta CRL takes entries back');
  if (said.scope === 'full') {
    if (crl.idp) refuse('a full CRL has no issuingDistributionPoint');
    return;
  }
  if (!/^(?:0|[1-9]\d{0,8})$/.test(said.scope))
    refuse(`its scope ${said.scope} is neither full, delta nor a shard`);
  const idp = crl.idp;
  if (!idp?.critical || !idp.onlyContainsUserCerts || idp.other)
    refuse('the CRL of a shard needs a critical issuingDistributionPoint for user certificates');
  const [url, ...more] = idp.urls;
  if (more.length > 0 || !url?.endsWith(`/crl/${issuer.keyId}/${said.scope}.crl`))
    refuse("its issuingDistributionPoint is not its shard's URL");
}

/** A delta of the full CRL (RFC 5280 §5.2.4): who cannot read deltas must not take it for a full one. */
function checkDelta(crl: ParsedCrlHead, { crlNumber }: CrlBody): void {
  if (crl.deltaBase === undefined || !crl.deltaIsCritical)
    refuse('a delta CRL needs a critical deltaCRLIndicator');
  if (crl.deltaBase > crlNumber) refuse(`its base ${crl.deltaBase} is above its own number`);
  if (crl.idp) refuse('a delta of the full CRL has no issuingDistributionPoint');
}

function refuse(why: string): never {
  throw new VouchError('policy-lint', `the signer refuses this CRL: ${why}`);
}
