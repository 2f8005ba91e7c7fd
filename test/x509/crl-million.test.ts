import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { newSerial, type Serial } from '../../src/core/serial.ts';
import { buildCrlTbs, type CrlTemplate, encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { parseTbsCrl } from '../../src/x509/crl.ts';
import { rdnName } from '../../src/x509/name.ts';
import { makeIssuer, makeRoot, nowSeconds } from './authority.ts';
import { bestOfThreeMs, limitMs } from '../support/limits.ts';
import { expectRefusal } from './refusal.ts';

const issuer = makeIssuer(makeRoot());
const template: CrlTemplate = {
  algorithm: 'ecdsa-sha256',
  issuerName: issuer.name,
  thisUpdateSeconds: nowSeconds,
  nextUpdateSeconds: nowSeconds + 86_400,
  authorityKeyId: issuer.key.info.keyId,
  crlNumber: 42n,
  revoked: [],
};
describe('a CRL of a million entries', () => {
  const sizes = [250_000, 1_000_000];
  const random = randomBytes(16 * 1_000_000);
  const entries = Array.from({ length: 1_000_000 }, (_, i) => {
    const serial =
      `01${i.toString(16).padStart(8, '0')}${random.toString('hex', i * 12, i * 12 + 12)}` as Serial;
    return encodeRevoked({
      serial,
      dateSeconds: nowSeconds - (i % 1000),
      reason: i % 3 ? 'keyCompromise' : 'unspecified',
    });
  });
  const tbs = sizes.map((size) => buildCrlTbs({ ...template, revoked: entries.slice(0, size) }));
  const [quarter = Buffer.alloc(0), million = Buffer.alloc(0)] = tbs;

  it('is built in a second', () => {
    expect(bestOfThreeMs(() => buildCrlTbs({ ...template, revoked: entries }))).toBeLessThan(limitMs(1000));
  });

  it('is read in a second, in time linear in its size', () => {
    const small = bestOfThreeMs(() => parseTbsCrl(quarter));
    const large = bestOfThreeMs(() => parseTbsCrl(million));
    expect(large).toBeLessThan(limitMs(1000));
    expect(large / small).toBeLessThan(12);
  });

  it('is read without an object for each entry', () => {
    const before = process.memoryUsage().heapUsed;
    const crl = parseTbsCrl(million);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(20 * 1024 * 1024);
    expect(crl).toMatchObject({ count: 1_000_000, ascending: true });
  });

  it('answers has() at once after the first', () => {
    const crl = parseTbsCrl(million);
    const [first] = crl.revoked();
    expect(first && crl.has(first.serial)).toBe(true);
    const absent = newSerial(2, (size) => randomBytes(size));
    const ms = bestOfThreeMs(() => {
      for (let i = 0; i < 10_000; i++) crl.has(absent);
    });
    expect(ms).toBeLessThan(limitMs(100));
    expect(crl.has(absent)).toBe(false);
  });

  it('is refused for one bad byte in its last entry', () => {
    const broken = Buffer.from(million);
    const at = million.lastIndexOf(Buffer.from('170d', 'hex'));
    broken[at + 2] = 0x41;
    expectRefusal(() => parseTbsCrl(broken), 'request-malformed', /revocationDate/);
  });

  it('has another issuer name where another wrote it', () => {
    expect(parseTbsCrl(million).issuerName.equals(rdnName({ commonName: 'else' }))).toBe(false);
  });
});
