// I12 time: issuance stops while the wall clock is in doubt, by any road; revocations are always taken; nothing is dropped
// from a CRL; the operator resolves it, and that is logged.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CrlPublishers } from '../../src/revocation/publishers.ts';
import type { Serial } from '../../src/core/serial.ts';
import { ClockGuard } from '../../src/issuance/clock-guard.ts';
import { decodeLeaf } from '../../src/log/leaf.ts';
import { OperatorVerbs } from '../../src/operator/verbs.ts';
import { WorkloadEntries } from '../../src/registration/workload-entries.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { MassRevocations } from '../../src/revocation/mass.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { FakeClock } from '../fakes/clock.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';
import { Enrollee, enrollmentOver, newToken, tokensOf } from './support/enrollee.ts';
import { Client, listeningServer } from './support/listening-server.ts';
import { becomes, codeOf } from './support/refusal.ts';
import { readPublished } from '../support/crl-bytes.ts';

const dayMs = 86_400_000;
const hourMs = 3_600_000;

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let revocation: Revocation;
let published: PublishedCrl[];

beforeEach(async () => {
  authority = await softwareAuthority();
  published = [];
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: (crl) => published.push(crl),
    alarm: () => undefined,
  });
  await publisher.start();
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
});
afterEach(async () => {
  await publisher.close();
  await authority.close();
});

function full() {
  const found = publisher.current().find((one) => one.scope === 'full');
  if (!found) throw new Error('no full CRL');
  return readPublished(found);
}

async function issue(): Promise<{ serial: Serial; notAfterMs: number }> {
  const { entry, tokenId } = await registered(authority);
  const { record } = await authority.issuance.issue(requestFor(entry, tokenId));
  return record;
}

async function mayIssue(): Promise<string> {
  const { entry, tokenId } = await registered(authority);
  return codeOf(() => authority.issuance.issue(requestFor(entry, tokenId)));
}

/** The mark as the server's job keeps it. */
async function keepMark(guard = authority.clockGuard): Promise<void> {
  const mark = guard.nextMark();
  if (mark !== undefined) await authority.store.setClockMark(mark);
}

describe('issuance', () => {
  test.each([
    [0, 'allowed'],
    [-5_000, 'allowed'],
    [60_000, 'allowed'],
  ])('goes on where the wall clock is off by %i ms', async (ms, code) => {
    await keepMark();
    authority.clock.step(ms);
    expect(await mayIssue()).toBe(code);
  });

  test.each([-5_001, -hourMs, -10 * dayMs, 60_001, hourMs, 10 * dayMs, 3650 * dayMs])(
    '[guard] stops where the wall clock is off by %i ms',
    async (ms) => {
      await keepMark();
      authority.clock.step(ms);
      expect(await mayIssue()).toBe('policy-clock');
    },
  );

  test('goes on however long the server runs: both clocks tell the same', async () => {
    for (let day = 0; day < 40; day += 1) {
      authority.clock.pass(dayMs);
      await keepMark();
    }
    expect(await mayIssue()).toBe('allowed');
  });

  test('[guard] stops where the clock was set ahead in small steps', async () => {
    for (let step = 0; step < 4; step += 1) {
      authority.clock.step(20_000);
      authority.clock.pass(1_000);
      await keepMark();
    }
    expect(await mayIssue()).toBe('policy-clock');
  });

  test('[guard] stops by every road, and takes nothing of what asked for it', async () => {
    const enrollment = enrollmentOver(authority);
    const { token, tokenId } = await newToken(authority);
    const other = await newToken(authority, { spiffeId: `spiffe://${trustDomain}/other`, uses: 2 });
    const { issued } = await new Enrollee().enroll(enrollment, other.token);
    const standing = authority.store.certificate(issued.record.issuerKeyId, issued.record.serial);
    if (!standing) throw new Error('in the store');
    await keepMark();
    const server = await listeningServer(authority);
    const client = await Client.connect(server);
    authority.clock.step(-hourMs);
    const before = { leaves: authority.store.treeSize(), signed: authority.signer.signedLeaves.length };
    const roads: [string, () => unknown][] = [
      ['enrollment', () => new Enrollee().enroll(enrollment, token)],
      ['renewal', () => new Enrollee().renew(enrollment, standing, issued.der)],
      ['token', () => newToken(authority)],
      [
        "the server's own certificate",
        () =>
          authority.issuance.issue({
            ...requestFor({} as never, undefined),
            entry: undefined,
            names: standing as never,
          }),
      ],
    ];
    for (const [road, attempt] of roads) expect(await codeOf(attempt), road).toBe('policy-clock');
    const answered = await client.enroll(token);
    expect([answered.status, answered.code, answered.headers['retry-after']]).toEqual([
      503,
      'policy-clock',
      '60',
    ]);
    expect({ leaves: authority.store.treeSize(), signed: authority.signer.signedLeaves.length }).toEqual(
      before,
    );
    expect(authority.store.token(tokenId)?.usesTaken).toBe(0);
    // The clock is right again: the same token still counts.
    authority.clock.step(hourMs);
    expect((await client.enroll(token)).code).toBe('allowed');
    client.close();
    await server.close();
  });

  test('[guard] with the clock an hour back brings no expired certificate back to life', async () => {
    const { token } = await newToken(authority);
    const server = await listeningServer(authority);
    const first = await Client.connect(server);
    const { identity } = await first.enroll(token);
    authority.clock.pass(2 * hourMs);
    await keepMark();
    authority.clock.step(-1.5 * hourMs);
    const client = await Client.connect(server, identity);
    expect((await client.renew()).code).toBe('policy-clock');
    first.close();
    client.close();
    await server.close();
  });
});

