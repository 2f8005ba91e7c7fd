import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Reason, reasonCodes } from '../../src/core/reasons.ts';
import type { Serial } from '../../src/core/serial.ts';
import type { CrlTemplate } from '../../src/x509/crl-tbs.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { ecKey, ed25519Key, freshSerial, rsaKey, rsaPssKey } from '../x509/authority.ts';
import { CurrentAuthority } from '../x509/oracle-tools.ts';
import { ask, everyone, leafOf, names, nowhere, question, Verifiers } from './verifiers.ts';

let verifiers: Verifiers;
beforeAll(async () => {
  verifiers = await Verifiers.start();
}, 180_000);
afterAll(() => verifiers.end());

const authority = new CurrentAuthority(undefined, undefined, { crlUrls: [nowhere] });
const dateSeconds = authority.nowSeconds - 70;
const serial = freshSerial();

function entry(of: Serial, reason: Reason = 'keyCompromise', invalidityDateSeconds?: number): Buffer {
  return encodeRevoked({
    serial: of,
    dateSeconds,
    reason,
    ...(invalidityDateSeconds !== undefined && { invalidityDateSeconds }),
  });
}

/** The full CRL as it is published, with the URL of its delta. */
function full(by: CurrentAuthority, revoked: CrlTemplate['revoked']): Buffer {
  return by.crl({ revoked, freshestUrl: nowhere });
}

/** What all say of the leaf with this serial. */
function said(of: Serial, revoked: CrlTemplate['revoked']): Promise<Record<string, string>> {
  return verifiers.all(question(authority, leafOf(authority, { serial: of }), [full(authority, revoked)]));
}

describe.each([
  ['P-256, P-384 above', ecKey('P-384'), ecKey()],
  ['P-384, RSA above', rsaKey(3072), ecKey('P-384')],
  ['RSA, P-256 above', ecKey(), rsaKey()],
  ['RSA by PSS, RSA by PSS above', rsaPssKey(), rsaPssKey()],
  ['Ed25519, P-384 above', ecKey('P-384'), ed25519Key()],
])('an issuer with %s', (_name, rootKey, issuerKey) => {
  it('a good leaf passes, a revoked one is refused', async () => {
    const by = new CurrentAuthority(rootKey, issuerKey, { crlUrls: [nowhere] });
    const crl = full(by, [entry(serial)]);
    const others =
      issuerKey.algorithm === 'ed25519' ? { NSS: expect.not.stringMatching(/^good/) as unknown } : {};
    expect(await verifiers.all(question(by, leafOf(by), [crl]))).toEqual(everyone('good', others));
    expect(await verifiers.all(question(by, leafOf(by, { serial }), [crl]))).toEqual(
      everyone('revoked', others),
    );
  });
});

describe('a leaf', () => {
  it('passes by an empty CRL, and by one with another entry alone', async () => {
    expect(await said(serial, [])).toEqual(everyone('good'));
    expect(await said(serial, [entry(freshSerial())])).toEqual(everyone('good'));
  });

  it('is refused on hold, passes once released, and is refused once revoked after that', async () => {
    expect(await said(serial, [entry(serial, 'certificateHold')])).toEqual(everyone('revoked'));
    expect(await said(serial, [])).toEqual(everyone('good'));
    expect(await said(serial, [entry(serial, 'superseded')])).toEqual(everyone('revoked'));
  });

  it('is found whatever the bits of its serial, and none with nearly the same bits', async () => {
    const patterns = [
      ...['01', '7f', '0080', '00ff', '0100000000000000'],
      ...[`00${'ff'.repeat(19)}`, `40${'00'.repeat(19)}`, `7f${'ff'.repeat(19)}`],
    ] as Serial[];
    const entries = patterns.map((one) => entry(one));
    for (const one of patterns) expect(await said(one, entries), one).toEqual(everyone('revoked'));
    for (const one of ['00ffff', '010000000000000000'] as Serial[])
      expect(await said(one, entries), one).toEqual(everyone('good'));
  });
});

