import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { CrlKeeper, type CrlKeeperParts } from '../../src/agent/crl-keeper.ts';
import { readHeld } from '../../src/agent/held.ts';
import { readState } from '../../src/agent/state.ts';
import { systemClock } from '../../src/core/clock.ts';
import { isListed, strangerOf } from './support/executable.ts';
import type { FakeAuthority } from './support/fake-authority.ts';
import type { FakeServer } from './support/fake-server.ts';
import { startAuthority, workload } from './support/harness.ts';

let authority: FakeAuthority;
let server: FakeServer;
let one: ReturnType<typeof workload>;
let notices: string[];
let changes: string[];

beforeEach(async () => {
  ({ authority, server } = await startAuthority());
  authority.crlNumber = 90n;
  one = workload(server);
  expect(await one.enroll()).toMatchObject({ code: 0 });
  // The root's CRL changes in ceremonies only.
  const der = authority.crl(authority.root);
  server.crlInstead = (keyId) => (keyId === authority.root.keyId ? { der } : undefined);
  notices = [];
  changes = [];
});

function keeperWith(over: Partial<CrlKeeperParts> = {}): CrlKeeper {
  return new CrlKeeper(readHeld(one.dir, Date.now()), {
    dir: one.dir,
    everyMs: 1000,
    clock: systemClock,
    signal: new AbortController().signal,
    notice: (line) => void notices.push(line),
    exclusively: (work) => work(),
    changed: (change) => void changes.push(change),
    revoked: () => undefined,
    ...over,
  });
}

function revokeSomebody() {
  const serial = strangerOf(authority);
  authority.revoke(serial);
  return serial;
}

const floor = (): bigint | undefined => readState(one.dir)?.seen.crlNumbers.get(authority.issuer.keyId);

describe('a generation that somebody else delivered', () => {
  test('is followed: what peers read is kept fresh, and the hook hears of both', async () => {
    const keeper = keeperWith();
    expect(await keeper.refresh()).toBe(true);
    expect(await one.renew()).toMatchObject({ code: 0 });
    const stranger = revokeSomebody();
    expect(await keeper.refresh()).toBe(true);
    expect(isListed(one.read('crl.pem'), stranger)).toBe(true);
    expect(changes).toEqual(['certificate', 'crl']);
  });

  test('is told once, however it is learnt of', async () => {
    const keeper = keeperWith();
    await one.renew();
    keeper.adopt(readHeld(one.dir, Date.now()));
    keeper.adopt(readHeld(one.dir, Date.now()));
    await keeper.refresh();
    expect(changes).toEqual(['certificate']);
  });
});

describe('a disk that is full for a moment', () => {
  test('is made up for: a round is fine only when what is known stands in crl.pem', async () => {
    const keeper = keeperWith();
    const stranger = revokeSomebody();
    renameSync(join(one.dir, '000001'), join(one.dir, 'away'));
    expect(await keeper.refresh()).toBe(false);
    expect(await keeper.refresh()).toBe(false);
    renameSync(join(one.dir, 'away'), join(one.dir, '000001'));
    expect(await keeper.refresh()).toBe(true);
    expect(isListed(one.read('crl.pem'), stranger)).toBe(true);
    expect(changes).toEqual(['crl']);
    expect(notices, 'each is said once').toEqual([
      expect.stringMatching(/crl\.pem cannot be written/),
      expect.stringContaining('again'),
    ]);
  });
});

describe('the number below which no CRL is taken', () => {
  test('does not fall by a write that waited behind a renewal', async () => {
    const renewed = Promise.withResolvers<void>();
    const waiting = Promise.withResolvers<void>();
    const keeper = keeperWith({
      exclusively: async (work) => {
        waiting.resolve();
        await renewed.promise;
        return work();
      },
    });
    authority.crlNumber = 95n;
    const refreshing = keeper.refresh();
    await waiting.promise;
    authority.crlNumber = 96n;
    expect(await one.renew()).toMatchObject({ code: 0 });
    renewed.resolve();
    await refreshing;
    expect(floor()).toBe(96n);
  });

  test('counts after a crash between agent.json and crl.pem, too', async () => {
    const path = join(one.dir, 'agent.json');
    writeFileSync(path, readFileSync(path, 'utf8').replaceAll('"90"', '"100"'));
    authority.crlNumber = 95n;
    const keeper = keeperWith();
    expect(await keeper.refresh()).toBe(false);
    expect(notices.join('\n')).toContain('has number 95, below 100');
    expect(keeper.crls.has(authority.issuer.keyId)).toBe(false);
    expect(floor()).toBe(100n);
    authority.crlNumber = 100n;
    await keeper.refresh();
    expect(notices.join('\n')).toContain('can be had again');
  });
});