describe('the mark', () => {
  test('[guard] is what a restart goes by: a clock that was set back meanwhile stays in doubt', async () => {
    authority.clock.pass(hourMs);
    await keepMark();
    for (const behindMs of [5_001, hourMs - 1]) {
      const mark = authority.store.clockMark();
      const clock = new FakeClock(mark.wallMs - behindMs);
      expect(new ClockGuard(clock, mark, 'another boot').doubt()).toContain('behind');
    }
  });

  test('[guard] is what a restart goes by: a clock that was set ahead stays in doubt', async () => {
    authority.clock.pass(hourMs);
    await keepMark();
    authority.clock.step(9 * dayMs);
    const restarted = new ClockGuard(authority.clock, authority.store.clockMark(), 'boot');
    expect(restarted.doubt()).toContain('ahead');
    expect(restarted.nextMark()).toBeUndefined();
  });

  test('[guard] does not move while the clock is in doubt, so that a jump ahead does not become the truth', async () => {
    authority.clock.pass(hourMs);
    await keepMark();
    const mark = authority.store.clockMark().wallMs;
    authority.clock.step(10 * dayMs);
    for (let second = 0; second < 100; second += 1) {
      authority.clock.pass(1000);
      await keepMark();
    }
    expect(authority.store.clockMark().wallMs).toBe(mark);
    authority.clock.step(-10 * dayMs);
    expect(await mayIssue()).toBe('allowed');
    await keepMark();
    expect(authority.store.clockMark().wallMs).toBe(mark + 100_000);
  });

  test('[guard] never goes back by itself', async () => {
    authority.clock.pass(hourMs);
    await keepMark();
    const mark = authority.store.clockMark().wallMs;
    for (const ms of [-1, -4_000, -hourMs]) {
      authority.clock.step(ms);
      await keepMark();
      expect(authority.store.clockMark().wallMs).toBe(mark);
    }
    expect(authority.clockGuard.doubt()).toContain('behind');
  });
});

describe('a revocation', () => {
  beforeEach(async () => {
    expect(await becomes(() => publisher.current().length === 18)).toBe(true);
  });

  test.each([
    ['an hour back', -hourMs],
    ['ten days back', -10 * dayMs],
  ])('[guard] with the clock %s is taken, published, and dated by the mark', async (_name, ms) => {
    const { serial } = await issue();
    authority.clock.pass(60_000);
    await keepMark();
    const mark = authority.store.clockMark().wallMs;
    const before = full();
    authority.clock.step(ms);
    const result = await revocation.revoke({ by: 'serial', serial, only: false }, 'keyCompromise', 'uid:0');
    expect(result).toMatchObject({ published: true, revoked: [{ serial }] });
    const stored = authority.store.revocation(authority.issuer.keyId, serial);
    expect(stored?.revokedAtMs).toBe(mark);
    expect(full().has(serial)).toBe(true);
    expect(full().thisUpdateSeconds).toBeGreaterThan(before.thisUpdateSeconds);
    expect((full().crlNumber ?? 0n) > (before.crlNumber ?? 0n)).toBe(true);
  });

  test('[guard] with the clock ten days ahead is taken, and no peer is shown a CRL from the future', async () => {
    const { serial } = await issue();
    const truthMs = authority.clock.now();
    authority.clock.step(10 * dayMs);
    const revoking = () => revocation.revoke({ by: 'serial', serial, only: false }, 'keyCompromise', 'uid:0');
    expect(await codeOf(revoking)).toBe('allowed');
    expect(full().has(serial)).toBe(true);
    expect(full().thisUpdateSeconds * 1000).toBeLessThanOrEqual(truthMs);
    for (const { dateSeconds } of full().revoked()) expect(dateSeconds * 1000).toBeLessThanOrEqual(truthMs);
  });

  test.each(['serial', 'id', 'token', 'entry'] as const)(
    '[guard] by %s finds what only the wrong clock calls expired',
    async (by) => {
      const { entry, tokenId } = await registered(authority);
      const { record } = await authority.issuance.issue(requestFor(entry, tokenId));
      authority.clock.step(10 * dayMs);
      const targets = {
        serial: { by: 'serial', serial: record.serial, only: false },
        id: { by: 'id', spiffeId: record.spiffeId },
        token: { by: 'token', tokenId },
        entry: { by: 'entry', entryId: entry.entryId },
      } as const;
      const code = await codeOf(() => revocation.revoke(targets[by], 'superseded', 'uid:0'));
      expect([code, authority.store.revocation(record.issuerKeyId, record.serial)?.serial]).toEqual([
        'allowed',
        record.serial,
      ]);
    },
  );
});

