import { constants, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  algorithmIdentifier,
  parseAlgorithmIdentifier,
  type SignatureAlgorithm,
  algorithmsOf,
  verifySignature,
  verifySignatureOfChunks,
} from '../../src/x509/algorithm.ts';
import { nullValue, oid, sequence } from '../../src/x509/der.ts';
import { ecKey, ed25519Key, rsaKey, signatureOver, type TestKey } from './authority.ts';
import { longestTurnMs } from '../support/turns.ts';
import { limitMs } from '../support/limits.ts';
import { expectRefusal } from './refusal.ts';

const encodings: [SignatureAlgorithm, string][] = [
  ['ecdsa-sha256', '300a06082a8648ce3d040302'],
  ['ecdsa-sha384', '300a06082a8648ce3d040303'],
  ['rsa-pkcs1-sha256', '300d06092a864886f70d01010b0500'],
  [
    'rsa-pss-sha256',
    '304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120',
  ],
  ['ed25519', '300506032b6570'],
];

describe('algorithmIdentifier', () => {
  it.each(encodings)('%s is encoded as its RFC says and read back', (algorithm, hex) => {
    expect(algorithmIdentifier(algorithm).toString('hex')).toBe(hex);
    expect(parseAlgorithmIdentifier(Buffer.from(hex, 'hex'))).toBe(algorithm);
  });

  it.each([
    ['SHA-1 with RSA', sequence(oid('1.2.840.113549.1.1.5'), nullValue)],
    ['MD5 with RSA', sequence(oid('1.2.840.113549.1.1.4'), nullValue)],
    ['ECDSA with SHA-1', sequence(oid('1.2.840.10045.4.1'))],
    ['DSA with SHA-256', sequence(oid('2.16.840.1.101.3.4.3.2'))],
    ['ECDSA with a NULL parameter', sequence(oid('1.2.840.10045.4.3.2'), nullValue)],
    ['RSA without its NULL', sequence(oid('1.2.840.113549.1.1.11'))],
    ['PSS with default parameters, which mean SHA-1', sequence(oid('1.2.840.113549.1.1.10'), sequence())],
    ['an identifier with trailing data', Buffer.concat([algorithmIdentifier('ed25519'), nullValue])],
    ['nothing', Buffer.alloc(0)],
  ])('refuses %s', (_name, der) => {
    expectRefusal(
      () => parseAlgorithmIdentifier(der),
      'request-malformed',
      /not accepted; use one of ecdsa-sha256/,
    );
  });
});

