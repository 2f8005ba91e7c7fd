import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { shardOf } from '../../src/core/publication.ts';
import { newSerial } from '../../src/core/serial.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { revocationLeaf } from '../../src/sequencer/record.ts';
import type { Mutation } from '../../src/store/port.ts';
import { becomes } from '../invariants/support/refusal.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

/** Its full CRL is above the size that has a lane of its own. */
const count = 24_000;

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let rowsRead: number;

beforeEach(async () => {
  authority = await softwareAuthority();
  const { issuer, store, clock, sequencer } = authority;
  const at = { revokedAtMs: clock.now() - 3600_000, notAfterMs: clock.now() + 3600_000 };
  const mutations = Array.from({ length: count }, (): Mutation => {
    const serial = newSerial(0x2a, randomBytes);
    const revocation = {
      ...{ issuerKeyId: issuer.keyId, serial, shard: shardOf(serial, 16), ...at },
      reason: 'superseded' as const,
      ...{ operator: 'uid:0', salt: randomBytes(16) },
    };
    const leaf = revocationLeaf(at.revokedAtMs, issuer.keyId, revocation);
    return { kind: 'revocation', leaf, revocation, blockKeySha256: undefined };
  });
  for (let from = 0; from < count; from += 4000)
    await Promise.all(mutations.slice(from, from + 4000).map((mutation) => sequencer.record(mutation)));
  const [standing, after] = [store.standingBySerial.bind(store), store.revocationsAfter.bind(store)];
  const counted = <Row>(rows: Row[]): Row[] => {
    rowsRead += rows.length;
    return rows;
  };
  store.standingBySerial = (...asked) => counted(standing(...asked));
  store.revocationsAfter = (...asked) => counted(after(...asked));
  rowsRead = 0;
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: () => undefined,
    alarm: (scope, problems) => expect.fail(`${scope}: ${problems.join()}`),
  });
}, 60_000);
afterEach(async () => {
  await publisher.close();
  await authority.close();
});

test('many revocations are published, and one more reads what is new', async () => {
  await publisher.start();
  expect(await becomes(() => publisher.current().length === 18, 40_000)).toBe(true);
  expect(publisher.current().find(({ scope }) => scope === 'full')?.der.list.count).toBe(count);
  rowsRead = 0;
  const { entry, tokenId } = await registered(authority);
  const { record } = await authority.issuance.issue(requestFor(entry, tokenId));
  const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  const target = { by: 'serial', serial: record.serial, only: true } as const;
  expect(await revocation.revoke(target, 'superseded', 'uid:0')).toMatchObject({ published: true });
  // Shard, delta, the full CRL, and the delta of the full one.
  expect(rowsRead).toBeLessThanOrEqual(4);
}, 60_000);
