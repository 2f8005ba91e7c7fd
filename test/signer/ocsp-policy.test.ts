// The key that answers OCSP signs answers and nothing else; nothing else is certified for that, and nobody else for it.
import { generateKeyPairSync, verify } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import { signOcsp } from '../../src/signer/ocsp-policy.ts';
import { decide } from '../../src/signer/policy.ts';
import { policyIssuer } from '../../src/signer/policy-issuer.ts';
import type { Purpose } from '../../src/signer/port.ts';
import type { CertificateTemplate } from '../../src/x509/certificate-tbs.ts';
import { buildResponseData, type OcspAnswer } from '../../src/x509/ocsp.ts';
import {
  certificateItem,
  certificateTbs,
  nowMs,
  nowSeconds,
  policyContext,
  spkiOf,
  testAuthority,
  trustDomain,
} from './fixture.ts';

const test = testAuthority();
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ocspSpki = spkiOf(pair.publicKey);
const ocspKey = { ckaId: '03', algorithm: 'ecdsa-sha256', publicKeySpki: ocspSpki } as const;
test.hsm.keys.set('03', { key: pair.privateKey, algorithm: 'ecdsa-sha256' });

const responder: Partial<CertificateTemplate> = {
  spki: ocspSpki,
  uris: [`spiffe://${trustDomain}/vouch/ocsp`],
  dnsNames: [],
  ocspSigning: true,
};

/** `sign`, or why it is refused. */
function verdict(
  overrides: Partial<CertificateTemplate>,
  purpose: Purpose = 'ocsp-certificate',
  spki: Buffer | undefined = ocspSpki,
): string {
  const item = { ...certificateItem(test, certificateTbs(test, overrides)), purpose };
  const decision = decide(item, policyContext(test, { ocspSpki: spki }));
  return decision.outcome === 'refuse' ? decision.error.detail : decision.outcome;
}

describe("the responder's certificate", () => {
  it('is signed by the issuer for the key that answers OCSP', () => {
    expect(verdict(responder)).toBe('sign');
  });

  const otherSpki = spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey);
  it.each<[string, Partial<CertificateTemplate>, RegExp]>([
    ['for another key', { spki: otherSpki }, /another key/],
    ['for the key of the issuer', { spki: spkiOf(test.issuerKey) }, /key of an issuer/],
    ['as a CA', { ca: { pathLength: 0 } }, /CA certificate/],
    ['with the usages of TLS', { ocspSigning: false }, /OCSPSigning alone/],
    ["under a workload's name", { uris: [`spiffe://${trustDomain}/orders`] }, /not the responder's/],
    ["under the server's name", { uris: [`spiffe://${trustDomain}/vouch/server`] }, /not the responder's/],
    ['with a DNS name besides', { dnsNames: ['orders.test.example'] }, /not the responder's/],
    ['without a name', { uris: [] }, /not the responder's/],
    ['of another trust domain', { uris: ['spiffe://other.example/vouch/ocsp'] }, /not the responder's/],
    ['for a year', { notAfterSeconds: nowSeconds + 80 * 86_400 }, /valid for too long/],
  ])('is refused %s', (_how, change, why) => {
    expect(verdict({ ...responder, ...change })).toMatch(why);
  });

  it('is refused where there is no such key', () => {
    const item = {
      ...certificateItem(test, certificateTbs(test, responder)),
      purpose: 'ocsp-certificate' as const,
    };
    const decision = decide(item, policyContext(test));
    expect(decision).toMatchObject({ outcome: 'refuse' });
  });

  it('is refused as anything else, and its key as anybody else', () => {
    for (const purpose of ['certificate', 'server-certificate'] as const) {
      expect(verdict({ ...responder, spki: otherSpki }, purpose)).toMatch(/has the extension/);
      const uris = [`spiffe://${trustDomain}/${purpose === 'certificate' ? 'orders' : 'vouch/server'}`];
      expect(verdict({ spki: ocspSpki, uris }, purpose)).toMatch(/certifies the key that answers OCSP/);
      expect(verdict({ spki: otherSpki, uris }, purpose)).toBe('sign');
    }
    expect(verdict({ uris: [`spiffe://${trustDomain}/vouch/ocsp`] }, 'certificate')).toMatch(/reserved/);
    expect(verdict(responder, 'record')).toMatch(/not signed or recorded as record/);
  });
});

describe('an OCSP answer', () => {
  const good: OcspAnswer = {
    form: { hash: 'sha1', hasParameters: true, serial: `2a${'0f'.repeat(16)}` as Serial },
    status: { kind: 'good' },
    producedAtSeconds: nowSeconds,
    thisUpdateSeconds: nowSeconds,
    nextUpdateSeconds: nowSeconds + 3600,
    nonce: undefined,
  };
  const [issuer] = test.authority.issuers;
  if (!issuer) throw new Error('the fixture has an issuer');
  const issuers = new Map([[issuer.keyId, policyIssuer(issuer)]]);
  const answered = (
    change: Partial<OcspAnswer>,
    authority = { ...test.authority, ocspKey },
    by = issuer.keyId,
  ) =>
    signOcsp(
      { issuerKeyId: by, answer: { ...good, ...change } },
      { authority, hsm: test.hsm, issuers, nowMs },
    );

  it('is signed with that key, over bytes that the signer makes', async () => {
    const issuerOf = issuers.get(issuer.keyId);
    if (!issuerOf) throw new Error('it is there');
    for (const nonce of [undefined, Buffer.alloc(128, 7)]) {
      const data = buildResponseData(issuerOf, ocspSpki, { ...good, nonce });
      expect(verify('sha256', data, pair.publicKey, await answered({ nonce }))).toBe(true);
      expect(verify('sha256', data, test.issuerKey, await answered({ nonce }))).toBe(false);
    }
  });

  const serial = '0badcafe' as Serial;
  it.each<[string, Partial<OcspAnswer>, RegExp]>([
    [
      'ahead of the clock',
      { thisUpdateSeconds: nowSeconds + 100, producedAtSeconds: nowSeconds + 100 },
      /future/,
    ],
    ['produced ahead of the clock', { producedAtSeconds: nowSeconds + 100 }, /future/],
    ['produced before it was known', { producedAtSeconds: nowSeconds - 1 }, /before it was known/],
    ['good for two days', { nextUpdateSeconds: nowSeconds + 2 * 86_400 }, /too long/],
    ['that has ended', { nextUpdateSeconds: nowSeconds }, /ends before/],
    ['about a serial that is none of ours', { form: { ...good.form, serial } }, /none of ours/],
    [
      'revoked in the future',
      { status: { kind: 'revoked', reason: 'superseded', atSeconds: nowSeconds + 1 } },
      /revoked in the future/,
    ],
    [
      'revoked by leaving a CRL',
      { status: { kind: 'revoked', reason: 'removeFromCRL', atSeconds: nowSeconds } },
      /left a CRL/,
    ],
    ['with an empty nonce', { nonce: Buffer.alloc(0) }, /nonce/],
  ])('is refused %s', async (_how, change, why) => {
    await expect(answered(change)).rejects.toThrow(why);
  });

  it('is refused for another issuer, and where there is no key for it', async () => {
    await expect(answered({}, { ...test.authority, ocspKey }, 'ab'.repeat(20))).rejects.toThrow(
      /does not answer/,
    );
    await expect(
      answered({}, test.authority as typeof test.authority & { ocspKey: typeof ocspKey }),
    ).rejects.toThrow(/no key/);
  });
});