describe('verifySignature', () => {
  const data = Buffer.from('what was signed');
  const rsa = rsaKey();
  const keys: [SignatureAlgorithm, TestKey][] = [
    ['ecdsa-sha256', ecKey('P-256')],
    ['ecdsa-sha384', ecKey('P-384')],
    ['rsa-pkcs1-sha256', rsa],
    ['ed25519', ed25519Key()],
  ];

  it.each(keys)('%s: takes its signature and no other', (algorithm, key) => {
    const signature = signatureOver(data, key);
    expect(key.algorithm).toBe(algorithm);
    expect(verifySignature(algorithm, key.info.key, data, signature)).toBe(true);
    expect(verifySignature(algorithm, key.info.key, Buffer.from('what was not'), signature)).toBe(false);
    expect(verifySignature(algorithm, key.info.key, data, randomBytes(signature.length))).toBe(false);
    expect(verifySignature(algorithm, key.info.key, data, Buffer.alloc(0))).toBe(false);
    expect(verifySignature(algorithm, key.info.key, data, Buffer.concat([signature, Buffer.alloc(1)]))).toBe(
      false,
    );
  });

  it.each(keys)('%s: false, not a throw, for keys of another type', (algorithm, key) => {
    const signature = signatureOver(data, key);
    for (const [, other] of keys) {
      if (other.algorithm === algorithm) continue;
      expect(verifySignature(other.algorithm, key.info.key, data, signature)).toBe(false);
      expect(verifySignature(algorithm, other.info.key, data, signature)).toBe(false);
    }
  });

  it('takes PSS with a salt of 32 bytes only', () => {
    const pss = (saltLength: number): Buffer =>
      sign('sha256', data, { key: rsa.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength });
    expect(verifySignature('rsa-pss-sha256', rsa.info.key, data, pss(32))).toBe(true);
    expect(verifySignature('rsa-pss-sha256', rsa.info.key, data, pss(20))).toBe(false);
    expect(verifySignature('rsa-pkcs1-sha256', rsa.info.key, data, pss(32))).toBe(false);
  });

  it('refuses a private key where a public one belongs, and ECDSA signatures as r||s', () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const raw = sign('sha256', data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
    expect(verifySignature('ecdsa-sha256', publicKey, data, sign('sha256', data, privateKey))).toBe(true);
    expect(verifySignature('ecdsa-sha256', privateKey, data, sign('sha256', data, privateKey))).toBe(false);
    expect(verifySignature('ecdsa-sha256', publicKey, data, raw)).toBe(false);
  });

  it('refuses an Ed25519 signature whose S is not reduced (CVE-2026-33895)', () => {
    const key = ed25519Key();
    const signature = signatureOver(data, key);
    const order = (1n << 252n) + 27742317777372353535851937790883648493n;
    const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`) + order;
    const malleated = Buffer.concat([
      signature.subarray(0, 32),
      Buffer.from(s.toString(16).padStart(64, '0'), 'hex').reverse(),
    ]);
    expect(verifySignature('ed25519', key.info.key, data, malleated)).toBe(false);
  });
});

describe('verifySignatureOfChunks', () => {
  const rsa = rsaKey();
  const keys = [ecKey('P-256'), ecKey('P-384'), rsa, { ...rsa, algorithm: 'rsa-pss-sha256' }, ed25519Key()];
  const signatureOf = ({ algorithm, privateKey }: (typeof keys)[number], data: Buffer): Buffer =>
    algorithm === 'rsa-pss-sha256'
      ? sign('sha256', data, { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 })
      : signatureOver(data, { ...rsa, algorithm: algorithm as SignatureAlgorithm, privateKey });

  it.each(keys)('$algorithm: says of chunks what is true of the whole', async (key) => {
    const algorithm = key.algorithm as SignatureAlgorithm;
    const data = randomBytes(1_200_000);
    const signature = signatureOf(key, data);
    const verified = (chunks: Buffer[], by = signature) =>
      verifySignatureOfChunks(algorithm, key.info.key, chunks, by);
    expect(verifySignature(algorithm, key.info.key, data, signature)).toBe(true);
    const cut = [data.subarray(0, 1), Buffer.alloc(0), data.subarray(1, 600_000), data.subarray(600_000)];
    expect(await verified([data])).toBe(true);
    expect(await verified(cut)).toBe(true);
    expect(await verified(cut.toReversed())).toBe(false);
    expect(await verified(cut.slice(1))).toBe(false);
    expect(await verified(cut, randomBytes(signature.length))).toBe(false);
    expect(await verified(cut, Buffer.alloc(0))).toBe(false);
    for (const other of keys)
      if (other.algorithm !== algorithm) {
        const by = other.algorithm as SignatureAlgorithm;
        expect(await verifySignatureOfChunks(by, key.info.key, cut, signature)).toBe(false);
      }
    expect(await verifySignatureOfChunks(algorithm, key.privateKey, cut, signature)).toBe(false);
  });

  it.each([ecKey('P-256'), ed25519Key()])('$algorithm: holds nobody up for 50 MB', async (key) => {
    const chunks = Array.from({ length: 1600 }, (_, index) => Buffer.alloc(32 * 1024, index));
    const signature = signatureOf(key, Buffer.concat(chunks));
    let longest = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 3; round += 1)
      longest = Math.min(
        longest,
        await longestTurnMs(async () => {
          expect(await verifySignatureOfChunks(key.algorithm, key.info.key, chunks, signature)).toBe(true);
        }),
      );
    expect(longest).toBeLessThan(limitMs(20));
  });
});

describe('algorithmsOf', () => {
  it.each([
    ['ec-p256', ['ecdsa-sha256']],
    ['ec-p384', ['ecdsa-sha384']],
    ['rsa-3072', ['rsa-pkcs1-sha256', 'rsa-pss-sha256']],
    ['ed25519', ['ed25519']],
  ] as const)('%s signs with %s', (type, algorithms) => {
    expect(algorithmsOf(type)).toEqual(algorithms);
  });
});
