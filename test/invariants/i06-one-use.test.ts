// I6 one use: a use of a join token is burnt in the transaction that reserves the serial; a retry with the same key
// gets the same certificate, another key gets 409.
import { createHash, randomBytes } from 'node:crypto';
import path from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { soleIssuer } from '../../src/issuance/issuers.ts';
import { VouchError } from '../../src/core/errors.ts';
import type { Enrollment } from '../../src/enrollment/enroll.ts';
import { isJoinToken, newJoinToken } from '../../src/attestation/node/join-token/token.ts';
import { problemOf } from '../../src/core/problem.ts';
import { Issuance } from '../../src/issuance/issue.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import {
  freshKey,
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';
import { Enrollee, enrollmentOver, newToken } from './support/enrollee.ts';
import { becomes, codeOf, codesOf } from './support/refusal.ts';

let authority: SoftwareAuthority;
let enrollment: Enrollment;
beforeEach(async () => {
  authority = await softwareAuthority();
  enrollment = enrollmentOver(authority);
});
afterEach(() => authority.close());

const issuedCount = () => authority.store.certificates({ limit: 1000 }).length;
const usesOf = (tokenId: string) => authority.store.token(tokenId)?.usesTaken;

describe('a race', () => {
  test('[guard] of 200 keys for one token yields one certificate, and 409 for everybody else', async () => {
    const { token, tokenId } = await newToken(authority);
    // Two front ends of one log, which know nothing of each other's attempts.
    const fronts = [enrollment, enrollmentOver(authority)];
    const attempts = Array.from(
      { length: 200 },
      (_, n) => () => new Enrollee().enroll(fronts[n % 2] ?? enrollment, token),
    );
    const codes = await codesOf(attempts);
    expect(codes.filter((code) => code === 'allowed')).toHaveLength(1);
    expect(new Set(codes)).toEqual(new Set(['allowed', 'policy-key-conflict']));
    expect(problemOf(new VouchError('policy-key-conflict', ''), 'peer').status).toBe(409);
    expect([issuedCount(), usesOf(tokenId), authority.signer.signedLeaves.length]).toEqual([1, 1, 1]);
  });

  test('of one key with itself yields one certificate, the same for all', async () => {
    const { token } = await newToken(authority);
    const who = new Enrollee();
    const all = await Promise.all(Array.from({ length: 40 }, () => who.enroll(enrollment, token)));
    expect(new Set(all.map(({ issued }) => issued.der.toString('hex'))).size).toBe(1);
    expect(issuedCount()).toBe(1);
  });

  test('of one key with itself over two front ends yields one certificate, or asks to try again', async () => {
    const { token } = await newToken(authority);
    const who = new Enrollee();
    const fronts = [enrollment, enrollmentOver(authority)];
    const codes = await codesOf(
      fronts.flatMap((front) => Array.from({ length: 10 }, () => () => who.enroll(front, token))),
    );
    expect(codes).toContain('allowed');
    for (const code of codes) expect(code).toMatch(/^(?:allowed|unavailable-signer)$/);
    expect([issuedCount(), authority.signer.signedLeaves.length]).toEqual([1, 1]);
  });

  test('[guard] of nine keys for three uses yields three certificates', async () => {
    const { token, tokenId } = await newToken(authority, { uses: 3 });
    const keys = Array.from({ length: 9 }, () => new Enrollee());
    const codes = await codesOf(keys.map((who) => () => who.enroll(enrollment, token)));
    expect(codes.filter((code) => code === 'allowed')).toHaveLength(3);
    expect([issuedCount(), usesOf(tokenId)]).toEqual([3, 3]);
  });

  test('of a token with its own revocation yields a certificate or a refusal, never a use after it', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { token, tokenId } = await newToken(authority);
      const revocation = revocationOf(authority);
      const [code] = await Promise.all([
        codeOf(() => new Enrollee().enroll(enrollment, token)),
        revocation.revokeToken(tokenId, 'uid:0'),
      ]);
      expect(code).toMatch(/^(?:allowed|denied-token-revoked)$/);
      expect(usesOf(tokenId)).toBe(code === 'allowed' ? 1 : 0);
      expect(await codeOf(() => new Enrollee().enroll(enrollment, token))).toBe('denied-token-revoked');
    }
  });
});

