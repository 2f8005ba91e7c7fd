import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { lintCertificate } from '../../src/lint/certificate.ts';
import { lintCrl } from '../../src/lint/crl.ts';
import { parseCertificate, parseTbsCertificate } from '../../src/x509/certificate.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { parseOcspRequest } from '../../src/x509/ocsp.ts';
import { parseCrl, parseTbsCrl } from '../../src/x509/crl.ts';
import { buildCsr, parseCsr, verifyCsr } from '../../src/x509/csr.ts';
import { encodePem, decodePem } from '../../src/x509/pem.ts';
import { validatePath } from '../../src/x509/path.ts';
import { importPublicKey } from '../../src/x509/public-key.ts';
import { nameText, rdnName } from '../../src/x509/name.ts';
import {
  ecKey,
  freshSerial,
  makeCrl,
  makeIssuer,
  makeLeaf,
  makeRoot,
  nowMs,
  nowSeconds,
  rsaKey,
  trustDomain,
  workloadId,
} from './authority.ts';
import { vectors } from './vectors.ts';

const root = makeRoot();
const issuer = makeIssuer(root, {
  ca: {
    pathLength: 0,
    nameConstraints: { permittedUriDomains: ['example.org'], permittedDnsDomains: ['example.org'] },
  },
});
const leaf = makeLeaf(issuer);
const csr = buildCsr(ecKey().privateKey, {
  uris: [workloadId],
  dnsNames: ['a.example.org'],
  ipAddresses: ['192.0.2.1'],
  commonName: 'a',
});
const crl = makeCrl(issuer, {
  idpUrl: 'http://ca.example.org/crl/0.crl',
  revoked: (['keyCompromise', 'unspecified', 'superseded'] as const).map((reason) =>
    encodeRevoked({ serial: freshSerial(), dateSeconds: nowSeconds - 5, reason }),
  ),
});
const context = {
  spiffeId: workloadId,
  trustDomain,
  isServer: false,
  issuer: { nameDer: issuer.name, notAfterMs: nowMs * 2, keyId: issuer.key.info.keyId },
};

/** mulberry32: the same mutations for the same seed. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const interesting = [
  0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x1f, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x82, 0x84, 0x86, 0xa0, 0xa3,
  0xff,
];

/** One to four changes: a byte flipped or set, a slice cut out, doubled, or put elsewhere. */
function mutate(input: Buffer, random: (below: number) => number): Buffer {
  let bytes: Buffer = Buffer.from(input);
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const at = random(bytes.length);
    const end = Math.min(bytes.length, at + 1 + random(20));
    const slice = Buffer.from(bytes.subarray(at, end));
    switch (random(6)) {
      case 0:
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 2:
        bytes[at] = interesting[random(interesting.length)] ?? 0;
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, end), slice, bytes.subarray(end)]);
        break;
      default:
        slice.copy(bytes, random(bytes.length));
    }
    if (bytes.length === 0) return bytes;
  }
  return bytes;
}

/** Of OpenSSL: by SHA-1, with a nonce of 16 bytes. */
const ocspRequest = Buffer.from(
  '30773075304e304c304a300906052b0e03021a05000414b6a16dad9caca807a824235802770f41e5b63b070414a32343' +
    'b3cb339e3c9907e7c6d6871efbcec43ec602112a0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0fa2233021301f06092b060105' +
    '050730010204120410daee78384e99eca99bebb026bf1fc7ec',
  'hex',
);

