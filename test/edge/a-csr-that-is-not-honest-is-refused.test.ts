import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { beforeAll, expect, it } from 'vitest';
import { buildCsr } from '../../src/x509/csr.ts';
import { bitString, explicit, implicit, integer, nullValue, oid, sequence } from '../../src/x509/der.ts';
import { emptyName } from '../../src/x509/name.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { rawExtension } from '../x509/raw-certificate.ts';
import { csrWith, dns, key as csrKey, rawCsr, san, uri } from '../x509/raw-csr.ts';
import { ecKey, ed25519Key, rsaKey } from '../x509/authority.ts';
import { dial, enroll, enrollBody, newKey, problemIn, send } from './client.ts';
import { limitMs } from '../support/limits.ts';

let authority: Authority;
let url: string;
let joinFile: string;

beforeAll(async () => {
  authority = await bootAuthority({
    configure: ({ enrollment }) => {
      enrollment.failuresPerMinute = 100_000;
    },
  });
  url = authority.server.ready.enrollmentUrl;
  joinFile = (await authority.join('orders', '--dns', 'orders.test.example')).path;
});

/** Everything honest but the CSR; the best of three runs counts for its time. */
async function refusal(csr: Buffer) {
  const answers = [];
  for (let run = 0; run < 3; run += 1) {
    const socket = await dial(url);
    const body = JSON.stringify(enrollBody(socket, joinFile, csrKey.privateKey, csr));
    answers.push(await send(socket, { body, headers: { 'content-type': 'application/json' } }));
  }
  expect(Math.min(...answers.map(({ ms }) => ms))).toBeLessThan(limitMs(200));
  const [answer] = answers;
  if (!answer) throw new Error('no answer');
  const problem = problemIn(answer);
  expect(problem.detail).not.toMatch(/\.[tj]s\b|node_modules|openssl|asn1|0x/i);
  expect(problem.detail.length).toBeGreaterThan(20);
  return { status: answer.status, code: problem.code, detail: problem.detail };
}

/** A CSR that no key signed: for keys that nobody here can make. */
function unsignedCsr(spki: Buffer): Buffer {
  const info = sequence(integer(0n), emptyName, spki, explicit(0));
  return sequence(info, sequence(oid('1.2.840.113549.1.1.11'), nullValue), bitString(randomBytes(256)));
}

function rsaSpki(modulusBits: number, exponent: bigint): Buffer {
  const modulus = randomBytes(modulusBits / 8);
  modulus[0] = (modulus[0] ?? 0) | 0x80;
  modulus[modulus.length - 1] = (modulus.at(-1) ?? 0) | 1;
  const key = sequence(integer(BigInt(`0x${modulus.toString('hex')}`)), integer(exponent));
  return sequence(sequence(oid('1.2.840.113549.1.1.1'), nullValue), bitString(key));
}

function spkiOf(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}

function pointOffTheCurve(): Buffer {
  const spki = Buffer.from(spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey));
  spki[spki.length - 1] = (spki.at(-1) ?? 0) ^ 1;
  return spki;
}

const sans = (count: number) => san(...Array.from({ length: count }, (_, at) => dns(`h${at}.test.example`)));