describe('a retry with the same key', () => {
  test('waits for the attempt in flight instead of racing it', async () => {
    const { token } = await newToken(authority);
    const who = new Enrollee();
    const gate = Promise.withResolvers<void>();
    authority.signer.beforeAppend = () => gate.promise;
    const first = who.enroll(enrollment, token);
    const retry = who.enroll(enrollment, token);
    const stranger = codeOf(() => new Enrollee().enroll(enrollment, token));
    let settled = false;
    void Promise.race([first, retry]).then(() => {
      settled = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(settled).toBe(false);
    gate.resolve();
    const [one, two] = await Promise.all([first, retry]);
    expect(two.issued.der.equals(one.issued.der)).toBe(true);
    expect(await stranger).toBe('policy-key-conflict');
    expect(issuedCount()).toBe(1);
  });

  test('takes no second use, however often', async () => {
    const { token, tokenId } = await newToken(authority, { uses: 2 });
    const who = new Enrollee();
    for (let round = 0; round < 5; round += 1) await who.enroll(enrollment, token);
    expect(usesOf(tokenId)).toBe(1);
    expect(await codeOf(() => new Enrollee().enroll(enrollment, token))).toBe('allowed');
    expect(await codeOf(() => new Enrollee().enroll(enrollment, token))).toBe('policy-key-conflict');
    expect(await codeOf(() => who.enroll(enrollment, token))).toBe('allowed');
  });

  test('after a crash that left no signature gets the same TBS, byte for byte; another key still gets 409', async () => {
    const { token, tokenId } = await newToken(authority);
    const who = new Enrollee();
    authority.signer.state = 'degraded';
    expect(await codeOf(() => who.enroll(enrollment, token))).toBe('unavailable-signer');
    expect(usesOf(tokenId)).toBe(1);
    const [logged] = authority.store.certificates({ limit: 1 });
    expect(logged?.signature).toBeUndefined();
    // The crash: another process reads what is on disk.
    const reader = openSqliteStore(path.join(authority.folder, 'vouch.db'), { readonly: true });
    expect(reader.token(tokenId)?.usesTaken).toBe(1);
    await reader.close();
    authority.signer.state = 'usable';
    const size = authority.store.treeSize();
    authority.sequencer.adoptCheckpoint(authority.signer.resume(authority.store.leaves(size - 1, size)));
    const restarted = enrollmentOver(authority);
    expect(await codeOf(() => new Enrollee().enroll(restarted, token))).toBe('policy-key-conflict');
    const { issued } = await who.enroll(restarted, token);
    expect(parseCertificate(issued.der).tbs.equals(logged?.tbs ?? Buffer.alloc(0))).toBe(true);
    expect([issuedCount(), authority.store.treeSize()]).toEqual([1, size]);
  });

  test('is refused once the certificate is revoked', async () => {
    const { token } = await newToken(authority);
    const who = new Enrollee();
    const { issued } = await who.enroll(enrollment, token);
    await revocationOf(authority).revoke(
      { by: 'serial', serial: issued.record.serial, only: false },
      'superseded',
      'uid:0',
    );
    expect(await codeOf(() => who.enroll(enrollment, token))).toBe('denied-revoked');
  });

  test('is refused where the certificate is revoked while the first attempt is being signed; so is that', async () => {
    const { token } = await newToken(authority);
    const who = new Enrollee();
    const gate = Promise.withResolvers<void>();
    authority.signer.beforeAppend = () => gate.promise;
    const first = codeOf(() => who.enroll(enrollment, token));
    expect(await becomes(() => issuedCount() === 1)).toBe(true);
    const [logged] = authority.store.certificates({ limit: 1 });
    if (!logged) throw new Error('it is in the store');
    const target = { by: 'serial', serial: logged.serial, only: false } as const;
    const revoking = revocationOf(authority).revoke(target, 'keyCompromise', 'uid:0');
    const isRevoked = () => authority.store.certificate(logged.issuerKeyId, logged.serial)?.revoked;
    expect(await becomes(() => isRevoked() !== undefined)).toBe(true);
    const retry = codeOf(() => who.enroll(enrollment, token));
    gate.resolve();
    expect(await Promise.all([first, retry])).toEqual(['denied-revoked', 'denied-revoked']);
    await revoking;
  });

  test('is refused past half of its life', async () => {
    const { token } = await newToken(authority, { ttlSeconds: 7200, lifetimeSeconds: 3600 });
    const who = new Enrollee();
    const { issued } = await who.enroll(enrollment, token);
    const half = (issued.record.notAfterMs - issued.record.issuedAtMs) / 2;
    authority.clock.pass(Math.floor(half));
    expect(await codeOf(() => who.enroll(enrollment, token))).toBe('allowed');
    authority.clock.pass(1000);
    expect(await codeOf(() => who.enroll(enrollment, token))).toBe('denied-token-used');
  });

  test('is refused once the token has expired or was revoked', async () => {
    const { token } = await newToken(authority, { ttlSeconds: 60 });
    const who = new Enrollee();
    await who.enroll(enrollment, token);
    authority.clock.pass(60_001);
    expect(await codeOf(() => who.enroll(enrollment, token))).toBe('denied-token-expired');
    const other = await newToken(authority);
    await who.enroll(enrollment, other.token);
    await revocationOf(authority).revokeToken(other.tokenId, 'uid:0');
    expect(await codeOf(() => who.enroll(enrollment, other.token))).toBe('denied-token-revoked');
  });

  test('is refused while the entry is suspended', async () => {
    const { token } = await newToken(authority);
    const who = new Enrollee();
    const { issued } = await who.enroll(enrollment, token);
    await revocationOf(authority).revoke(
      { by: 'id', spiffeId: issued.record.spiffeId },
      'superseded',
      'uid:0',
    );
    expect(await codeOf(() => who.enroll(enrollment, token))).toBe('denied-suspended');
  });
});

describe('a use is burnt', () => {
  test('with the serial: what fails in the transaction burns nothing', async () => {
    const first = await newToken(authority);
    const second = await newToken(authority, { spiffeId: `spiffe://${trustDomain}/billing` });
    const stuck = Buffer.alloc(16, 7);
    const settings = { trustDomain, publicationUrl, shardCount: 16, serialPrefix: 0x2a, random: () => stuck };
    const issuance = new Issuance({ ...authority, issuers: soleIssuer(authority.issuer), settings });
    const colliding = enrollmentOver({ ...authority, issuance });
    await new Enrollee().enroll(colliding, first.token);
    expect(await codeOf(() => new Enrollee().enroll(colliding, second.token))).toBe('policy-conflict');
    expect(usesOf(second.tokenId)).toBe(0);
    expect(await codeOf(() => new Enrollee().enroll(enrollment, second.token))).toBe('allowed');
  });

  test('for good: the database gives no use back, forgets none and moves none', async () => {
    const { token, tokenId } = await newToken(authority);
    await new Enrollee().enroll(enrollment, token);
    const db = new Database(path.join(authority.folder, 'vouch.db'));
    try {
      for (const sql of [
        'UPDATE join_tokens SET uses_taken = 0',
        'UPDATE join_tokens SET uses_allowed = 100',
        'UPDATE join_tokens SET expires_at_ms = expires_at_ms + 1000000',
        'DELETE FROM join_tokens',
        'DELETE FROM token_uses',
        `UPDATE token_uses SET spki_sha256 = '${'0'.repeat(64)}'`,
      ])
        expect(() => db.exec(sql), sql).toThrow(/final|fixed|stay/);
    } finally {
      db.close();
    }
    expect(usesOf(tokenId)).toBe(1);
  });
});

describe('a token that is not whole', () => {
  test('is refused before the store is asked: other prefix, cut, one character changed, another case', async () => {
    const { token } = await newToken(authority);
    let looked = 0;
    const look = authority.store.tokenBySecret.bind(authority.store);
    authority.store.tokenBySecret = (hash) => {
      looked += 1;
      return look(hash);
    };
    const changed = `${token.slice(0, 20)}${token[20] === 'A' ? 'B' : 'A'}${token.slice(21)}`;
    const bent = [
      `xjt_${token.slice(4)}`,
      token.slice(0, -1),
      `${token}A`,
      changed,
      token.toUpperCase(),
      ` ${token}`,
      '',
    ];
    for (const one of bent)
      expect(await codeOf(() => new Enrollee().enroll(enrollment, one)), one).toBe('denied-evidence');
    expect(looked).toBe(0);
    // Well-formed and unknown.
    expect(await codeOf(() => new Enrollee().enroll(enrollment, newJoinToken()))).toBe('denied-evidence');
  });

  test('cannot be guessed: 256 bits, all of them random', () => {
    const tokens = Array.from({ length: 500 }, newJoinToken);
    expect(tokens.every(isJoinToken)).toBe(true);
    expect(new Set(tokens).size).toBe(500);
    const secrets = tokens.map((token) => Buffer.from(token.slice(4, 47), 'base64url'));
    expect(secrets.every((secret) => secret.length === 32)).toBe(true);
    for (let bit = 0; bit < 256; bit += 1) {
      const ones = secrets.filter((secret) => ((secret[bit >> 3] ?? 0) >> (bit & 7)) & 1).length;
      expect(Math.abs(ones - 250), `bit ${bit}`).toBeLessThan(120);
    }
  });
});

test('a token yields its own entry only, from its own addresses only, until it expires', async () => {
  const { token } = await newToken(authority, { cidrs: ['192.0.2.0/28', '2001:db8::/32'], ttlSeconds: 60 });
  for (const address of ['192.0.2.16', '198.51.100.1', '2001:db9::1', '::1', '', 'nonsense'])
    expect(await codeOf(() => new Enrollee(address).enroll(enrollment, token)), address).toBe(
      'denied-token-address',
    );
  const { issued } = await new Enrollee('192.0.2.15').enroll(enrollment, token);
  expect(issued.record.spiffeId).toBe(`spiffe://${trustDomain}/orders`);
  const late = await newToken(authority, { ttlSeconds: 60 });
  authority.clock.pass(60_000);
  expect(await codeOf(() => new Enrollee().enroll(enrollment, late.token))).toBe('denied-token-expired');
});

test('[guard] a use passes on to another issuer only from a certificate that was ended for it', async () => {
  const { entry, tokenId } = await registered(authority);
  const key = freshKey();
  const first = await authority.issuance.issue(requestFor(entry, tokenId, key));
  const passedOn = () =>
    authority.issuance.issue({ ...requestFor(entry, tokenId, key), predecessor: first.record });
  expect(await codeOf(passedOn)).toBe('policy-conflict');
  const { serial } = first.record;
  await revocationOf(authority).revoke({ by: 'serial', serial, only: true }, 'superseded', 'uid:0');
  expect(await codeOf(passedOn)).toBe('denied-revoked');
  expect([issuedCount(), usesOf(tokenId)]).toEqual([1, 1]);
});

test('only the hash of a token is kept', async () => {
  const { token } = await newToken(authority);
  const db = new Database(path.join(authority.folder, 'vouch.db'), { readonly: true });
  const secrets = db.prepare('SELECT secret_sha256 FROM join_tokens').pluck().all() as Buffer[];
  db.close();
  expect(secrets.map((one) => one.length)).toEqual([32]);
  expect(secrets[0]).toEqual(createHash('sha256').update(token).digest());
  // A stolen hash is no token.
  const hash = secrets[0] ?? randomBytes(32);
  for (const shown of [
    hash.toString('hex'),
    hash.toString('base64url'),
    `vjt_${hash.toString('base64url')}abcdef`,
  ])
    expect(await codeOf(() => new Enrollee().enroll(enrollment, shown))).toBe('denied-evidence');
});

function revocationOf(of: SoftwareAuthority): Revocation {
  const timing = { ...defaultCrlTiming, batchMs: 0 };
  const sinks = { publish: () => undefined, alarm: () => undefined };
  const publisher = new CrlPublisher({ ...of, publicationUrl, shardCount: 16, timing, ...sinks });
  return new Revocation({ ...of, publisher, shardCount: 16 });
}
