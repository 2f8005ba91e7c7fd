import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import { decide, type PolicyContext } from '../../src/signer/policy.ts';
import type { RequestedItem } from '../../src/signer/protocol.ts';
import { bitString, boolean, implicit, octetString, oid, sequence } from '../../src/x509/der.ts';
import type { CertificateTemplate } from '../../src/x509/certificate-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import {
  certificateItem,
  certificateTbs,
  crlItem,
  leafOf,
  nowMs,
  nowSeconds,
  policyContext,
  recordItem,
  spkiOf,
  testAuthority,
} from './fixture.ts';
import { withExtension } from './raw-tbs.ts';

const test = testAuthority();

function refusal(item: RequestedItem, context: Partial<PolicyContext> = {}): string {
  const decision = decide(item, policyContext(test, context));
  if (decision.outcome !== 'refuse') throw new Error(`not refused but: ${decision.outcome}`);
  return decision.error.detail;
}

function refusalOf(overrides: Partial<CertificateTemplate>, context: Partial<PolicyContext> = {}): string {
  return refusal(certificateItem(test, certificateTbs(test, overrides)), context);
}

describe('a workload certificate', () => {
  it('is signed: the TBS of its leaf, by the issuer that the leaf names', () => {
    const tbs = certificateTbs(test);
    const decision = decide(certificateItem(test, tbs), policyContext(test));
    expect(decision).toMatchObject({ outcome: 'sign', issuer: { ckaId: '01' }, crl: undefined });
    expect(decision.outcome === 'sign' && decision.toSign).toEqual(tbs);
  });

  it('of each key type Vouch issues for is signed', () => {
    const keys = [
      generateKeyPairSync('ec', { namedCurve: 'P-384' }),
      generateKeyPairSync('ed25519'),
      generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ];
    for (const { publicKey } of keys) {
      const tbs = certificateTbs(test, { spki: spkiOf(publicKey) });
      expect(decide(certificateItem(test, tbs), policyContext(test)).outcome).toBe('sign');
    }
  });

  it.each<[string, Partial<CertificateTemplate>, RegExp]>([
    ['a CA', { ca: {} }, /CA certificate/],
    ['a CA that signs only below itself', { ca: { pathLength: 0 } }, /CA certificate/],
    ['another issuer', { issuerName: rdnName({ commonName: 'Other' }) }, /names another issuer/],
    ["another issuer's key id", { authorityKeyId: 'ab'.repeat(20) }, /authorityKeyId/],
    ["a subjectKeyId that is not its key's", { subjectKeyId: 'ab'.repeat(20) }, /subjectKeyId/],
    ['another algorithm than the issuer signs with', { algorithm: 'ecdsa-sha384' }, /algorithm/],
    ['the subject of the issuer', { subjectName: test.issuerName }, /subject is an issuer/],
    ['a subject that is no DNS name of it', { subjectName: rdnName({ commonName: 'admin' }) }, /its subject/],
    [
      'a subject that is not the first of its DNS names',
      { subjectName: rdnName({ commonName: 'b.test' }), dnsNames: ['a.test', 'b.test'] },
      /its subject/,
    ],
    ['a validity beyond the limit', { notAfterSeconds: nowSeconds + 86_400 + 61 }, /valid for too long/],
    ['an end after its issuer', { notAfterSeconds: nowSeconds + 91 * 86_400 }, /outlives its issuer/],
    ['a beginning in the future', { notBeforeSeconds: nowSeconds + 61 }, /in the future/],
    ['a beginning far back', { notBeforeSeconds: nowSeconds - 151 }, /too far back/],
    ['an end in the past', { notBeforeSeconds: nowSeconds - 60, notAfterSeconds: nowSeconds - 1 }, /expired/],
    ['an end before its beginning', { notAfterSeconds: nowSeconds - 61 }, /ends before it begins/],
    ['no URI name', { uris: [] }, /exactly one URI/],
    ['two URI names', { uris: ['spiffe://test.example/a', 'spiffe://test.example/b'] }, /exactly one URI/],
    ['an https name', { uris: ['https://test.example/a'] }, /must start with spiffe/],
    ['a SPIFFE ID without path', { uris: ['spiffe://test.example'] }, /needs a path/],
    ['a path that climbs', { uris: ['spiffe://test.example/a/../vouch/server'] }, /segment/],
    ['a percent sign in its path', { uris: ['spiffe://test.example/%76ouch/server'] }, /segment/],
    ['another trust domain', { uris: ['spiffe://other.example/orders'] }, /another trust domain/],
    ['a trust domain as prefix', { uris: ['spiffe://test.example.evil/orders'] }, /another trust domain/],
    ["the server's name", { uris: ['spiffe://test.example/vouch/server'] }, /reserved/],
    ['a name under /vouch/', { uris: ['spiffe://test.example/vouch/agent/1'] }, /reserved/],
    ['the reserved prefix itself', { uris: ['spiffe://test.example/vouch'] }, /reserved/],
    ['a serial of another length', { serial: '2a'.repeat(16) as Serial }, /serial/],
    ['a short serial', { serial: '01' as Serial }, /serial/],
    ['a serial that begins with zero', { serial: `00${'8a'.repeat(16)}` as Serial }, /serial/],
  ])('is refused with %s', (_what, overrides, why) => {
    expect(refusalOf(overrides)).toMatch(why);
  });

  it('is refused for the key of an issuer', () => {
    const spki = spkiOf(test.issuerKey);
    expect(refusalOf({ spki, subjectKeyId: keyIdOf(spki) })).toMatch(/key of an issuer/);
  });

  it.each<[string, Buffer, RegExp]>([
    ['name constraints', sequence(oid('2.5.29.30'), octetString(sequence())), /.*/],
    ['an unknown extension', sequence(oid('1.2.3.4'), octetString(Buffer.from([5, 0]))), /1\.2\.3\.4/],
    [
      'a critical unknown one',
      sequence(oid('1.2.3.4'), boolean(true), octetString(Buffer.from([5, 0]))),
      /1\.2\.3\.4/,
    ],
    ["Microsoft's template", sequence(oid('1.3.6.1.4.1.311.21.7'), octetString(sequence())), /311\.21\.7/],
    ['OCSP no-check', sequence(oid('1.3.6.1.5.5.7.48.1.5'), octetString(Buffer.from([5, 0]))), /48\.1\.5/],
  ])('is refused with %s', (_what, extension, why) => {
    expect(refusal(certificateItem(test, withExtension(certificateTbs(test), extension)))).toMatch(why);
  });

  it.each<[string, Buffer, RegExp]>([
    ['OCSPSigning', usage('1.3.6.1.5.5.7.3.9'), /beyond TLS/],
    ['anyExtendedKeyUsage', usage('2.5.29.37.0'), /beyond TLS/],
    ['serverAuth and codeSigning', usage('1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.3'), /beyond TLS/],
  ])('is refused with extKeyUsage %s', (_what, extension, why) => {
    expect(
      refusal(certificateItem(test, withExtension(certificateTbs(test), extension, '2.5.29.37'))),
    ).toMatch(why);
  });

  it('is refused with keyCertSign or cRLSign beside digitalSignature', () => {
    for (const [unused, bits] of [
      [2, 0x84],
      [1, 0x82],
      [1, 0x86],
    ] as const) {
      const keyUsage = sequence(
        oid('2.5.29.15'),
        boolean(true),
        octetString(bitString(Buffer.from([bits]), unused)),
      );
      const tbs = withExtension(certificateTbs(test), keyUsage, '2.5.29.15');
      expect(refusal(certificateItem(test, tbs))).toMatch(/may sign certificates or CRLs/);
    }
  });

  it('is refused with a name of a kind that Vouch does not issue', () => {
    const names = [
      implicit(6, Buffer.from('spiffe://test.example/orders')),
      implicit(1, Buffer.from('a@b.test')),
    ];
    const extension = sequence(oid('2.5.29.17'), boolean(true), octetString(sequence(...names)));
    const tbs = withExtension(certificateTbs(test), extension, '2.5.29.17');
    expect(refusal(certificateItem(test, tbs))).toMatch(/names of a kind/);
  });

  it('is refused where the leaf is of another issuer, none of ours', () => {
    const leaf = leafOf(test, {
      type: 'certificate',
      body: certificateTbs(test),
      issuerKeyId: 'ab'.repeat(20),
    });
    expect(refusal({ purpose: 'certificate', leaf })).toMatch(/does not sign for issuer/);
  });

  it('is refused where the body is no TBS at all', () => {
    for (const body of [Buffer.from('junk'), Buffer.from([0x30, 0]), certificateTbs(test).subarray(0, -1)]) {
      const leaf = leafOf(test, { type: 'certificate', body });
      expect(decide({ purpose: 'certificate', leaf }, policyContext(test)).outcome).toBe('refuse');
    }
  });

  it('may wait for a respawn between its making and its signature', () => {
    const later = { nowMs: nowMs + 25_000 };
    expect(decide(certificateItem(test), policyContext(test, later)).outcome).toBe('sign');
  });

  it('is signed again after a crash in the first half of its life, and not after it', () => {
    const item = certificateItem(test);
    const half = { nowMs: nowMs + 1_800_000 };
    expect(refusal(item, half)).toMatch(/too far back/);
    expect(decide(item, policyContext(test, { ...half, occasion: 'again' })).outcome).toBe('sign');
    expect(refusal(item, { nowMs: nowMs + 2_400_000, occasion: 'again' })).toMatch(/half of its life/);
    expect(refusal(item, { nowMs: nowMs + 3_600_000, occasion: 'again' })).toMatch(/expired/);
  });
});