describe('a CRL', () => {
  test('[guard] drops nothing while the clock is in doubt, however often it is made', async () => {
    expect(await becomes(() => publisher.current().length === 18)).toBe(true);
    const { serial } = await issue();
    await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
    authority.clock.step(10 * dayMs);
    for (let round = 0; round < 3; round += 1) {
      authority.clock.pass(61_000);
      await republished();
      expect(full().has(serial)).toBe(true);
    }
    expect(authority.store.revocation(authority.issuer.keyId, serial)?.mayLeave).toBe(false);
  });

  test('drops what has expired once the clock is believed', async () => {
    expect(await becomes(() => publisher.current().length === 18)).toBe(true);
    const { serial } = await issue();
    await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
    authority.clock.step(10 * dayMs);
    await republished();
    authority.clockGuard.accept();
    await republished();
    await republished();
    expect(
      await becomes(() => authority.store.revocation(authority.issuer.keyId, serial)?.mayLeave === true),
    ).toBe(true);
    await republished();
    expect(full().has(serial)).toBe(false);
  });

  async function republished(): Promise<void> {
    const before = published.length;
    publisher.publishAll(true);
    expect(await becomes(() => published.length >= before + 19)).toBe(true);
  }
});

describe('the operator', () => {
  function verbs(): OperatorVerbs {
    const metrics = new Metrics();
    const backup = () => Promise.resolve();
    const nothing = () => Promise.resolve({});
    return new OperatorVerbs({
      ...{ ...authority, tokens: tokensOf(authority), revocation, metrics },
      workloadEntries: new WorkloadEntries(authority, trustDomain),
      massRevocations: new MassRevocations({ ...authority, revocation, failed: () => undefined }),
      publisher: new CrlPublishers([publisher]),
      ...{ status: () => ({}), backup, importRenewal: nothing, takeChain: nothing, renewNow: () => 0 },
    });
  }

  test.each([
    ['back', -hourMs],
    ['ahead', 10 * dayMs],
  ])(
    'who accepts a clock that was set %s is in the log, and issuance goes on by that clock',
    async (_name, ms) => {
      await keepMark();
      authority.clock.step(ms);
      const answer = await verbs().acceptClock('uid:1234');
      expect(answer).toMatchObject({ accepted: expect.any(String) as unknown });
      expect(authority.store.clockMark().wallMs).toBe(authority.clock.now());
      const size = authority.store.treeSize();
      const leaves = authority.store.leaves(0, size).map(decodeLeaf);
      const deeds = leaves
        .filter((leaf) => leaf.type === 'operator')
        .map((leaf) => JSON.parse(leaf.body.toString()) as object);
      expect(deeds).toContainEqual(expect.objectContaining({ verb: 'clock-accepted', operator: 'uid:1234' }));
      expect(await mayIssue()).toBe('allowed');
    },
  );

  test('[guard] has to accept: time that passes does not resolve a doubt', async () => {
    await keepMark();
    authority.clock.step(10 * dayMs);
    authority.clock.pass(30 * dayMs);
    await keepMark();
    expect(await mayIssue()).toBe('policy-clock');
  });

  test('who accepts a clock and is not logged has not accepted it', async () => {
    await keepMark();
    authority.clock.step(10 * dayMs);
    const { store } = authority;
    const commit = store.commitBatch.bind(store);
    store.commitBatch = () => Promise.reject(new Error('SQLITE_FULL'));
    expect(await codeOf(() => verbs().acceptClock('uid:1234'))).not.toBe('allowed');
    store.commitBatch = commit;
    expect(authority.clockGuard.doubt() ?? 'believed').toContain('jumped');
  });
});
