import 'reflect-metadata';
import * as peculiar from '@peculiar/x509';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Reason, reasonCodes } from '../../src/core/reasons.ts';
import { parseSerial, type Serial } from '../../src/core/serial.ts';
import { verifySignature } from '../../src/x509/algorithm.ts';
import type { ParsedRevoked, RevokedChange } from '../../src/x509/crl-entries.ts';
import { buildCrlTbs, type CrlTemplate, encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { parseCrl, parseTbsCrl } from '../../src/x509/crl.ts';
import { integer, time } from '../../src/x509/der.ts';
import { freshSerial, makeCrl, makeIssuer, makeRoot, nowSeconds } from './authority.ts';

const issuer = makeIssuer(makeRoot());
const template: CrlTemplate = {
  algorithm: 'ecdsa-sha256',
  issuerName: issuer.name,
  thisUpdateSeconds: nowSeconds,
  nextUpdateSeconds: nowSeconds + 86_400,
  authorityKeyId: issuer.key.info.keyId,
  crlNumber: 42n,
  revoked: [],
};
const bySerial = (a: ParsedRevoked, b: ParsedRevoked): number =>
  BigInt(`0x${a.serial}`) < BigInt(`0x${b.serial}`) ? -1 : 1;

describe('a CRL', () => {
  const revoked: ParsedRevoked[] = Object.keys(reasonCodes)
    .map((reason, i) => ({
      serial: freshSerial(),
      dateSeconds: nowSeconds - 3600 * i,
      reason: reason as Reason,
    }))
    .sort(bySerial);
  const der = makeCrl(issuer, {
    revoked: revoked.map(encodeRevoked),
    crlNumber: 1n << 100n,
    idpUrl: 'http://ca.example.org/crl/a/3.crl',
  });
  const parsed = parseCrl(der);

  it('tells what became of each serial since another one: who came, who left, who changed', () => {
    const tbsOf = (list: ParsedRevoked[]) =>
      parseTbsCrl(buildCrlTbs({ ...template, revoked: list.map(encodeRevoked) }));
    const changes = (before: ParsedRevoked[], after: ParsedRevoked[]) => [
      ...tbsOf(after).entries.changesSince(tbsOf(before).entries),
    ];
    expect(changes(revoked, revoked)).toEqual([]);
    expect(changes([], [])).toEqual([]);
    const came = (after: ParsedRevoked) => ({ serial: after.serial, before: undefined, after });
    const left = (before: ParsedRevoked) => ({ serial: before.serial, before, after: undefined });
    expect(changes([], revoked)).toEqual(revoked.map(came));
    expect(changes(revoked, [])).toEqual(revoked.map(left));
    const subset = fc.subarray(revoked);
    fc.assert(
      fc.property(subset, subset, subset, (one, other, moved) => {
        const later = other.map((entry) =>
          moved.includes(entry) ? { ...entry, dateSeconds: entry.dateSeconds + 1 } : entry,
        );
        const expected = revoked.flatMap((entry): RevokedChange[] => {
          const after = later.find(({ serial }) => serial === entry.serial);
          if (!one.includes(entry)) return after ? [came(after)] : [];
          if (!after) return [left(entry)];
          return moved.includes(entry) ? [{ serial: entry.serial, before: entry, after }] : [];
        });
        expect(changes(one, later)).toEqual(expected);
      }),
    );
  });

  it('reads back as it was written, every reason', () => {
    expect(parsed).toMatchObject({
      algorithm: 'ecdsa-sha256',
      issuerName: issuer.name,
      thisUpdateSeconds: nowSeconds - 30,
      nextUpdateSeconds: nowSeconds + 86_400,
      authorityKeyId: issuer.key.info.keyId,
      crlNumber: 1n << 100n,
      idp: {
        urls: ['http://ca.example.org/crl/a/3.crl'],
        onlyContainsUserCerts: true,
        critical: true,
        other: false,
      },
      deltaBase: undefined,
      criticalUnknown: [],
      count: revoked.length,
      ascending: true,
      newestDateSeconds: nowSeconds,
      explicitUnspecified: 0,
    });
    expect([...parsed.revoked()]).toEqual(revoked);
    expect([...parsed.revoked()]).toEqual(revoked);
    expect(verifySignature(parsed.algorithm, issuer.key.info.key, parsed.tbs, parsed.signature)).toBe(true);
    expect(parseTbsCrl(parsed.tbs).count).toBe(revoked.length);
  });

  it('knows who is on it', () => {
    for (const { serial } of revoked) expect(parsed.has(serial)).toBe(true);
    for (let i = 0; i < 1000; i++) expect(parsed.has(freshSerial())).toBe(false);
    expect(parsed.has(revoked[0]?.serial.slice(2) as Serial)).toBe(false);
  });

  it('reads the same to @peculiar/x509', async () => {
    const other = new peculiar.X509Crl(der);
    expect(other.thisUpdate.getTime()).toBe((nowSeconds - 30) * 1000);
    expect(other.nextUpdate?.getTime()).toBe((nowSeconds + 86_400) * 1000);
    expect(
      other.entries.map((entry) => [
        entry.serialNumber,
        entry.revocationDate.getTime() / 1000,
        entry.reason ?? 0,
      ]),
    ).toEqual(revoked.map(({ serial, dateSeconds, reason }) => [serial, dateSeconds, reasonCodes[reason]]));
    expect(await other.verify({ publicKey: new peculiar.PublicKey(issuer.key.info.spki) })).toBe(true);
  });

  it('leaves revokedCertificates and unspecified out (RFC 5280 §5.1.2.6, §5.3.1)', () => {
    const empty = parseTbsCrl(buildCrlTbs(template));
    expect(empty).toMatchObject({ count: 0, ascending: true, newestDateSeconds: undefined, idp: undefined });
    expect([...empty.revoked()]).toEqual([]);
    expect(empty.has(freshSerial())).toBe(false);
    expect(
      encodeRevoked({ serial: parseSerial('01'), dateSeconds: nowSeconds, reason: 'unspecified' }).toString(
        'hex',
      ),
    ).toBe(`3012020101${time(nowSeconds).toString('hex')}`);
    expect(
      encodeRevoked({ serial: parseSerial('01'), dateSeconds: nowSeconds, reason: 'keyCompromise' }).toString(
        'hex',
      ),
    ).toBe(`3020020101${time(nowSeconds).toString('hex')}300c300a0603551d1504030a0101`);
  });

  it('takes each entry as it is', () => {
    const entries = revoked.map(encodeRevoked);
    const tbs = buildCrlTbs({ ...template, revoked: entries });
    entries.forEach((entry) => {
      expect(tbs.includes(entry)).toBe(true);
    });
  });

  it('asserts what cannot be encoded', () => {
    expect(() => buildCrlTbs({ ...template, crlNumber: 1n << 159n })).toThrow(/assertion/);
    expect(() => buildCrlTbs({ ...template, crlNumber: -1n })).toThrow(/assertion/);
    expect(() => buildCrlTbs({ ...template, authorityKeyId: 'x' })).toThrow(/assertion/);
    expect(() => buildCrlTbs({ ...template, idpUrl: 'http://a\n' })).toThrow(/assertion/);
  });

  it('has dates around 2050', () => {
    const [before, after] = [Date.UTC(2049, 11, 31, 23, 59, 59) / 1000, Date.UTC(2050, 0, 1) / 1000];
    const entries = [before, after].map((dateSeconds, i) => ({
      serial: parseSerial(`0${i + 1}`),
      dateSeconds,
      reason: 'superseded' as const,
    }));
    const crl = parseTbsCrl(
      buildCrlTbs({
        ...template,
        thisUpdateSeconds: before,
        nextUpdateSeconds: after,
        revoked: entries.map(encodeRevoked),
      }),
    );
    expect(crl).toMatchObject({
      thisUpdateSeconds: before,
      nextUpdateSeconds: after,
      newestDateSeconds: after,
    });
    expect([...crl.revoked()]).toEqual(entries);
  });
});

describe('any CRL', () => {
  it('round trips', () => {
    const entry = fc.record({
      serial: fc
        .uint8Array({ minLength: 1, maxLength: 19 })
        .map((bytes) => BigInt(`0x${Buffer.from(bytes).toString('hex')}`) + 1n)
        .map((value) => integer(value).subarray(2).toString('hex') as Serial),
      dateSeconds: fc.integer({ min: 0, max: 4_000_000_000 }),
      reason: fc.constantFrom(...(Object.keys(reasonCodes) as Reason[])),
    });
    fc.assert(
      fc.property(fc.uniqueArray(entry, { maxLength: 50, selector: ({ serial }) => serial }), (entries) => {
        const inOrder = [...entries].sort(bySerial);
        const crl = parseTbsCrl(buildCrlTbs({ ...template, revoked: inOrder.map(encodeRevoked) }));
        expect([...crl.revoked()]).toEqual(inOrder);
        expect(crl.ascending).toBe(true);
        for (const { serial } of entries) expect(crl.has(serial)).toBe(true);
        const shuffled = parseTbsCrl(
          buildCrlTbs({ ...template, revoked: [...inOrder].reverse().map(encodeRevoked) }),
        );
        expect(shuffled.ascending).toBe(entries.length < 2);
      }),
      { numRuns: 200 },
    );
  });
});
