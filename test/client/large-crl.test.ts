import { describe, expect, it } from 'vitest';
import { readCrl, verifyCrl, verifyLargeCrl } from '../../src/client/crl.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { longestTurnMs } from '../support/turns.ts';
import { freshSerial, makeCrl, makeIssuer, makeRoot, nowSeconds } from '../x509/authority.ts';

const issuer = makeIssuer(makeRoot());
const certificate = parseCertificate(issuer.der);
const serials = Array.from({ length: 60_000 }, freshSerial).sort();
const listed = serials.filter((_, index) => index % 3 !== 0);
const revoked = listed.map((serial) =>
  encodeRevoked({ serial, dateSeconds: nowSeconds - 60, reason: 'superseded' }),
);
const der = makeCrl(issuer, { revoked });

describe('a large CRL, read while others have their turns', () => {
  it('says what the same one says that was read at once', async () => {
    const large = await verifyLargeCrl(der, certificate);
    const { has: _large, ...said } = large;
    const { has: _small, ...wanted } = verifyCrl(readCrl(der), certificate);
    expect(said).toEqual(wanted);
    expect(serials.filter((serial) => large.has(serial))).toEqual(listed);
    expect(Array.from({ length: 100 }, freshSerial).some((serial) => large.has(serial))).toBe(false);
    expect((await verifyLargeCrl(makeCrl(issuer, { revoked: [] }), certificate)).has(freshSerial())).toBe(
      false,
    );
  });

  it('holds nobody up', async () => {
    await verifyLargeCrl(der, certificate);
    expect(await longestTurnMs(() => verifyLargeCrl(der, certificate))).toBeLessThan(20);
  });

  it('is refused as any other: another signature, another issuer, cut, an old number, a delta', async () => {
    const bent = Buffer.from(der);
    bent[bent.length - 1] = (bent.at(-1) ?? 0) ^ 1;
    const other = parseCertificate(makeIssuer(makeRoot()).der);
    const delta = makeCrl(issuer, { revoked, crlNumber: 9n, deltaBase: 3n });
    await expect(verifyLargeCrl(bent, certificate)).rejects.toThrow(/signature/);
    await expect(verifyLargeCrl(der, other)).rejects.toThrow(/another key/);
    await expect(verifyLargeCrl(der.subarray(0, -1), certificate)).rejects.toThrow(/not one/);
    await expect(verifyLargeCrl(der, certificate, 1n << 80n)).rejects.toThrow(/old one was served/);
    await expect(verifyLargeCrl(delta, certificate)).rejects.toThrow(/delta/);
  });
});
