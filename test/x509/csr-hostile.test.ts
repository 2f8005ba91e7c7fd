import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { assembleSigned } from '../../src/x509/certificate-tbs.ts';
import { buildCsr, csrMaxBytes } from '../../src/x509/csr.ts';
import {
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  set,
  tlv,
} from '../../src/x509/der.ts';
import { emptyName, rdnName } from '../../src/x509/name.ts';
import { ecKey, workloadId } from './authority.ts';
import { rawExtension } from './raw-certificate.ts';
import { bestOfThreeMs, limitMs } from '../support/limits.ts';
import { expectRefusal, refusalOf } from './refusal.ts';
import { answer, csrWith, dns, extensionRequest, key, rawCsr, san, uri } from './raw-csr.ts';

describe('a hostile CSR is answered in under 100 ms, with request-csr', () => {
  const nested = (depth: number): Buffer => {
    let inner: Buffer = nullValue;
    for (let i = 0; i < depth; i++) inner = sequence(inner);
    return inner;
  };
  const good = rawCsr();
  const broken = Buffer.from(good);
  broken[good.length - 1] = (good.at(-1) ?? 0) ^ 1;
  const other = ecKey();

  const cases: [string, Buffer, RegExp][] = [
    ['garbage', randomBytes(500), /not a PKCS#10 request/],
    ['nothing', Buffer.alloc(0), /input is empty/],
    ['text', Buffer.from('-----BEGIN CERTIFICATE REQUEST-----\n'), /not a PKCS#10 request/],
    ['1 MB', Buffer.alloc(1_000_000, 0x30), /larger than 16384 bytes/],
    ['one byte too many', Buffer.alloc(csrMaxBytes + 1), /larger than 16384 bytes/],
    [
      '10,000 SANs',
      csrWith(san(...Array.from({ length: 10_000 }, (_, i) => dns(`a${i}.test`)))),
      /larger than 16384 bytes; ask for fewer names/,
    ],
    [
      '101 SANs',
      csrWith(san(...Array.from({ length: 101 }, (_, i) => dns(`a${i}.test`)))),
      /more than 100 names/,
    ],
    ['5,000 empty SANs in 16 KiB', csrWith(san(...Array<Buffer>(5000).fill(dns('')))), /empty/],
    [
      '5,000 SANs of odd types in 16 KiB',
      csrWith(san(...Array<Buffer>(5000).fill(implicit(8, Buffer.from([1]))))),
      /more than 100 names/,
    ],
    ['two URIs', csrWith(san(uri(workloadId), uri('spiffe://example.org/admin'))), /more than one URI/],
    ['one URI twice', csrWith(san(uri(workloadId), uri(workloadId))), /more than one URI/],
    [
      'CA:TRUE',
      csrWith(rawExtension('2.5.29.19', sequence(boolean(true)), true)),
      /asks for a CA certificate/,
    ],
    [
      'keyCertSign',
      csrWith(rawExtension('2.5.29.15', bitString(Buffer.from([0x04]), 2), true)),
      /asks for a CA certificate/,
    ],
    ['a broken signature', broken, /not signed with its own key/],
    ['the signature of another key', rawCsr({ spki: other.info.spki }), /not signed with its own key/],
    [
      'an empty signature',
      sequence(good.subarray(4, 4 + 0), sequence(), bitString(Buffer.alloc(0))),
      /PKCS#10/,
    ],
    ['version 2', rawCsr({ version: integer(1n) }), /version is not 1/],
    ['version -1', rawCsr({ version: Buffer.from('0201ff', 'hex') }), /negative/],
    ['trailing data', Buffer.concat([good, Buffer.alloc(1)]), /trailing data/],
    ['half of it', good.subarray(0, 100), /PKCS#10/],
    [
      'two extensionRequests',
      rawCsr({ attributes: explicit(0, extensionRequest(san(dns('a'))), extensionRequest(san(dns('b')))) }),
      /stands twice/,
    ],
    [
      'two values in extensionRequest',
      rawCsr({
        attributes: explicit(
          0,
          sequence(oid('1.2.840.113549.1.9.14'), set(sequence(san(dns('a'))), sequence(san(dns('bb'))))),
        ),
      }),
      /unexpected element/,
    ],
    [
      'an empty extensionRequest',
      rawCsr({ attributes: explicit(0, sequence(oid('1.2.840.113549.1.9.14'), set())) }),
      /empty/,
    ],
    ['an extensionRequest of nothing', csrWith(), /extensions is empty/],
    ['two subjectAltNames', csrWith(san(dns('a')), san(dns('b'))), /stands twice/],
    ['an empty attribute', rawCsr({ attributes: explicit(0, sequence()) }), /missing or cut/],
    ['an attribute that is a SET', rawCsr({ attributes: explicit(0, set()) }), /another tag/],
    ['attributes under another tag', rawCsr({ attributes: explicit(1) }), /another tag/],
    [
      'something behind the attributes',
      rawCsr({ attributes: Buffer.concat([explicit(0), nullValue]) }),
      /unexpected element/,
    ],
    ['a NUL in a SAN', csrWith(san(dns('a\0b'))), /printable ASCII/],
    ['a subject that is an integer', rawCsr({ subject: integer(5n) }), /another tag/],
    ['nesting 15,000 deep', sequence(nested(3500)), /nested deeper|too large|larger/],
    [
      'nesting in an attribute',
      rawCsr({ attributes: explicit(0, sequence(oid('1.2.3'), set(nested(2000)))) }),
      /nested deeper/,
    ],
    [
      '7,000 NULLs',
      rawCsr({
        attributes: explicit(
          0,
          sequence(oid('1.2.3'), set(Buffer.concat(Array<Buffer>(7000).fill(nullValue)))),
        ),
      }),
      /more than 2000 elements/,
    ],
    [
      'an OID of 15 KB',
      rawCsr({
        attributes: explicit(
          0,
          sequence(
            tlv(0x06, Buffer.concat([Buffer.from([0x2a]), Buffer.alloc(15_000, 0xff), Buffer.from([1])])),
            set(nullValue),
          ),
        ),
      }),
      /longer than 64 bytes/,
    ],
    [
      'an INTEGER of 15 KB as version',
      rawCsr({ version: tlv(0x02, Buffer.alloc(15_000, 1)) }),
      /longer than 4 bytes/,
    ],
    [
      'a subject of a thousand RDNs',
      rawCsr({
        subject: sequence(
          Buffer.concat(Array.from({ length: 1000 }, () => rdnName({ commonName: 'a' }).subarray(2))),
        ),
      }),
      /more than 2000 elements/,
    ],
    [
      'an indefinite length',
      Buffer.concat([Buffer.from([0x30, 0x80]), good.subarray(4), Buffer.alloc(2)]),
      /indefinite|not minimal|PKCS#10/,
    ],
    [
      'an unknown signature algorithm',
      sequence(
        sequence(integer(0n), emptyName, key.info.spki, explicit(0)),
        sequence(oid('1.2.840.113549.1.1.4'), nullValue),
        bitString(Buffer.alloc(64)),
      ),
      /signature algorithm not accepted/,
    ],
    [
      'a signature that is none',
      assembleSigned(
        sequence(integer(0n), emptyName, key.info.spki, explicit(0)),
        'ecdsa-sha256',
        Buffer.alloc(15_000, 0xff),
      ),
      /not signed with its own key/,
    ],
  ];

  it.each(cases)('%s', (_name, csr, detail) => {
    expectRefusal(() => answer(csr), 'request-csr', detail);
    expect(bestOfThreeMs(() => refusalOf(() => answer(csr)))).toBeLessThan(limitMs(100));
  });

  it('an empty SEQUENCE or SET in place of any element', () => {
    const whole = buildCsr(key.privateKey, {
      uris: [workloadId],
      dnsNames: ['a.test'],
      commonName: 'orders',
    });
    for (const empty of [sequence(), set(), explicit(0), Buffer.alloc(0), octetString()]) {
      for (const [start, end] of elementsOf(whole)) {
        const changed = relengthen(whole, start, end, empty);
        const refusal = outcome(() => answer(changed));
        // An empty subject, SET of attributes or attribute list is a request for less, but then its signature is broken.
        expect(refusal).toMatch(/^request-(csr|key)$/);
      }
    }
  });
});

describe('a CSR with a key that is not allowed is answered in under 100 ms, with request-key', () => {
  const spkiOf = (publicKey: KeyObject): Buffer => publicKey.export({ format: 'der', type: 'spki' });
  const rsaSpki = (modulus: bigint, exponent: bigint): Buffer =>
    sequence(
      sequence(oid('1.2.840.113549.1.1.1'), nullValue),
      bitString(sequence(integer(modulus), integer(exponent))),
    );
  const modulus = (bits: bigint): bigint =>
    (1n << (bits - 1n)) | BigInt(`0x${randomBytes(64).toString('hex')}`) | 1n;
  const explicitCurve = spkiOf(
    generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey,
  );
  const badPrime = Buffer.from(explicitCurve);
  badPrime[badPrime.indexOf(Buffer.alloc(8, 0xff)) + 4] = 0xfe;

  it.each([
    ['RSA 16384', rsaSpki(modulus(16_384n), 65537n)],
    ['RSA 32768', rsaSpki(modulus(32_768n), 65537n)],
    ['RSA 1024', rsaSpki(modulus(1024n), 65537n)],
    ['RSA with e=3', rsaSpki(modulus(2048n), 3n)],
    ['RSA with e=1', rsaSpki(modulus(2048n), 1n)],
    ['RSA with an exponent of 2048 bits', rsaSpki(modulus(2048n), modulus(2048n))],
    ['RSA with a modulus of zero (CVE-2026-33891)', rsaSpki(0n, 65537n)],
    ['explicit curve parameters (CVE-2022-0778)', explicitCurve],
    ['explicit curve parameters with a prime that is none', badPrime],
    ['DSA', spkiOf(generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 }).publicKey)],
    ['an unknown key algorithm', sequence(sequence(oid('1.2.3.4')), bitString(Buffer.alloc(32)))],
    ['a key that is an empty SEQUENCE', sequence()],
    [
      'a key of 15 KB',
      sequence(sequence(oid('1.2.840.113549.1.1.1'), nullValue), bitString(Buffer.alloc(15_000))),
    ],
  ])('%s', (_name, spki) => {
    const csr = rawCsr({ spki });
    expectRefusal(() => answer(csr), 'request-key', /use ECDSA P-256/);
    expect(bestOfThreeMs(() => refusalOf(() => answer(csr)))).toBeLessThan(limitMs(100));
  });
});

function outcome(call: () => unknown): string {
  try {
    call();
    return 'taken';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** Start and end of every element, outermost first. */
function elementsOf(der: Buffer, start = 0, end = der.length): [number, number][] {
  const found: [number, number][] = [];
  for (let at = start; at < end; ) {
    const { content, next } = header(der, at);
    found.push([at, next]);
    if (((der[at] ?? 0) & 0x20) !== 0) found.push(...elementsOf(der, content, next));
    at = next;
  }
  return found;
}

/** The input with one element replaced and every length around it made right again. */
function relengthen(
  der: Buffer,
  start: number,
  end: number,
  replacement: Buffer,
  from = 0,
  to = der.length,
): Buffer {
  const parts: Buffer[] = [];
  for (let at = from; at < to; ) {
    const { content, next } = header(der, at);
    if (at === start && next === end) parts.push(replacement);
    else if (at <= start && end <= next && ((der[at] ?? 0) & 0x20) !== 0)
      parts.push(tlv(der[at] ?? 0, relengthen(der, start, end, replacement, content, next)));
    else parts.push(der.subarray(at, next));
    at = next;
  }
  return Buffer.concat(parts);
}

function header(der: Buffer, at: number): { content: number; next: number } {
  const first = der[at + 1] ?? 0;
  const size = first < 0x80 ? 0 : first & 0x7f;
  const length = size === 0 ? first : der.readUIntBE(at + 2, size);
  return { content: at + 2 + size, next: at + 2 + size + length };
}
