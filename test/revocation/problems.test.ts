// What keeps peers from seeing a revocation is told to those who watch: readiness, status, doctor.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CrlPublishers } from '../../src/revocation/publishers.ts';
import type { ServerIdentity } from '../../src/authority/server-identity.ts';
import type { Serial } from '../../src/core/serial.ts';
import { readinessOf } from '../../src/operator/readiness.ts';
import { statusView } from '../../src/operator/status.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { becomes } from '../invariants/support/refusal.ts';
import { bendRevocations } from '../support/bent-revocations.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let revocation: Revocation;

beforeEach(async () => {
  authority = await softwareAuthority();
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: () => undefined,
    alarm: () => undefined,
  });
  await publisher.start();
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  expect(await becomes(() => publisher.current().length === 18 && told().length === 0)).toBe(true);
});
afterEach(async () => {
  await publisher.close();
  await authority.close();
});

/** What each watcher is told, which is the same. */
function told(): string[] {
  const identity = { problem: () => undefined } as ServerIdentity;
  const { issuer } = authority;
  const parts = { ...authority, issuers: [issuer], publisher: new CrlPublishers([publisher]) };
  const crl = readinessOf({ ...parts, identity, pushed: () => [] }, { problem: undefined }).find(
    ({ name }) => name === 'crl',
  );
  const which = { hasStandby: false, rootKeyId: '', pushed: () => [] };
  const status = statusView({ ...parts, ...which, trustDomain, rootPin: '' });
  const doubt = authority.clockGuard.doubt();
  const problems = status.problems.filter((one) => one !== doubt);
  expect(crl?.problem ?? '').toBe(problems.join('; '));
  expect(status.state).toBe(status.problems.length === 0 ? 'ready' : 'degraded');
  return problems;
}

async function issued(): Promise<Serial> {
  const { entry, tokenId } = await registered(authority);
  return (await authority.issuance.issue(requestFor(entry, tokenId))).record.serial;
}

function revoke(serial: Serial) {
  return revocation.revoke({ by: 'serial', serial, only: true }, 'superseded', 'uid:0');
}

test('what the gate holds back, until it lets out what follows', async () => {
  const serial = await issued();
  const unbend = bendRevocations(authority.store, (one) => ({ ...one, reason: 'keyCompromise' }));
  const answer = revoke(serial);
  expect(await becomes(() => told().length > 0)).toBe(true);
  expect(told().join()).toMatch(/not published: .*another date or reason/);
  unbend();
  expect(await answer).toMatchObject({ published: true });
  expect(await becomes(() => told().length === 0)).toBe(true);
});

test('what waits for longer than a publication takes', async () => {
  const serial = await issued();
  const { signerAnswers } = authority.sequencer;
  let asked = 0;
  authority.sequencer.signerAnswers = () => ++asked < 0;
  const answer = revoke(serial);
  expect(await becomes(() => asked > 0)).toBe(true);
  expect(told()).toEqual([]);
  authority.clock.pass(5_001);
  expect(told().join()).toMatch(/not published for 5 s and more: CRL \d+ full/);
  authority.sequencer.signerAnswers = signerAnswers;
  expect(await answer).toMatchObject({ published: true });
  expect(await becomes(() => told().length === 0)).toBe(true);
});

test('what peers refuse for its times', () => {
  authority.clock.step(-3600_000);
  expect(told(), 'a clock in doubt is a problem of its own').toEqual([]);
  authority.clockGuard.accept();
  expect(told()).toEqual([
    expect.stringMatching(/^dated in the future, .*: CRL (?=.*full)(?=.* 15).*delta$/),
  ]);
  authority.clock.step(3600_000);
  authority.clockGuard.accept();
  expect(told()).toEqual([]);
  authority.clock.pass(24 * 3600_000);
  expect(told()[0]).toMatch(/past its nextUpdate/);
});
