import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { canonicalJson, type Json } from '../../src/core/canonical-json.ts';
import {
  decisionContext,
  decodeCrlBody,
  decodeLeaf,
  decodeRevocationBody,
  encodeLeaf,
} from '../../src/log/leaf.ts';
import { Frontier, hashLeaf, verifyInclusion } from '../../src/log/merkle.ts';
import { openCheckpoint, verifierKey } from '../../src/log/note.ts';
import { openStatement } from '../../src/log/statement.ts';

// The worked example of docs/log-format.md: first by the document's words alone, then by our own code.

const document = readFileSync(new URL('../../docs/log-format.md', import.meta.url), 'utf8');

function block(name: string): string {
  const found = new RegExp(`^\`\`\`${name}\n([^\`]*)\n\`\`\`$`, 'm').exec(document);
  if (found?.[1] === undefined) throw new Error(`no block ${name} in the document`);
  return found[1];
}

const joined = (name: string) => block(name).replaceAll('\n', '');
const sha256 = (...parts: Buffer[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
const unsigned = (value: number, bytes: number) =>
  Buffer.from(value.toString(16).padStart(bytes * 2, '0'), 'hex');

const proof = JSON.parse(block('proof')) as {
  index: number;
  treeSize: number;
  time: number;
  context: string;
  path: string[];
  checkpoint: string;
};
const path = proof.path.map((hash) => Buffer.from(hash, 'hex'));
const context = Buffer.from(proof.context, 'hex');
const certificateDer = Buffer.from(block('certificate').replaceAll(/-----[A-Z ]+-----|\n/g, ''), 'base64');
const rootPublicKey = createPublicKey(block('root-public-key'));
const [leafHashHex, rootHashHex] = block('hashes').split('\n');
const [authority, token, revocation, crl] = block('other-leaves')
  .split('\n')
  .map((hex) => Buffer.from(hex, 'hex')) as [Buffer, Buffer, Buffer, Buffer];

/** A DER element with its header. */
function element(der: Buffer): { whole: Buffer; content: Buffer } {
  const first = der.readUInt8(1);
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  const length = lengthBytes === 0 ? first : der.readUIntBE(2, lengthBytes);
  const start = 2 + lengthBytes;
  return { whole: der.subarray(0, start + length), content: der.subarray(start, start + length) };
}

const tbs = element(element(certificateDer).content).whole;

function authorityKeyId(): Buffer {
  const marker = Buffer.from('0603551d23041830168014', 'hex');
  const at = tbs.indexOf(marker) + marker.length;
  return tbs.subarray(at, at + 20);
}

/** Step 3 of the document. */
const leaf = Buffer.concat([
  Buffer.from([0x01, 0x01]),
  unsigned(proof.time, 8),
  Buffer.from([0x14]),
  authorityKeyId(),
  unsigned(tbs.length, 2),
  tbs,
  context,
]);

it('rebuilds the leaf from certificate and proof by the document’s steps', () => {
  expect(leaf.toString('hex')).toBe(joined('certificate-leaf'));
  expect(sha256(Buffer.from([0]), leaf).toString('hex')).toBe(leafHashHex);
  const made = encodeLeaf({
    type: 'certificate',
    timeMs: proof.time,
    issuerKeyId: authorityKeyId().toString('hex'),
    body: tbs,
    context,
  });
  expect(made).toEqual(leaf);
});

it('computes the root from all leaves and from the proof', () => {
  const [a, b, c, d, e] = [authority, token, leaf, revocation, crl].map((bytes) =>
    sha256(Buffer.from([0]), bytes),
  ) as [Buffer, Buffer, Buffer, Buffer, Buffer];
  const node = (left: Buffer, right: Buffer) => sha256(Buffer.from([1]), left, right);
  const root = node(node(node(a, b), node(c, d)), e);
  expect(root.toString('hex')).toBe(rootHashHex);
  expect(path).toEqual([d, node(a, b), e]);
  const frontier = Frontier.empty();
  for (const bytes of [authority, token, leaf, revocation, crl]) frontier.append(hashLeaf(bytes));
  expect(frontier.root()).toEqual(root);
  expect(
    verifyInclusion({
      index: proof.index,
      treeSize: proof.treeSize,
      leafHash: hashLeaf(leaf),
      path,
      rootHash: root,
    }),
  ).toBe(true);
});

it('checks the statement and the checkpoint by hand', () => {
  const [header = '', payload = '', signature = ''] = joined('statement').split('.');
  const signed = Buffer.from(`${header}.${payload}`);
  const key = { key: rootPublicKey, dsaEncoding: 'ieee-p1363' } as const;
  expect(verify('sha384', signed, key, Buffer.from(signature, 'base64url'))).toBe(true);
  const { logKeys } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { logKeys: string[] };
  const [vkey = ''] = logKeys;
  const material = Buffer.from(vkey.slice(vkey.lastIndexOf('+', vkey.length - 44) + 1), 'base64');
  expect(material[0]).toBe(0x01);
  const name = 'example.org/vouch-log';
  const keyHash = sha256(Buffer.from(`${name}\n`), material).subarray(0, 4);
  const [text, line] = proof.checkpoint.split(/(?<=\n)\n/) as [string, string];
  expect(text).toBe(`${name}\n5\n${Buffer.from(rootHashHex ?? '', 'hex').toString('base64')}\n`);
  const noted = Buffer.from(line.split(' ')[2] ?? '', 'base64');
  expect(noted.subarray(0, 4)).toEqual(keyHash);
  const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), material.subarray(1)]);
  expect(
    verify(
      null,
      Buffer.from(text),
      createPublicKey({ key: spki, format: 'der', type: 'spki' }),
      noted.subarray(4),
    ),
  ).toBe(true);
});

it('checks the same with our code', () => {
  const statement = openStatement(joined('statement'), rootPublicKey);
  expect({ ...statement, logKeys: statement.logKeys.map(verifierKey).length }).toEqual({
    trustDomain: 'example.org',
    sequence: 1,
    notAfterMs: Date.UTC(2036, 0, 2),
    logKeys: 1,
    publicationUrls: ['http://pki.example.org'],
  });
  const checkpoint = openCheckpoint(proof.checkpoint, statement.logKeys, 'example.org/vouch-log');
  expect(checkpoint.treeSize).toBe(proof.treeSize);
  expect(checkpoint.rootHash.toString('hex')).toBe(rootHashHex);
});

it('reads the other leaves as the document does', () => {
  const { body: revocationBytes, context: _r, ...revocationHead } = decodeLeaf(revocation);
  expect({ ...revocationHead, ...decodeRevocationBody(revocationBytes) }).toEqual(
    JSON.parse(block('revocation')),
  );
  const { body: crlBytes, context: _c, ...crlHead } = decodeLeaf(crl);
  const { scope, crlNumber, tbsSha256 } = decodeCrlBody(crlBytes);
  expect({ ...crlHead, scope, crlNumber: String(crlNumber), tbsSha256: tbsSha256.toString('hex') }).toEqual(
    JSON.parse(block('crl')),
  );
  expect([authority, token].map((bytes) => decodeLeaf(bytes).type)).toEqual(['authority', 'token']);
});

it('opens the context of the certificate’s leaf', () => {
  const [salt = '', decision = ''] = block('context').split('\n');
  expect(canonicalJson(JSON.parse(decision) as Json)).toBe(decision);
  expect(decisionContext(Buffer.from(salt, 'hex'), decision)).toEqual(context);
  expect(sha256(Buffer.from(salt, 'hex'), Buffer.from(decision))).toEqual(context);
});
