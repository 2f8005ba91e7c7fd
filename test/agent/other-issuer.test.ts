// A trust domain with a standby: a second issuer and a second log key. Peers may hold certificates of either.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { CrlKeeper } from '../../src/agent/crl-keeper.ts';
import { readHeld } from '../../src/agent/held.ts';
import { systemClock } from '../../src/core/clock.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { newLogKey, signedCheckpoint } from '../log/log-keys.ts';
import { isListed, strangerOf } from './support/executable.ts';
import { FakeAuthority, type FakeCa, seconds } from './support/fake-authority.ts';
import type { FakeServer } from './support/fake-server.ts';
import { startAuthority, workload } from './support/harness.ts';

let authority: FakeAuthority;
let server: FakeServer;
let other: FakeCa;
let one: ReturnType<typeof workload>;

beforeEach(async () => {
  ({ authority, server } = await startAuthority());
  other = authority.addIssuer();
  one = workload(server);
});

/** The server's root vouches for these issuers. */
function vouchedFor(...issuers: FakeCa[]): void {
  const statement = authority.statement({ issuers: issuers.map(({ keyId }) => keyId) });
  bent((answer) => ({ ...answer, bundle: authority.bundle(statement) }));
}

function bent(
  bend: (answer: Parameters<NonNullable<FakeServer['bend']>>[0]['answer']) => typeof answer,
): void {
  server.bend = ({ answer }) => bend(answer);
}

const signers = (): (string | undefined)[] =>
  decodePem(one.read('crl.pem'), 'X509 CRL').map((der) => parseCrl(der).authorityKeyId);
const stale = () => {
  const now = seconds(Date.now());
  const times = { thisUpdateSeconds: now - 7200, nextUpdateSeconds: now - 3600 };
  return { der: authority.crl(other, times) };
};

describe('an enrollment', () => {
  test('delivers the other issuer and its CRL beside those of the own chain', async () => {
    vouchedFor(authority.issuer, other);
    expect(await one.enroll()).toMatchObject({ code: 0 });
    expect(decodePem(one.read('issuers.pem'), 'CERTIFICATE')).toEqual([other.der]);
    expect(signers()).toEqual([authority.issuer.keyId, authority.root.keyId, other.keyId]);
  });

  test('delivers no such file where there is no other issuer', async () => {
    authority.otherIssuers.pop();
    expect(await one.enroll()).toMatchObject({ code: 0 });
    expect(existsSync(join(one.dir, 'current', 'issuers.pem'))).toBe(false);
    expect(signers()).toEqual([authority.issuer.keyId, authority.root.keyId]);
  });

  test.each([
    ['cannot be had', () => ({ status: 404 }), 2],
    ['is stale', stale, 2],
  ])('waits for no CRL of the other issuer: one that %s is left out', async (_what, instead, count) => {
    server.crlInstead = (keyId) => (keyId === other.keyId ? instead() : undefined);
    const enrolled = await one.enroll();
    expect(enrolled).toMatchObject({ code: 0, stderr: expect.stringContaining('not of our own chain') });
    expect(signers()).toHaveLength(count);
  });

  test('takes no issuer that the pinned root did not certify', async () => {
    const stranger = new FakeAuthority(authority.trustDomain);
    bent((answer) => ({
      ...answer,
      issuers: [...(answer.issuers ?? []), stranger.issuer.der.toString('base64')],
    }));
    expect(await one.enroll()).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/denied-certificate|does not hold/),
    });
    expect(existsSync(join(one.dir, 'current'))).toBe(false);
  });

  test('takes no certificate of an issuer, and no issuer, that the root’s statement leaves out', async () => {
    for (const named of [[other], [authority.issuer]]) {
      vouchedFor(...named);
      expect(await one.enroll()).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("the root's statement does not name the issuer"),
      });
    }
    expect(existsSync(join(one.dir, 'current'))).toBe(false);
  });

  test('takes no leaf of ours for an issuer', async () => {
    const { cert } = { cert: authority.issue(authority.issuer.spki, { uris: ['spiffe://example.org/x'] }) };
    bent((answer) => ({ ...answer, issuers: [cert.toString('base64')] }));
    expect(await one.enroll()).toMatchObject({ code: 1 });
  });
});

describe('a checkpoint', () => {
  const second = newLogKey('example.org/vouch-log');
  const third = newLogKey('example.org/vouch-log');

  function signedBy(...keys: (typeof second)[]): void {
    const statement = authority.statement({ logKeys: [authority.logKey, second.key] });
    bent((answer) => {
      const { treeSize } = answer.proof;
      const checkpoint = signedCheckpoint(keys, treeSize, authority.rangeHash(0, treeSize));
      return { ...answer, bundle: authority.bundle(statement), proof: { ...answer.proof, checkpoint } };
    });
  }

  test('counts by either log key of the statement, and by both', async () => {
    authority.grow(5);
    signedBy(second);
    expect(await one.enroll()).toMatchObject({ code: 0 });
    signedBy(second, third);
    expect(await one.renew()).toMatchObject({ code: 0 });
    server.bend = undefined;
    expect(await one.renew()).toMatchObject({ code: 0 });
  });

  test('does not count by a key of the same name that the statement does not name', async () => {
    signedBy(third);
    expect(await one.enroll()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('not signed by a known key'),
    });
  });
});

describe('the keeper of crl.pem', () => {
  function keeper(): CrlKeeper {
    return new CrlKeeper(readHeld(one.dir, Date.now()), {
      ...{ dir: one.dir, everyMs: 1000, clock: systemClock, signal: new AbortController().signal },
      notice: () => undefined,
      exclusively: (work) => work(),
      changed: () => undefined,
      revoked: () => undefined,
    });
  }

  test('brings in each round what the other issuer revoked', async () => {
    expect(await one.enroll()).toMatchObject({ code: 0 });
    const keeping = keeper();
    expect(await keeping.refresh()).toBe(true);
    const before = authority.crl();
    server.crlInstead = (keyId) => (keyId === authority.issuer.keyId ? { der: before } : undefined);
    const stranger = strangerOf(authority);
    authority.revoke(stranger);
    expect(await keeping.refresh()).toBe(true);
    const [own, , ofOther] = decodePem(one.read('crl.pem'), 'X509 CRL').map((der) => parseCrl(der));
    expect([own?.has(stranger), ofOther?.has(stranger)]).toEqual([false, true]);
    expect(isListed(one.read('crl.pem'), stranger)).toBe(true);
  });

  test('is not slowed down by one that has gone stale with its token', async () => {
    expect(await one.enroll()).toMatchObject({ code: 0 });
    const keeping = keeper();
    authority.crlNumber += 1n;
    server.crlInstead = (keyId) => (keyId === other.keyId ? stale() : undefined);
    expect(await keeping.refresh()).toBe(true);
    server.crlInstead = (keyId) => (keyId === authority.issuer.keyId ? { status: 404 } : undefined);
    expect(await keeping.refresh()).toBe(false);
  });
});
