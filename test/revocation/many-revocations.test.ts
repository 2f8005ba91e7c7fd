// What one more revocation costs does not grow with those that stand, but for the bytes of the CRL itself.
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { newSerial } from '../../src/core/serial.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import type { RevocationRecord } from '../../src/store/port.ts';
import { becomes } from '../invariants/support/refusal.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

/** More than a call may have arguments. */
const count = 130_000;

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let rowsRead: number;

beforeEach(async () => {
  authority = await softwareAuthority();
  const { issuer, store, clock } = authority;
  const revokedAtMs = clock.now() - 3600_000;
  const random = randomBytes(16 * count);
  const salt = randomBytes(16);
  const standing = Array.from({ length: count }, (_, at): RevocationRecord => {
    const serial = newSerial(0x2a, (size) => random.subarray(size * at, size * (at + 1)));
    const when = { revokedAtMs, notAfterMs: clock.now() + 3600_000, crlDateSeconds: revokedAtMs / 1000 };
    const said = { shard: 0, reason: 'superseded', operator: 'uid:0', mayLeave: false, salt } as const;
    const alone = { invalidityDateSeconds: undefined, followedBy: undefined };
    return { issuerKeyId: issuer.keyId, serial, leafIndex: 0, ...when, ...said, ...alone };
  }).sort((a, b) => (a.serial < b.serial ? -1 : 1));
  const [truth, after] = [store.standingBySerial.bind(store), store.revocationsAfter.bind(store)];
  store.standingBySerial = (keyId, afterSerial, limit) => {
    const from = standing.findIndex(({ serial }) => serial > afterSerial);
    const rows = from < 0 ? truth(keyId, '', limit) : standing.slice(from, from + limit);
    rowsRead += rows.length;
    return rows;
  };
  store.revocationsAfter = (...asked) => {
    const rows = after(...asked);
    rowsRead += rows.length;
    return rows;
  };
  rowsRead = 0;
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: () => undefined,
    alarm: () => undefined,
  });
});
afterEach(async () => {
  await publisher.close();
  await authority.close();
});

test('a start reads the store once for all scopes, a revocation what is new, and there is no limit', async () => {
  publisher.start();
  expect(await becomes(() => publisher.current().length === 17, 25_000)).toBe(true);
  // Once into memory, and once to judge CRLs that have no predecessor.
  expect(rowsRead).toBeLessThanOrEqual(2 * count);
  rowsRead = 0;
  const { entry, tokenId } = await registered(authority);
  const { record } = await authority.issuance.issue(requestFor(entry, tokenId));
  const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  const answer = await revocation.revoke(
    { by: 'serial', serial: record.serial, only: true },
    'superseded',
    'uid:0',
  );
  expect(answer).toMatchObject({ published: true });
  expect(rowsRead).toBe(1);
}, 60_000);
