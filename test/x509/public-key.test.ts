import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { bitString, integer, nullValue, oid, sequence } from '../../src/x509/der.ts';
import { importPublicKey, keyIdOf } from '../../src/x509/public-key.ts';
import { ecKey, ed25519Key, rsaKey } from './authority.ts';
import { bestOfThreeMs, limitMs } from '../support/limits.ts';
import { expectRefusal, refusalOf } from './refusal.ts';

const spkiOf = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' });
const rsaSpki = (modulus: bigint, exponent = 65537n): Buffer =>
  sequence(
    sequence(oid('1.2.840.113549.1.1.1'), nullValue),
    bitString(sequence(integer(modulus), integer(exponent))),
  );
const modulusOf = (key: KeyObject): bigint =>
  BigInt(`0x${Buffer.from(key.export({ format: 'jwk' }).n ?? '', 'base64url').toString('hex')}`);
const primesOf = (key: KeyObject): bigint[] => {
  const { p = '', q = '' } = key.export({ format: 'jwk' });
  return [p, q].map((prime) => BigInt(`0x${Buffer.from(prime, 'base64url').toString('hex')}`));
};

describe('importPublicKey takes', () => {
  it.each([
    ['ec-p256', ecKey('P-256')],
    ['ec-p384', ecKey('P-384')],
    ['ed25519', ed25519Key()],
    ['rsa-2048', rsaKey(2048)],
    ['rsa-3072', rsaKey(3072)],
  ])('%s', (type, { info, privateKey }) => {
    expect(info.type).toBe(type);
    expect(info.key.type).toBe('public');
    expect(info.sha256).toBe(createHash('sha256').update(info.spki).digest('hex'));
    expect(info.key.export({ format: 'der', type: 'spki' })).toEqual(info.spki);
    expect(privateKey.asymmetricKeyType).toBe(info.key.asymmetricKeyType);
  });

  it('and names it by RFC 7093 method 1', () => {
    const { spki, keyId } = ecKey().info;
    expect(keyId).toBe(createHash('sha256').update(spki.subarray(-65)).digest('hex').slice(0, 40));
    expect(keyIdOf(spki)).toBe(keyId);
  });
});

describe('importPublicKey refuses', () => {
  const p256 = ecKey('P-256').info.spki;
  const offCurve = Buffer.from(p256);
  offCurve[p256.length - 1] = (offCurve.at(-1) ?? 0) ^ 1;
  const named = (namedCurve: string): Buffer => spkiOf(generateKeyPairSync('ec', { namedCurve }).publicKey);
  const explicitCurve = spkiOf(
    generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey,
  );
  const infinity = Buffer.concat([
    Buffer.from('3019301306072a8648ce3d020106082a8648ce3d030107030200', 'hex'),
    Buffer.from([0]),
  ]);

  it.each([
    ['a point off its curve', offCurve],
    ['the point at infinity', infinity],
    [
      'a compressed point',
      Buffer.concat([
        Buffer.from('3039301306072a8648ce3d020106082a8648ce3d03010703220002', 'hex'),
        p256.subarray(27, 59),
      ]),
    ],
    ['a hybrid point', Buffer.concat([p256.subarray(0, 26), Buffer.from([0x06]), p256.subarray(27)])],
    ['explicit curve parameters (CVE-2022-0778)', explicitCurve],
    ['P-521', named('P-521')],
    ['secp256k1', named('secp256k1')],
    ['P-224', named('P-224')],
    ['X25519', spkiOf(generateKeyPairSync('x25519').publicKey)],
    ['Ed448', spkiOf(generateKeyPairSync('ed448').publicKey)],
    ['DSA', spkiOf(generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 }).publicKey)],
    ['RSA-PSS as key type', spkiOf(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey)],
    ['trailing data', Buffer.concat([p256, Buffer.alloc(1)])],
    ['half a key', p256.subarray(0, 60)],
    ['nothing', Buffer.alloc(0)],
    ['an empty SEQUENCE', sequence()],
    ['empty SEQUENCEs', sequence(sequence(), bitString(Buffer.alloc(0)))],
    [
      'RSA with an empty key',
      sequence(sequence(oid('1.2.840.113549.1.1.1'), nullValue), bitString(sequence())),
    ],
    ['a megabyte', Buffer.alloc(1_000_000, 0x30)],
  ])('%s', (_name, spki) => {
    expectRefusal(
      () => importPublicKey(spki),
      'request-key',
      /use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits/,
    );
  });

  it('an Ed25519 key of small order, in every encoding', () => {
    const prefix = Buffer.from('302a300506032b6570032100', 'hex');
    for (const y of smallOrderEncodings()) {
      expectRefusal(() => importPublicKey(Buffer.concat([prefix, y])), 'request-key', /small order/);
    }
    expect(smallOrderEncodings()).toHaveLength(14);
  });

  const good = modulusOf(rsaKey(2048).info.key);

  it.each([
    ['1024 bits', (1n << 1023n) | 1n],
    ['2047 bits', (1n << 2046n) | 1n],
    ['4104 bits', (1n << 4103n) | 1n],
    ['2048 bits with a shorter top byte', (1n << 2041n) | 1n],
  ])('RSA of %s', (_name, modulus) => {
    expectRefusal(() => importPublicKey(rsaSpki(modulus)), 'request-key', /another size|too large/);
  });

  it('RSA of 16,384 bits before any arithmetic (CVE-2023-29409)', () => {
    const spki = rsaSpki((1n << 16_383n) | 1n);
    expect(bestOfThreeMs(() => refusalOf(() => importPublicKey(spki)))).toBeLessThan(limitMs(5));
  });

  it.each([
    ['1', 1n],
    ['3 (CVE-2026-33894)', 3n],
    ['65535', 65535n],
    ['65539', 65539n],
    ['a huge one', (1n << 2000n) | 1n],
  ])('RSA with the exponent %s', (_name, exponent) => {
    expect(refusalOf(() => importPublicKey(rsaSpki(good, exponent))).detail).toMatch(
      /another exponent|too large/,
    );
  });

  it('RSA with an even modulus or a small factor', () => {
    expectRefusal(() => importPublicKey(rsaSpki(good - 1n)), 'request-key', /small prime/);
    const withFactor = 751n * ((good / 751n) | 1n);
    expectRefusal(() => importPublicKey(rsaSpki(withFactor)), 'request-key', /small prime/);
  });

  it('RSA with primes that are too close (Fermat)', () => {
    const [p = 0n] = primesOf(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
    let q = p + 2n;
    while (q % 3n === 0n || q % 5n === 0n || q % 7n === 0n || hasSmallFactor(q)) q += 2n;
    expectRefusal(() => importPublicKey(rsaSpki(p * q)), 'request-key', /too close/);
    expectRefusal(() => importPublicKey(rsaSpki(p * p)), 'request-key', /too close/);
  });

  it('RSA with the structure of ROCA (CVE-2017-15361)', () => {
    const primorial = oddPrimes(701).reduce((product, prime) => product * prime, 1n);
    const modulus = rocaModulus(primorial);
    expectRefusal(() => importPublicKey(rsaSpki(modulus)), 'request-key', /ROCA/);
  });

  it('within 5 ms, also the costliest: RSA-4096 with every weakness looked for', () => {
    const { spki } = rsaKey(4096).info;
    expect(bestOfThreeMs(() => importPublicKey(spki))).toBeLessThan(limitMs(5));
  });
});

