// I2 serials: 1 fixed byte 0x01–0x7f + 16 random bytes, unique per issuer by constraint, reserved before signing.
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { soleIssuer } from '../../src/issuance/issuers.ts';
import { newSerial, type Serial, serialBytes } from '../../src/core/serial.ts';
import { Issuance } from '../../src/issuance/issue.ts';
import { revocationLeaf } from '../../src/sequencer/record.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import { integer } from '../../src/x509/der.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';
import { HostileServer } from './support/hostile-server.ts';
import { codeOf, codesOf } from './support/refusal.ts';
import { softwareSigner } from './support/signer-targets.ts';

let authority: SoftwareAuthority;
beforeEach(async () => {
  authority = await softwareAuthority();
});
afterEach(() => authority.close());

/** The same authority with a generator that is broken, or a prefix that is not one. */
function issuanceWith(random: (size: number) => Buffer, serialPrefix = 0x2a): Issuance {
  return new Issuance({
    ...authority,
    issuers: soleIssuer(authority.issuer),
    settings: { trustDomain, publicationUrl, shardCount: 16, serialPrefix, random },
  });
}

const stuckAt = Buffer.alloc(16, 0x5a);

describe('a random generator', () => {
  test.each([0, 1, 7, 8, 15])(
    '[guard] that gives %i bytes instead of 16 gets nothing issued',
    async (size) => {
      const { entry, tokenId } = await registered(authority);
      const before = { leaves: authority.store.treeSize(), signed: authority.signer.signedLeaves.length };
      const broken = issuanceWith(() => randomBytes(size));
      expect(await codeOf(() => broken.issue(requestFor(entry, tokenId)))).not.toBe('allowed');
      expect({ leaves: authority.store.treeSize(), signed: authority.signer.signedLeaves.length }).toEqual(
        before,
      );
      expect(authority.store.token(tokenId)?.usesTaken).toBe(0);
    },
  );

  test('[guard] that gives more than 16 bytes does not get a longer serial issued', async () => {
    const { entry, tokenId } = await registered(authority);
    const long = issuanceWith(() => randomBytes(19));
    expect(await codeOf(() => long.issue(requestFor(entry, tokenId)))).not.toBe('allowed');
  });

  test('[guard] that gives anything but 16 bytes makes no serial at all, not for a CA either', () => {
    for (const size of [0, 8, 15, 17, 32])
      expect(() => newSerial(0x2a, () => randomBytes(size))).toThrow('16 bytes');
  });

  test('that repeats itself meets the constraint, and the signer is never asked for the second', async () => {
    const stuck = issuanceWith(() => stuckAt);
    const first = await registered(authority, 'first');
    const second = await registered(authority, 'second');
    const issued = await stuck.issue(requestFor(first.entry, first.tokenId));
    const signed = authority.signer.signedLeaves.length;
    const leaves = authority.store.treeSize();
    const again = () => stuck.issue(requestFor(second.entry, second.tokenId));
    expect(await codesOf([again, again, again])).toEqual(Array(3).fill('policy-conflict'));
    expect(authority.signer.signedLeaves.length).toBe(signed);
    expect(authority.store.treeSize()).toBe(leaves);
    expect(authority.store.certificatesBySerial(issued.record.serial)).toHaveLength(1);
    // The refusal took nothing: the same token gets its certificate where the generator is whole.
    expect(await codeOf(() => authority.issuance.issue(requestFor(second.entry, second.tokenId)))).toBe(
      'allowed',
    );
  });

  test('that repeats itself within one batch gets one certificate', async () => {
    const stuck = issuanceWith(() => stuckAt);
    const many = await Promise.all(Array.from({ length: 8 }, (_, n) => registered(authority, `w${n}`)));
    const codes = await codesOf(
      many.map(
        ({ entry, tokenId }) =>
          () =>
            stuck.issue(requestFor(entry, tokenId)),
      ),
    );
    expect(codes.sort()).toEqual(['allowed', ...Array<string>(7).fill('policy-conflict')]);
    expect(authority.signer.signedLeaves).toHaveLength(1);
  });

  test('that comes upon a serial known only as revoked does not give it out again', async () => {
    // As after a restore: the revocation is known, the certificate is lost.
    const serial = newSerial(0x2a, () => stuckAt);
    const issuerKeyId = authority.issuer.keyId;
    const revocation = {
      ...{ issuerKeyId, serial, shard: 1, revokedAtMs: authority.clock.now(), reason: 'superseded' as const },
      ...{ operator: 'uid:0', salt: Buffer.alloc(16), notAfterMs: authority.clock.now() + 1000 },
    };
    await authority.sequencer.record({
      kind: 'revocation',
      leaf: revocationLeaf(authority.clock.now(), issuerKeyId, revocation),
      revocation,
      blockKeySha256: undefined,
    });
    const { entry, tokenId } = await registered(authority);
    const stuck = issuanceWith(() => stuckAt);
    expect(await codeOf(() => stuck.issue(requestFor(entry, tokenId)))).toBe('policy-conflict');
  });
});