const targets: [string, Buffer, (input: Buffer) => unknown][] = [
  ['parseCertificate', leaf, parseCertificate],
  ['parseCertificate of a CA', issuer.der, parseCertificate],
  ['parseTbsCertificate', parseCertificate(leaf).tbs, parseTbsCertificate],
  [
    'validatePath, leaf',
    leaf,
    (input) => validatePath({ chain: [input, issuer.der], roots: [root.der], nowMs }),
  ],
  [
    'validatePath, issuer',
    issuer.der,
    (input) => validatePath({ chain: [leaf, input], roots: [root.der], nowMs }),
  ],
  [
    'validatePath, root',
    root.der,
    (input) => validatePath({ chain: [leaf, issuer.der], roots: [input], nowMs }),
  ],
  ['parseCsr and verifyCsr', csr, (input) => verifyCsr(parseCsr(input))],
  ['parseCrl and every entry', crl, (input) => [...parseCrl(input).revoked()]],
  ['parseTbsCrl and has', parseCrl(crl).tbs, (input) => parseTbsCrl(input).has(freshSerial())],
  ['parseOcspRequest', ocspRequest, parseOcspRequest],
  ['importPublicKey, P-256', issuer.key.info.spki, importPublicKey],
  ['importPublicKey, RSA', rsaKey().info.spki, importPublicKey],
  ['nameText', rdnName({ organization: 'Example', commonName: 'root' }), nameText],
  [
    'decodePem',
    Buffer.from(encodePem('CERTIFICATE', leaf)),
    (input) => decodePem(input.toString('latin1'), 'CERTIFICATE'),
  ],
  ['lintCertificate', parseCertificate(leaf).tbs, (input) => lintCertificate(input, context)],
  ['lintCrl', parseCrl(crl).tbs, lintCrl],
];

describe('mutated input, 3,000 times with a fixed seed, ends in an answer or a VouchError', () => {
  it.each(targets)('%s', (_name, valid, read) => {
    const random = generator(20_300_101);
    expect(() => read(valid)).not.toThrow();
    let refused = 0;
    for (let i = 0; i < 3000; i++) {
      const input = mutate(valid, random);
      try {
        read(input);
      } catch (error) {
        if (!(error instanceof VouchError)) throw new Error(`${String(error)} for ${input.toString('hex')}`);
        refused++;
      }
    }
    if (!_name.startsWith('lint')) expect(refused).toBeGreaterThan(1000);
  });
});

describe('what our reader takes, OpenSSL takes and reads the same', () => {
  it.each([
    ['leaf', vectors.leaf],
    ['CA', vectors.issuer],
  ])('%s', (_name, valid) => {
    const random = generator(7);
    let taken = 0;
    for (let i = 0; i < 5000; i++) {
      const input = mutate(valid, random);
      const ours = attempt(() => parseCertificate(input));
      if (!ours) continue;
      taken++;
      const other = new X509Certificate(input);
      expect(BigInt(`0x${other.serialNumber}`)).toBe(BigInt(`0x${ours.serial}`));
      if (other.ca) expect(ours.basicConstraints?.isCa).toBe(true);
      expect(other.validFromDate.getTime()).toBe(ours.notBeforeMs);
      expect(other.validToDate.getTime()).toBe(ours.notAfterMs);
    }
    expect(taken).toBeGreaterThan(100);
  });
});

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    expect(error).toBeInstanceOf(VouchError);
    return undefined;
  }
}

describe('no changed byte of a certificate gets past its signature', () => {
  it('leaf: every single bit flip is refused', () => {
    for (let bit = 0; bit < leaf.length * 8; bit += 3) {
      const input = Buffer.from(leaf);
      input[bit >> 3] = (input[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => validatePath({ chain: [input, issuer.der], roots: [root.der], nowMs })).toThrow(
        VouchError,
      );
    }
  });

  it('CSR: every byte changed is refused', () => {
    const random = generator(1);
    for (let at = 0; at < csr.length; at++) {
      const input = Buffer.from(csr);
      input[at] = (input[at] ?? 0) ^ (1 + random(255));
      expect(() => verifyCsr(parseCsr(input))).toThrow(VouchError);
    }
  });

  it('a prefix of anything is refused', () => {
    for (const [read, whole] of [
      [parseCertificate, leaf],
      [parseCsr, csr],
      [parseCrl, crl],
    ] as const)
      for (let length = 0; length < whole.length; length++)
        expect(() => read(whole.subarray(0, length))).toThrow(VouchError);
  });
});
