import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { shardOf } from '../../src/core/publication.ts';
import { newSerial, type Serial } from '../../src/core/serial.ts';
import { CrlDrafts } from '../../src/revocation/crl-drafts.ts';
import { RevokedLists, scopesOf } from '../../src/revocation/revoked-lists.ts';
import type { RevocationRecord } from '../../src/store/records.ts';
import { CrlList } from '../../src/x509/crl-list.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { publicationUrl, type SoftwareAuthority, softwareAuthority } from '../support/software-authority.ts';
import { longestTurnMs } from '../support/turns.ts';

const count = 400_000;
const dateSeconds = 1_700_000_000;
let authority: SoftwareAuthority;
let full: CrlList;
beforeAll(async () => {
  authority = await softwareAuthority();
  const serials = Array.from({ length: count }, fresh).toSorted();
  full = CrlList.of(serials.map((serial) => encodeRevoked({ serial, dateSeconds, reason: 'superseded' })));
}, 60_000);
afterAll(() => authority.close());

function fresh(): Serial {
  return newSerial(0x2a, randomBytes);
}

function event(leafIndex: number): RevocationRecord {
  const serial = fresh();
  return {
    ...{ issuerKeyId: authority.issuer.keyId, serial, shard: shardOf(serial, 16), reason: 'superseded' },
    ...{ revokedAtMs: dateSeconds * 1000, notAfterMs: 2 * dateSeconds * 1000, leafIndex, operator: 'uid:0' },
    ...{ salt: Buffer.alloc(16), crlDateSeconds: undefined, followedBy: undefined, mayLeave: false },
    invalidityDateSeconds: undefined,
  };
}

function open() {
  const lists = new RevokedLists(16);
  lists.adopt('full', full, 0);
  const { issuer } = authority;
  const parts = { issuer, publicationUrl, validitySeconds: 60, backdateSeconds: 60, shardCount: 16, lists };
  return { lists, drafts: new CrlDrafts({ ...parts, previous: new Map(), lastNumber: 0n }) };
}

async function bestOfThreeMs(run: () => Promise<number>): Promise<number> {
  return Math.min(await run(), await run(), await run());
}

test('thousands that are revoked at once hold nobody up, nor does the next base', async () => {
  const nowMs = () => dateSeconds * 1000;
  let listed = 0;
  const longestMs = await bestOfThreeMs(async () => {
    const { lists, drafts } = open();
    await lists.setBase({ crlNumber: 1n, coversTreeSize: 0, list: full });
    for (let leafIndex = 0; leafIndex < 5_000; leafIndex += 1) lists.add(event(leafIndex));
    const taking = await longestTurnMs(() => drafts.takeIn(nowMs));
    const made = drafts.make(['full', 'delta'], { scheduled: false, newBase: true }, nowMs());
    expect(made.map(({ tbs }) => tbs.list.count)).toEqual([count + 5_000, 5_000]);
    const basing = await longestTurnMs(() => lists.setBase({ crlNumber: 1n, coversTreeSize: 0, list: full }));
    listed = lists.of('delta').count;
    return Math.max(taking, basing);
  });
  expect(listed).toBe(5_000);
  expect(longestMs).toBeLessThan(20);
}, 60_000);

test('what is revoked while a base is taken is on its delta', async () => {
  const { lists, drafts } = open();
  for (let leafIndex = 0; leafIndex < 2_000; leafIndex += 1) lists.add(event(leafIndex));
  const occasion = { scheduled: false, newBase: true };
  drafts.make(['full'], occasion, dateSeconds * 1000);
  const basing = lists.setBase({ crlNumber: 1n, coversTreeSize: 0, list: full });
  const late = event(2_000);
  lists.add(late);
  drafts.make(scopesOf(late.serial, 16), occasion, dateSeconds * 1000);
  await basing;
  expect(lists.of('delta').count).toBe(2_001);
  expect(lists.of('delta').find(late.serial)).toBeDefined();
});