describe('the fixed byte', () => {
  test.each([0x00, 0x80, 0xff, -1, 256])('is never %i', async (prefix) => {
    expect(() => newSerial(prefix, randomBytes)).toThrow('prefix');
    const { entry, tokenId } = await registered(authority);
    expect(await codeOf(() => issuanceWith(randomBytes, prefix).issue(requestFor(entry, tokenId)))).not.toBe(
      'allowed',
    );
    expect(authority.signer.signedLeaves).toHaveLength(0);
  });

  test('is never zero, even where it is no number', async () => {
    const { entry, tokenId } = await registered(authority);
    const broken = issuanceWith(randomBytes, Number.NaN);
    expect(await codeOf(() => broken.issue(requestFor(entry, tokenId)))).not.toBe('allowed');
    expect(authority.signer.signedLeaves).toHaveLength(0);
  });

  test.each([0x01, 0x2a, 0x7f])('0x%s keeps the serial positive and of one length', (prefix) => {
    for (let round = 0; round < 200; round += 1) {
      const bytes = serialBytes(newSerial(prefix, randomBytes));
      expect([bytes.length, bytes[0]]).toEqual([17, prefix]);
      // As an INTEGER: tag, length 17, no padding byte, sign bit clear.
      expect(integer(bytes).subarray(0, 3)).toEqual(Buffer.from([0x02, 17, prefix]));
    }
  });
});

test('16 bytes are random: each of their 128 bits is, and no serial comes twice', () => {
  const serials = Array.from({ length: 2000 }, () => newSerial(0x2a, randomBytes));
  expect(new Set(serials).size).toBe(2000);
  for (let bit = 8; bit < 136; bit += 1) {
    const ones = serials.filter((serial) => ((serialBytes(serial)[bit >> 3] ?? 0) >> (bit & 7)) & 1).length;
    // 13 standard deviations.
    expect(Math.abs(ones - 1000), `bit ${bit}`).toBeLessThan(300);
  }
});

test('is reserved before signing: the signer is asked for nothing whose serial is not in the store', async () => {
  const many = await Promise.all(Array.from({ length: 5 }, (_, n) => registered(authority, `w${n}`)));
  const reserved: (string | undefined)[] = [];
  authority.signer.beforeAppend = async ({ firstIndex, items }) => {
    const reader = openSqliteStore(path.join(authority.folder, 'vouch.db'), { readonly: true });
    reserved.push(...reader.certificatesByLeaf(firstIndex, items.length).map((one) => one.serial));
    await reader.close();
  };
  const issued = await Promise.all(
    many.map(({ entry, tokenId }) => authority.issuance.issue(requestFor(entry, tokenId))),
  );
  expect(new Set(reserved)).toEqual(new Set(issued.map((one) => parseCertificate(one.der).serial)));
});

test('two issuers may have the same serial, one may not: the database itself says so', async () => {
  const { entry, tokenId } = await registered(authority);
  const { record } = await authority.issuance.issue(requestFor(entry, tokenId));
  const db = new Database(path.join(authority.folder, 'vouch.db'));
  try {
    const columns = (db.pragma('table_info(certificates)') as { name: string }[]).map(({ name }) => name);
    const copy = (issuer: string) => {
      const values = columns.map((name) =>
        name === 'leaf_index' ? '0' : name === 'issuer_key_id' ? `'${issuer}'` : name,
      );
      db.exec(
        `BEGIN; INSERT INTO certificates SELECT ${values.join()} FROM certificates WHERE leaf_index = ${record.leafIndex}`,
      );
    };
    expect(() => copy('ab'.repeat(20))).not.toThrow();
    db.exec('ROLLBACK');
    expect(() => copy(record.issuerKeyId)).toThrow('UNIQUE constraint failed');
    if (db.inTransaction) db.exec('ROLLBACK');
    for (const sql of [
      `UPDATE certificates SET serial = '2a00'`,
      'DELETE FROM certificates',
      `INSERT OR REPLACE INTO certificates SELECT * FROM certificates`,
    ])
      expect(() => {
        db.pragma('recursive_triggers = ON');
        db.exec(sql);
      }, sql).toThrow('append-only');
  } finally {
    db.close();
  }
});

test.each([
  ['of 8 random bytes', '2a'.padEnd(18, '1')],
  ['of 20 bytes', '2a'.padEnd(40, '1')],
  ['without the fixed byte', '11'.repeat(16)],
])('the signer signs no serial %s either', async (_name, serial) => {
  expect(await signersVerdict((attacker) => attacker.certificateTbs({ serial: serial as Serial }))).toBe(
    'policy-lint',
  );
});

test.each([0x00, 0x80, 0xff])('the signer signs no serial that begins with 0x%s either', async (first) => {
  const serial = newSerial(0x2a, randomBytes);
  const verdict = await signersVerdict((attacker) => {
    const tbs = attacker.certificateTbs({ serial });
    tbs.writeUInt8(first, tbs.indexOf(serialBytes(serial)));
    return tbs;
  });
  expect(verdict).toMatch(/^(?:policy-lint|request-malformed)$/);
});

async function signersVerdict(build: (attacker: HostileServer) => Buffer): Promise<string> {
  const target = await softwareSigner();
  onTestFinished(() => target.close());
  const attacker = new HostileServer(target);
  await attacker.begin();
  const tbs = build(attacker);
  return attacker.verdict(attacker.certificate(tbs), tbs);
}
