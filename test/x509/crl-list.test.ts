import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseSerial, type Serial } from '../../src/core/serial.ts';
import type { ParsedRevoked } from '../../src/x509/crl-entries.ts';
import { CrlList } from '../../src/x509/crl-list.ts';
import {
  buildCrl,
  buildCrlTbs,
  crlChunks,
  crlLength,
  encodeRevoked,
  joinedCrl,
} from '../../src/x509/crl-tbs.ts';
import { parseTbsCrl } from '../../src/x509/crl.ts';
import { makeIssuer, makeRoot, nowSeconds } from './authority.ts';

const serialOf = (n: number): Serial => parseSerial(`01${n.toString(16).padStart(32, '0')}`);
const entry = (n: number, dateSeconds = nowSeconds): ParsedRevoked => ({
  serial: serialOf(n),
  dateSeconds,
  reason: n % 3 === 0 ? 'unspecified' : 'superseded',
});
const listOf = (entries: readonly ParsedRevoked[]): CrlList =>
  CrlList.of(entries.toSorted((a, b) => (a.serial < b.serial ? -1 : 1)).map(encodeRevoked));

describe('a list of CRL entries in pieces', () => {
  const numbers = fc.uniqueArray(fc.integer({ min: 0, max: 3_000 }), { maxLength: 1_500 });

  it('is, after any changes, what a list made at once is', () => {
    const change = fc.tuple(fc.integer({ min: 0, max: 3_000 }), fc.boolean(), fc.integer({ min: 0, max: 2 }));
    fc.assert(
      fc.property(
        numbers,
        fc.array(fc.array(change, { maxLength: 800 }), { maxLength: 4 }),
        (first, rounds) => {
          const model = new Map(first.map((n) => [serialOf(n), entry(n)]));
          let list = listOf([...model.values()]);
          for (const round of rounds) {
            const changes = new Map<Serial, Buffer | undefined>();
            for (const [n, stays, later] of round) {
              const revoked = entry(n, nowSeconds + later);
              changes.set(revoked.serial, stays ? encodeRevoked(revoked) : undefined);
              if (stays) model.set(revoked.serial, revoked);
              else model.delete(revoked.serial);
            }
            const before = list;
            list = list.with(changes);
            const changed = [...list.changesSince(before)];
            expect(
              before.with(new Map(changed.map((c) => [c.serial, c.after && encodeRevoked(c.after)]))).count,
            ).toBe(model.size);
            expect(changed.every(({ serial }) => changes.has(serial))).toBe(true);
          }
          const wanted = listOf([...model.values()]);
          const bytes = (one: CrlList) => Buffer.concat(one.pieces.map((piece) => piece.bytes));
          expect(bytes(list).equals(bytes(wanted))).toBe(true);
          expect([list.count, list.byteLength]).toEqual([wanted.count, wanted.byteLength]);
          expect([...list.changesSince(wanted)]).toEqual([]);
          expect(list.pieces.every((piece) => piece.bytes.length <= 32 * 1024)).toBe(true);
          expect(CrlList.read(list.pieces.map((piece) => piece.bytes)).count).toBe(list.count);
          for (const revoked of model.values()) expect(list.find(revoked.serial)).toEqual(revoked);
          expect(list.find(serialOf(9_999))).toBeUndefined();
        },
      ),
      { numRuns: 30 },
    );
  });

  it('tells of two lists what differs, in serial order', () => {
    fc.assert(
      fc.property(numbers, numbers, (one, other) => {
        const before = listOf(one.map((n) => entry(n)));
        const after = listOf(other.map((n) => entry(n, n % 5 === 0 ? nowSeconds + 1 : nowSeconds)));
        const expected = [...new Set([...one, ...other])]
          .sort((a, b) => a - b)
          .filter((n) => !(one.includes(n) && other.includes(n) && n % 5 !== 0))
          .map((n) => serialOf(n));
        expect([...after.changesSince(before)].map(({ serial }) => serial)).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });

  it('shares with its predecessor every piece that no change touched', () => {
    const list = listOf(Array.from({ length: 20_000 }, (_, n) => entry(n * 2)));
    const more = list.with(new Map([[serialOf(20_001), encodeRevoked(entry(20_001))]]));
    const old = new Set(list.pieces);
    expect(list.pieces.length).toBeGreaterThan(30);
    expect(more.pieces.filter((piece) => !old.has(piece))).toHaveLength(1);
    expect([...more.changesSince(list)].map(({ serial }) => serial)).toEqual([serialOf(20_001)]);
    expect(list.with(new Map()).pieces).toBe(list.pieces);
  });

  it('is read again strictly: order, form', () => {
    const [one, two] = [encodeRevoked(entry(1)), encodeRevoked(entry(2))];
    expect(CrlList.read([one, two]).count).toBe(2);
    expect(() => CrlList.read([two, one])).toThrow(/serials do not rise/);
    expect(() => CrlList.read([Buffer.concat([one, one])])).toThrow(/serials do not rise/);
    expect(() => CrlList.read([one.subarray(0, one.length - 1)])).toThrow(
      /longer than what contains it|cut short/,
    );
    expect(() => CrlList.read([Buffer.alloc(64, 1)])).toThrow(/another tag/);
  });

  it('makes a CRL that is the same bytes in chunks and in one', () => {
    const issuer = makeIssuer(makeRoot());
    const template = {
      algorithm: 'ecdsa-sha256',
      issuerName: issuer.name,
      thisUpdateSeconds: nowSeconds,
      nextUpdateSeconds: nowSeconds + 60,
      authorityKeyId: issuer.key.info.keyId,
      crlNumber: 7n,
      deltaBase: 5n,
      freshestUrl: 'http://ca.example.org/crl/delta.crl',
    } as const;
    for (const size of [0, 1, 700, 5_000]) {
      const revoked = listOf(
        Array.from({ length: size }, (_, n) => ({ ...entry(n), invalidityDateSeconds: nowSeconds - n })),
      );
      const crl = buildCrl({ ...template, revoked });
      const joined = joinedCrl(crl);
      expect(
        joined.equals(buildCrlTbs({ ...template, revoked: [...revoked.all()].map(encodeRevoked) })),
      ).toBe(true);
      expect(joined).toHaveLength(crlLength(crl));
      expect(crlChunks(crl).reduce((sum, { length }) => sum + length, 0)).toBe(joined.length);
      const parsed = parseTbsCrl(joined);
      expect([parsed.count, parsed.deltaBase, parsed.freshestUrls]).toEqual([
        size,
        5n,
        [template.freshestUrl],
      ]);
      expect([...parsed.revoked()]).toEqual([...revoked.all()]);
    }
  });
});
