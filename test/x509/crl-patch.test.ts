import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseSerial, type Serial } from '../../src/core/serial.ts';
import { CrlList } from '../../src/x509/crl-list.ts';
import { applyPatch, makePatch } from '../../src/x509/crl-patch.ts';
import { buildCrl, type CrlBytes, encodeRevoked, joinedCrl, wholeCrl } from '../../src/x509/crl-tbs.ts';
import { makeRoot, nowSeconds } from './authority.ts';

const serialOf = (n: number): Serial => parseSerial(`01${n.toString(16).padStart(32, '0')}`);
const { name: issuerName } = makeRoot();

/** A signed CRL as far as a patch looks at it. */
function crlOf(list: CrlList, crlNumber: bigint): CrlBytes {
  const tbs = buildCrl({
    ...{ algorithm: 'ecdsa-sha256' as const, issuerName, authorityKeyId: 'ab'.repeat(20), crlNumber },
    ...{ thisUpdateSeconds: nowSeconds, nextUpdateSeconds: nowSeconds + 3600, revoked: list },
  });
  return wholeCrl(tbs, 'ecdsa-sha256', Buffer.from(crlNumber.toString(16).padStart(8, '0'), 'hex'));
}

const entryOf = (n: number, kind: number): Buffer =>
  encodeRevoked({
    serial: serialOf(n),
    dateSeconds: nowSeconds + kind,
    reason: kind === 0 ? 'unspecified' : kind === 1 ? 'certificateHold' : 'keyCompromise',
    ...(kind === 2 && { invalidityDateSeconds: nowSeconds - 60 }),
  });

it('a patched CRL is the later one byte for byte, whatever came, went or changed', async () => {
  const change = fc.tuple(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: -1, max: 2 }));
  const some = fc.array(change, { maxLength: 1200 });
  await fc.assert(
    fc.asyncProperty(some, some, fc.boolean(), async (first, then, anew) => {
      const of = (changes: typeof first): Map<Serial, Buffer | undefined> =>
        new Map(changes.map(([n, kind]) => [serialOf(n), kind < 0 ? undefined : entryOf(n, kind)]));
      const list = CrlList.empty.with(of(first));
      const before = crlOf(list, 4095n);
      // A list that shares nothing with the one before it, as after a restart, is compared all the same.
      const later = list.with(of(then));
      const after = crlOf(anew ? CrlList.read(later.pieces.map(({ bytes }) => bytes)) : later, 65_536n);
      const patch = await makePatch(before, after, 1e6);
      expect(patch && (await applyPatch(joinedCrl(before), patch)).equals(joinedCrl(after))).toBe(true);
    }),
    { numRuns: 60 },
  );
}, 60_000);

it('carries what differs and nothing else', async () => {
  const list = CrlList.of(Array.from({ length: 5000 }, (_, n) => entryOf(n + 1, 0)));
  const before = crlOf(list, 1n);
  const changes = new Map([
    [serialOf(17), undefined],
    [serialOf(4711), entryOf(4711, 1)],
    [serialOf(9000), entryOf(9000, 2)],
  ]);
  const patch = await makePatch(before, crlOf(list.with(changes), 2n), 1e6);
  expect(patch?.removed).toEqual([serialOf(17)]);
  expect(patch?.added).toEqual(Buffer.concat([entryOf(4711, 1), entryOf(9000, 2)]));
});

it('is none where it would be larger than allowed', async () => {
  const [before, after] = [CrlList.empty, CrlList.of([entryOf(1, 1), entryOf(2, 1)])];
  expect(await makePatch(crlOf(before, 1n), crlOf(after, 2n), 100)).toBeUndefined();
});

it('that does not belong to the CRL is refused', async () => {
  const [before, after] = [CrlList.of([entryOf(1, 0), entryOf(2, 0)]), CrlList.of([entryOf(2, 0)])];
  const patch = await makePatch(crlOf(before, 1n), crlOf(after, 2n), 1e6);
  if (!patch) throw new Error('no patch');
  await expect(applyPatch(joinedCrl(crlOf(after, 2n)), patch)).rejects.toThrow(/not listed/);
  for (let length = 0; length < 60; length += 1)
    await expect(applyPatch(joinedCrl(crlOf(before, 1n)).subarray(0, length), patch)).rejects.toThrow(/./);
  const cut = { ...patch, added: entryOf(3, 1).subarray(0, -1) };
  await expect(applyPatch(joinedCrl(crlOf(before, 1n)), cut)).rejects.toThrow(/cut short|longer/);
});