function hasSmallFactor(value: bigint): boolean {
  return oddPrimes(752).some((prime) => value % prime === 0n);
}

function oddPrimes(limit: number): bigint[] {
  const primes: number[] = [];
  for (let n = 3; n < limit; n += 2) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  return primes.map(BigInt);
}

/** k·M + (65537^a mod M): Infineon's primes, and so their products, are powers of 65537 modulo M. */
function rocaModulus(primorial: bigint): bigint {
  let power = 1n;
  for (let i = 0; i < 12_345; i++) power = (power * 65537n) % primorial;
  const k = ((1n << 2047n) / primorial) | 1n;
  for (let step = 0n; ; step += 1n) {
    const modulus = (k + step) * primorial + power;
    if (modulus % 2n === 1n && modulus >> 2047n === 1n) return modulus;
  }
}

/**
 * Computed, not copied: y of the points with 8P = O on -x² + y² = 1 + dx²y², canonical or not, both signs. Order 8 has
 * y with d·y⁴ + 2y² - 1 = 0; orders 1, 2 and 4 have y = 1, -1 and 0.
 */
function smallOrderEncodings(): Buffer[] {
  const p = (1n << 255n) - 19n;
  const mod = (value: bigint): bigint => ((value % p) + p) % p;
  const pow = (base: bigint, exponent: bigint): bigint => {
    let result = 1n;
    let square = mod(base);
    for (let rest = exponent; rest > 0n; rest >>= 1n) {
      if (rest & 1n) result = mod(result * square);
      square = mod(square * square);
    }
    return result;
  };
  const inverse = (value: bigint): bigint => pow(value, p - 2n);
  const root = (value: bigint): bigint | undefined => {
    const candidate = pow(value, (p + 3n) / 8n);
    const other = mod(candidate * pow(2n, (p - 1n) / 4n));
    return [candidate, other].find((x) => mod(x * x) === mod(value));
  };
  const d = mod(-121665n * inverse(121666n));
  const discriminant = root(1n + d) ?? 0n;
  const orderEight = [discriminant, -discriminant]
    .map((sign) => root(mod((sign - 1n) * inverse(d))))
    .flatMap((y) => (y === undefined ? [] : [y, mod(-y)]));
  const ys = [0n, 1n, p - 1n, p, p + 1n, ...orderEight];
  return ys.flatMap((y) =>
    [0n, 1n << 255n].map((sign) => Buffer.from((y | sign).toString(16).padStart(64, '0'), 'hex').reverse()),
  );
}
