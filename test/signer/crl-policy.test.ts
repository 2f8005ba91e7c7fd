import { hash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { CrlNumbers } from '../../src/signer/crl-numbers.ts';
import { decide, type PolicyContext } from '../../src/signer/policy.ts';
import type { RequestedItem } from '../../src/signer/protocol.ts';
import { boolean, integer, octetString, oid, sequence } from '../../src/x509/der.ts';
import { type CrlTemplate, encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import {
  crlItem,
  crlTbs,
  nowMs,
  nowSeconds,
  policyContext,
  publicationUrl,
  send,
  testAuthority,
} from './fixture.ts';
import { parseSerial } from '../../src/core/serial.ts';
import { Uploads } from '../../src/signer/uploads.ts';
import { withCrlExtension } from './raw-tbs.ts';

const test = testAuthority();
const last = BigInt(nowMs);
const shardUrl = (shard: string) => `${publicationUrl}/crl/${test.issuerKeyId}/${shard}.crl`;

function refusal(item: RequestedItem, context: Partial<PolicyContext> = {}): string {
  const decision = decide(item, policyContext(test, context));
  if (decision.outcome !== 'refuse') throw new Error(`not refused but: ${decision.outcome}`);
  return decision.error.detail;
}

function numbersAfter(...items: { scope: string; crlNumber: bigint }[]): CrlNumbers {
  const numbers = new CrlNumbers();
  for (const item of items) numbers.raise(test.issuerKeyId, { ...item, tbsSha256: Buffer.alloc(32) });
  return numbers;
}

describe('a CRL', () => {
  it('is signed: full, and of a shard with its IDP', () => {
    for (const item of [crlItem(test), crlItem(test, { scope: '0' }), crlItem(test, { scope: '15' })]) {
      const decision = decide(item, policyContext(test));
      expect(decision).toMatchObject({ outcome: 'sign', issuer: { ckaId: '01' } });
      const digest = hash('sha256', item.tbs, 'buffer');
      expect(decision.outcome === 'sign' && decision.toSign).toEqual({ digest });
    }
  });

  it.each<[string, Partial<CrlTemplate>, RegExp]>([
    ['another issuer', { issuerName: rdnName({ commonName: 'Other' }) }, /names another issuer/],
    ["another issuer's key id", { authorityKeyId: 'ab'.repeat(20) }, /authorityKeyId/],
    ['another algorithm', { algorithm: 'ecdsa-sha384' }, /algorithm/],
    ['a thisUpdate ahead', { thisUpdateSeconds: nowSeconds + 1 }, /in the future/],
    ['a nextUpdate that is thisUpdate', { nextUpdateSeconds: nowSeconds }, /not after/],
    ['a nextUpdate too far away', { nextUpdateSeconds: nowSeconds + 10 * 86_400 + 1 }, /too far away/],
    ['an IDP on a full CRL', { idpUrl: shardUrl('3') }, /a full CRL has no/],
    ["a number that is not its leaf's", { crlNumber: last + 1n }, /not the one in its leaf/],
  ])('is refused with %s', (_what, overrides, why) => {
    expect(refusal(crlItem(test, { tbs: crlTbs(test, overrides) }))).toMatch(why);
  });

  it('is refused with a number far ahead of time and of the last one', () => {
    const ahead = last + 60_000n;
    const numbered = (crlNumber: bigint, context: Partial<PolicyContext> = {}) =>
      decide(crlItem(test, { crlNumber }), policyContext(test, context)).outcome;
    expect(numbered(ahead)).toBe('sign');
    expect(refusal(crlItem(test, { crlNumber: ahead + 1n }))).toMatch(/too far ahead/);
    const crlNumbers = numbersAfter({ scope: 'full', crlNumber: ahead });
    expect(numbered(ahead + 2n ** 20n, { crlNumbers })).toBe('sign');
    expect(refusal(crlItem(test, { crlNumber: ahead + 2n ** 20n + 1n }), { crlNumbers })).toMatch(/too far/);
  });

  it('is refused with a scope that its IDP does not say', () => {
    const noIdp = crlItem(test, { scope: '3', tbs: crlTbs(test) });
    expect(refusal(noIdp)).toMatch(/needs a critical issuingDistributionPoint/);
    const other = crlItem(test, { scope: '3', tbs: crlTbs(test, { idpUrl: shardUrl('4') }) });
    expect(refusal(other)).toMatch(/not its shard's URL/);
    const foreign = crlTbs(test, { idpUrl: `${publicationUrl}/crl/${'ab'.repeat(20)}/3.crl` });
    expect(refusal(crlItem(test, { scope: '3', tbs: foreign }))).toMatch(/not its shard's URL/);
    for (const scope of ['deltas', '03', 'all'])
      expect(refusal(crlItem(test, { scope }))).toMatch(/neither full, delta nor a shard/);
  });

  const indicator = (base: bigint, isCritical = true) =>
    sequence(oid('2.5.29.27'), ...(isCritical ? [boolean(true)] : []), octetString(integer(base)));
  const delta = (extension: Buffer, overrides: Partial<CrlTemplate> = {}) =>
    crlItem(test, { scope: 'delta', tbs: withCrlExtension(crlTbs(test, overrides), extension) });

  it('of scope delta is signed with a critical indicator of a base not above it, beside a full one of its number', () => {
    const crlNumbers = numbersAfter({ scope: 'full', crlNumber: last });
    for (const base of [0n, last - 1n, last])
      expect(decide(delta(indicator(base)), policyContext(test, { crlNumbers })).outcome).toBe('sign');
    expect(refusal(delta(indicator(last + 1n)))).toMatch(/above its own number/);
    expect(refusal(delta(indicator(1n, false)))).toMatch(/needs a critical/);
    expect(refusal(crlItem(test, { scope: 'delta' }))).toMatch(/needs a critical/);
    expect(refusal(delta(indicator(1n), { idpUrl: shardUrl('3') }))).toMatch(/has no issuing/);
    const again = numbersAfter({ scope: 'delta', crlNumber: last });
    expect(refusal(delta(indicator(1n)), { crlNumbers: again })).toMatch(/not above/);
  });

  it('takes entries back as a delta only', () => {
    const back = encodeRevoked({
      serial: parseSerial('01ab'),
      dateSeconds: nowSeconds - 60,
      reason: 'removeFromCRL',
    });
    expect(decide(delta(indicator(1n), { revoked: [back] }), policyContext(test)).outcome).toBe('sign');
    expect(refusal(crlItem(test, { tbs: crlTbs(test, { revoked: [back] }) }))).toMatch(/only a delta/);
  });

  it('is refused as a delta, or with a critical extension of another kind', () => {
    expect(refusal(crlItem(test, { tbs: withCrlExtension(crlTbs(test), indicator(1n)) }))).toMatch(/delta/);
    const unknown = sequence(oid('1.2.3.4'), boolean(true), octetString(Buffer.from([5, 0])));
    expect(refusal(crlItem(test, { tbs: withCrlExtension(crlTbs(test), unknown) }))).toMatch(/critical/);
  });

  it('is refused where another was sent than the one in its leaf (I1), or none', () => {
    const item = crlItem(test);
    const uploads = new Uploads(['ecdsa-sha256']);
    expect(refusal(item, { uploads })).toMatch(/was not sent/);
    expect(send(uploads, crlTbs(test, { nextUpdateSeconds: nowSeconds + 5 }))).toBe(true);
    expect(refusal(item, { uploads })).toMatch(/was not sent/);
    expect(send(uploads, item.tbs)).toBe(true);
    expect(decide(item, policyContext(test, { uploads })).outcome).toBe('sign');
  });

  it('is refused where the TBS is not a CRL', () => {
    for (const tbs of [Buffer.from('junk'), Buffer.alloc(0), Buffer.from([0x30, 0])])
      expect(decide(crlItem(test, { tbs }), policyContext(test)).outcome).toBe('refuse');
  });
});

describe('CRL numbers', () => {
  it('rise within a scope', () => {
    const crlNumbers = numbersAfter({ scope: 'full', crlNumber: last });
    expect(refusal(crlItem(test), { crlNumbers })).toMatch(/not above/);
    expect(refusal(crlItem(test, { crlNumber: last - 1n }), { crlNumbers })).toMatch(/not above/);
    expect(decide(crlItem(test, { crlNumber: last + 1n }), policyContext(test, { crlNumbers })).outcome).toBe(
      'sign',
    );
  });

  it("are at most ten minutes below the issuer's last in another scope, and above all that were known at the start", () => {
    const crlNumbers = numbersAfter({ scope: 'full', crlNumber: last });
    const inOther = (crlNumber: bigint) => crlItem(test, { scope: '3', crlNumber });
    expect(refusal(inOther(last - 600_001n), { crlNumbers })).toMatch(/far below .* the issuer's last/);
    for (const number of [last - 600_000n, last])
      expect(decide(inOther(number), policyContext(test, { crlNumbers })).outcome).toBe('sign');
    crlNumbers.begin();
    for (const number of [last - 600_000n, last])
      expect(refusal(inOther(number), { crlNumbers })).toMatch(/last before this start/);
    expect(decide(inOther(last + 1n), policyContext(test, { crlNumbers })).outcome).toBe('sign');
  });

  it('let a logged CRL be signed again under its own number, and no other CRL under it', () => {
    const mine = crlItem(test);
    const other = crlItem(test, { tbs: crlTbs(test, { nextUpdateSeconds: nowSeconds + 7 }) });
    const first = decide(mine, policyContext(test));
    if (first.outcome !== 'sign' || !first.crl) throw new Error('signed');
    const crlNumbers = numbersAfter({ scope: '3', crlNumber: last + 9n });
    crlNumbers.raise(test.issuerKeyId, first.crl);
    const again = { crlNumbers, occasion: 'again' } as const;
    expect(decide(mine, policyContext(test, again)).outcome).toBe('sign');
    expect(refusal(other, again)).toMatch(/not above/);
    crlNumbers.raise(test.issuerKeyId, { scope: 'full', crlNumber: last + 10n, tbsSha256: Buffer.alloc(32) });
    expect(refusal(mine, again)).toMatch(/not above/);
  });
});