it.each<[string, () => Buffer, string, RegExp?]>([
  ['garbage', () => randomBytes(300), 'request-csr'],
  [
    'a certificate',
    () => sequence(sequence(integer(2n)), sequence(), bitString(Buffer.alloc(4))),
    'request-csr',
  ],
  ['a CSR with a byte after it', () => Buffer.concat([buildCsr(newKey()), Buffer.from([0])]), 'request-csr'],
  ['a CSR cut short', () => buildCsr(newKey()).subarray(0, 100), 'request-csr'],
  ['an indefinite length', () => Buffer.from('3080' + '0201003000' + '0000', 'hex'), 'request-csr'],
  ['a length of 4 GB', () => Buffer.from('3084ffffffff', 'hex'), 'request-csr'],
  ['sequences 8,000 deep', () => Buffer.from('3080'.repeat(8000), 'hex'), 'request-csr'],
  [
    'RSA of 1024 bits',
    () => buildCsr(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey),
    'request-key',
    /2048/,
  ],
  ['RSA of 16,384 bits', () => unsignedCsr(rsaSpki(16_384, 65_537n)), 'request-key', /4096/],
  [
    'RSA with the exponent 3',
    () => buildCsr(generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).privateKey),
    'request-key',
    /65537/,
  ],
  [
    'RSA with an exponent as long as its modulus',
    () => unsignedCsr(rsaSpki(2048, (1n << 2047n) + 1n)),
    'request-key',
    /65537/,
  ],
  ['an RSA modulus that is even', () => unsignedCsr(evenRsa()), 'request-key'],
  [
    'P-521',
    () => unsignedCsr(spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey)),
    'request-key',
  ],
  [
    'secp256k1',
    () => unsignedCsr(spkiOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey)),
    'request-key',
  ],
  ['Ed448', () => unsignedCsr(spkiOf(generateKeyPairSync('ed448').publicKey)), 'request-key'],
  [
    'DSA',
    () =>
      unsignedCsr(spkiOf(generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 }).publicKey)),
    'request-key',
  ],
  ['a point that is not on its curve', () => unsignedCsr(pointOffTheCurve()), 'request-key'],
  [
    'the point at infinity',
    () =>
      unsignedCsr(
        sequence(sequence(oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7')), bitString(Buffer.from([0]))),
      ),
    'request-key',
  ],
  ['a broken signature', () => broken(buildCsr(newKey())), 'request-csr', /not signed with its own key/],
  [
    'the signature of another key',
    () => rawCsr({ spki: ecKey().info.spki }),
    'request-csr',
    /not signed with its own key/,
  ],
  [
    'another SPIFFE ID',
    () => csrWith(san(uri('spiffe://test.example/admin'))),
    'policy-names',
    /another SPIFFE ID/,
  ],
  [
    'a second SPIFFE ID beside its own',
    () => csrWith(san(uri('spiffe://test.example/orders'), uri('spiffe://test.example/admin'))),
    'request-csr',
    /SPIFFE ID/,
  ],
  [
    'the server’s reserved name',
    () => csrWith(san(uri('spiffe://test.example/vouch/server'))),
    'policy-names',
  ],
  [
    'its own SPIFFE ID with dots to climb',
    () => csrWith(san(uri('spiffe://test.example/x/../orders'))),
    'policy-names',
  ],
  ['another DNS name', () => csrWith(san(dns('billing.test.example'))), 'policy-names', /another DNS name/],
  ['a wildcard', () => csrWith(san(dns('*.test.example'))), 'policy-names'],
  ['an address', () => csrWith(san(implicit(7, Buffer.from([10, 0, 0, 1])))), 'policy-names', /IP address/],
  [
    'an e-mail address',
    () => csrWith(san(implicit(1, Buffer.from('a@b.example')))),
    'policy-names',
    /another kind/,
  ],
  [
    'CA:TRUE',
    () => csrWith(rawExtension('2.5.29.19', sequence(Buffer.from([0x01, 0x01, 0xff])), true)),
    'request-csr',
    /CA/,
  ],
  ['101 names', () => csrWith(sans(101)), 'request-csr', /100/],
  ['800 names', () => csrWith(sans(700)), 'request-csr', /100/],
  [
    'the same extension twice',
    () => csrWith(san(dns('orders.test.example')), san(dns('orders.test.example'))),
    'request-csr',
  ],
  ['version 2', () => rawCsr({ version: integer(1n) }), 'request-csr'],
])('%s', async (_name, csr, code, words) => {
  const refused = await refusal(csr());
  expect(refused.code).toBe(code);
  expect(refused.status).toBeGreaterThanOrEqual(400);
  expect(refused.status).toBeLessThan(500);
  if (words) expect(refused.detail).toMatch(words);
});

it.each<[string, Buffer]>([
  ['a megabyte', randomBytes(1 << 20)],
  ['10,000 names', csrWith(sans(10_000))],
])('%s does not even reach the CSR reader', async (_name, csr) => {
  const refused = await refusal(csr);
  expect(refused).toMatchObject({ status: 413, code: 'request-too-large' });
});

it('an honest CSR of each kind of key is taken, and none of the above has used the token up', async () => {
  const { path } = await authority.join('kinds', '--uses', '9');
  for (const key of [ecKey(), ecKey('P-384'), rsaKey(), ed25519Key()]) {
    const socket = await dial(url);
    const body = JSON.stringify(enrollBody(socket, path, key.privateKey));
    expect((await send(socket, { body, headers: { 'content-type': 'application/json' } })).status).toBe(200);
  }
  expect((await enroll(url, joinFile)).status).toBe(200);
  expect(authority.server.log().filter((line) => line.level === 'error')).toEqual([]);
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
});

function broken(csr: Buffer): Buffer {
  const bytes = Buffer.from(csr);
  bytes[bytes.length - 3] = (bytes.at(-3) ?? 0) ^ 1;
  return bytes;
}

function evenRsa(): Buffer {
  const modulus = (1n << 2047n) + 2n;
  return sequence(
    sequence(oid('1.2.840.113549.1.1.1'), nullValue),
    bitString(sequence(integer(modulus), integer(65_537n))),
  );
}
