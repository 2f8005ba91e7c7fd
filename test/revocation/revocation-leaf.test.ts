import { afterEach, beforeEach, expect, test } from 'vitest';
import { decisionContext, decodeLeaf } from '../../src/log/leaf.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

let authority: SoftwareAuthority;
beforeEach(async () => void (authority = await softwareAuthority()));
afterEach(() => authority.close());

test('the leaf of a revocation commits to who revoked, and tells nobody without the salt', async () => {
  const { entry, tokenId } = await registered(authority, 'orders', { uses: 2 });
  const publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: () => undefined,
    alarm: () => undefined,
  });
  const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  const salts = new Set<string>();
  for (const operator of ['uid:0', 'uid:1234']) {
    const { record } = await authority.issuance.issue(requestFor(entry, tokenId));
    await revocation.revoke({ by: 'serial', serial: record.serial, only: true }, 'superseded', operator);
    const stored = authority.store.revocation(authority.issuer.keyId, record.serial);
    if (!stored) throw new Error('it is not stored');
    const [bytes = Buffer.alloc(0)] = authority.store.leaves(stored.leafIndex, stored.leafIndex + 1);
    expect(stored.operator).toBe(operator);
    expect(decodeLeaf(bytes).context).toEqual(decisionContext(stored.salt, `{"operator":"${operator}"}`));
    expect(bytes.includes('uid:')).toBe(false);
    salts.add(stored.salt.toString('hex'));
  }
  expect(salts.size).toBe(2);
  await publisher.close();
});