describe("the server's own certificate", () => {
  const server = (uri: string) => ({
    ...certificateItem(test, certificateTbs(test, { uris: [uri] })),
    purpose: 'server-certificate' as const,
  });

  it('carries exactly the reserved name', () => {
    expect(decide(server('spiffe://test.example/vouch/server'), policyContext(test)).outcome).toBe('sign');
    for (const uri of [
      'spiffe://test.example/orders',
      'spiffe://test.example/vouch/server2',
      'spiffe://test.example/vouch/server/x',
    ])
      expect(refusal(server(uri))).toMatch(/not the server's own name/);
  });
});

describe('purpose and leaf', () => {
  it('must go together', () => {
    const certificate = certificateItem(test);
    const crl = crlItem(test);
    const record = recordItem(test);
    const swapped: RequestedItem[] = [
      { ...certificate, purpose: 'record' },
      { ...crl, purpose: 'record' },
      { ...certificate, purpose: 'crl' },
      { ...crl, purpose: 'certificate' },
      { ...crl, purpose: 'server-certificate' },
      { ...record, purpose: 'certificate' },
      { ...record, purpose: 'crl' },
    ];
    for (const item of swapped) expect(refusal(item)).toMatch(/leaf is not signed or recorded as/);
  });

  it('a record is only recorded', () => {
    expect(decide(recordItem(test), policyContext(test))).toEqual({ outcome: 'record' });
  });

  it('an unknown purpose signs nothing, whatever the leaf', () => {
    for (const item of [certificateItem(test), crlItem(test), recordItem(test)])
      expect(decide({ ...item, purpose: undefined }, policyContext(test))).toMatchObject({
        outcome: 'refuse',
        error: { code: 'request-unknown-type' },
      });
  });

  it('a leaf that is none is refused, not thrown', () => {
    for (const leaf of [Buffer.alloc(0), Buffer.from('junk'), Buffer.alloc(60_000)])
      expect(decide({ purpose: 'certificate', leaf }, policyContext(test)).outcome).toBe('refuse');
  });
});

function usage(...purposes: string[]): Buffer {
  return sequence(oid('2.5.29.37'), octetString(sequence(...purposes.map(oid))));
}