describe('what stands in an entry', () => {
  const javaReason = (reason: Reason) =>
    reason
      .replace('CRL', '_CRL')
      .replaceAll(/[A-Z](?=[a-z])/g, '_$&')
      .toUpperCase();

  it.each(Object.entries(reasonCodes).filter(([reason]) => reason !== 'removeFromCRL'))(
    'reason %s is read as it was written, with the date since when the key was not safe',
    async (name, code) => {
      const reason = name as Reason;
      const since = dateSeconds - 86_400;
      const asking = question(authority, leafOf(authority, { serial }), [
        full(authority, [entry(serial, reason, since)]),
      ]);
      expect(await ask(verifiers.judges.Go, asking)).toBe(`revoked ${code} ${dateSeconds} ${since}`);
      expect(await ask(verifiers.judges.Java, asking)).toBe(
        `revoked ${javaReason(reason)} ${dateSeconds} ${since}`,
      );
    },
  );

  it('a worse reason takes the place of the one before, its date stays', async () => {
    for (const [reason, code] of [
      ['superseded', 4],
      ['keyCompromise', 1],
    ] as const) {
      const asking = question(authority, leafOf(authority, { serial }), [
        full(authority, [entry(serial, reason)]),
      ]);
      expect(await ask(verifiers.judges.Go, asking)).toBe(`revoked ${code} ${dateSeconds} -`);
      expect(await verifiers.all(asking)).toEqual(everyone('revoked'));
    }
  });
});

describe('two issuers of one root', () => {
  const old = authority;
  const subjectName = rdnName({ organization: 'Vouch', commonName: 'example.org issuer 2' });
  const successor = new CurrentAuthority(old.root.key, ecKey(), { subjectName, crlUrls: [nowhere] });

  it('each goes by its own CRL, though both have the serial', async () => {
    const crls = [full(successor, []), full(old, [entry(serial)])];
    expect(await verifiers.all(question(old, leafOf(old, { serial }), crls))).toEqual(everyone('revoked'));
    expect(await verifiers.all(question(successor, leafOf(successor, { serial }), crls))).toEqual(
      everyone('good'),
    );
    expect(await verifiers.all(question(old, leafOf(old), crls))).toEqual(everyone('good'));
  });

  it('a CRL that one signed in the name of the other counts for nothing: only GnuTLS leaves it out and passes', async () => {
    const crl = successor.crl({ issuerName: old.issuer.name });
    expect(await verifiers.all(question(old, leafOf(old), [crl]))).toEqual(
      everyone(expect.not.stringMatching(/^(good|revoked)/), { GnuTLS: 'good' }),
    );
  });

  it('one that is retired keeps its CRL: without it GnuTLS and NSS let the revoked pass, the others nobody', async () => {
    const crls = [full(successor, [])];
    for (const leaf of [leafOf(old, { serial }), leafOf(old)])
      expect(await verifiers.all(question(old, leaf, crls))).toEqual(
        everyone(expect.not.stringMatching(/^(good|revoked)/), { GnuTLS: 'good', NSS: 'good' }),
      );
  });

  it('one that the root revoked takes its leaves along, and not those of the other', async () => {
    const { serial: issuerSerial } = parseCertificate(old.issuer.der);
    const rootCrl = old.crl({ revoked: [entry(issuerSerial, 'cACompromise')] }, old.root);
    const crls = [full(old, []), full(successor, [])];
    expect(await verifiers.all(question(old, leafOf(old), crls, rootCrl))).toEqual(everyone('revoked'));
    expect(await verifiers.all(question(successor, leafOf(successor), crls, rootCrl))).toEqual(
      everyone('good'),
    );
  });
});

describe('a long CRL', () => {
  const serialOf = (i: number) => `01${i.toString(16).padStart(32, '0')}` as Serial;
  const entries = Array.from({ length: 100_000 }, (_, i) => entry(serialOf(i)));
  // What GnuTLS takes for it rises with the square of its length: docs/verifiers.md.
  const swift = names.filter((name) => name !== 'GnuTLS');

  it('of 100,000 entries is read by five of them, its last entry found', async () => {
    const crl = full(authority, entries);
    const asking = question(authority, leafOf(authority, { serial: serialOf(99_999) }), [crl]);
    const { GnuTLS: _, ...five } = everyone('revoked');
    expect(await verifiers.all(asking, swift)).toEqual(five);
  }, 120_000);

  it('of 2,000 entries is read by GnuTLS as well', async () => {
    expect(await said(serialOf(1999), entries.slice(0, 2000))).toEqual(everyone('revoked'));
    expect(await said(serialOf(2000), entries.slice(0, 2000))).toEqual(everyone('good'));
  });
});
