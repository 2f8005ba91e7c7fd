import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { verifyBinding } from '../../src/enrollment/binding.ts';
import { bindingInput, evidenceBytes, renewalEvidenceBytes } from '../../src/wire/enrollment.ts';
import { formatJoinFile, parseJoinFile } from '../../src/wire/join-file.ts';
import { importPublicKey } from '../../src/x509/public-key.ts';

// The test vectors of docs/enrollment.md: first by the document's words and node:crypto alone, then by our own code.

const read = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');
const document = read('enrollment.md');

function block(name: string, text = document): string {
  const found = new RegExp(`^\`\`\`${name}\n([^\`]*)\n\`\`\`$`, 'm').exec(text);
  if (found?.[1] === undefined) throw new Error(`no block ${name} in the document`);
  return found[1];
}

const joined = (name: string) => block(name).replaceAll('\n', '');
const unarmored = (pem: string) => Buffer.from(pem.replaceAll(/-----[A-Z ]+-----|\n/g, ''), 'base64');
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest();

const join = JSON.parse(block('join-json')) as ReturnType<typeof parseJoinFile>;
const exporter = Buffer.from(block('exporter'), 'hex');
const nonce = Buffer.from(block('nonce'), 'base64');
const certificateDer = unarmored(block('certificate', read('log-format.md')));
const enrollInput = Buffer.from(joined('enroll-input'), 'hex');
const renewInput = Buffer.from(joined('renew-input'), 'hex');

/** A signature and the key that made it. */
function signed(name: string): { signature: Buffer; spki: Buffer } {
  const [signature = '', pem = ''] = block(name).split(/\n(?=-----BEGIN)/);
  return { signature: Buffer.from(signature.replaceAll('\n', ''), 'base64'), spki: unarmored(pem) };
}

/** The Ed25519 key of the document's seed (RFC 8410 §7), and the signature that it always makes. */
function ed25519() {
  const [seed = '', signature = ''] = block('ed25519').split('\n');
  const der = Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex');
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  return { key, signature };
}

it('reads the join file by the document’s words', () => {
  const [prefix, encoded = ''] = joined('join-file').split('.');
  expect(prefix).toBe('vouch1');
  expect(JSON.parse(Buffer.from(encoded, 'base64url').toString())).toEqual(join);
  const rootSpki = unarmored(block('root-public-key', read('log-format.md')));
  expect(join.pin).toBe(`sha256:${sha256(rootSpki).toString('hex')}`);
});

it('reads and writes the join file as our code does', () => {
  expect(parseJoinFile(`${joined('join-file')}\n`)).toEqual(join);
  expect(formatJoinFile(join)).toBe(joined('join-file'));
});

it('joins the binding input by the document’s words', () => {
  const head = Buffer.from('vouch-enroll-v1', 'ascii');
  const token = Buffer.concat([Buffer.from('join_token'), Buffer.from([0]), Buffer.from(join.token)]);
  expect(Buffer.concat([head, exporter, sha256(token)])).toEqual(enrollInput);
  const renewal = Buffer.concat([Buffer.from('renew'), Buffer.from([0]), certificateDer]);
  expect(Buffer.concat([head, nonce, sha256(renewal)])).toEqual(renewInput);
  expect([head.length, exporter.length, nonce.length]).toEqual([15, 32, 32]);
});

it('joins the binding input as our code does', () => {
  const evidence = evidenceBytes({ type: 'join_token', data: join.token });
  expect(bindingInput(exporter, evidence)).toEqual(enrollInput);
  expect(bindingInput(nonce, renewalEvidenceBytes(certificateDer))).toEqual(renewInput);
});

it.each([
  ['p256', 'sha256', 'ec-p256'],
  ['p384', 'sha384', 'ec-p384'],
  ['rsa', 'sha256', 'rsa-2048'],
])('verifies the signature by %s over %s', (name, hash, type) => {
  const { signature, spki } = signed(name);
  // Of RSA, node:crypto takes PKCS#1 v1.5 where nothing else is said.
  const key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
  expect(verify(hash, enrollInput, key, signature)).toBe(true);
  const info = importPublicKey(spki);
  expect(info.type).toBe(type);
  const evidence = evidenceBytes({ type: 'join_token', data: join.token });
  verifyBinding(info, exporter, evidence, signature);
  expect(() => verifyBinding(info, nonce, evidence, signature)).toThrow(/not a signature by the CSR's key/);
});

it('makes the signature by Ed25519 again, byte for byte', () => {
  const { key, signature } = ed25519();
  expect(sign(null, renewInput, key).toString('base64')).toBe(signature);
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  const evidence = renewalEvidenceBytes(certificateDer);
  verifyBinding(importPublicKey(spki), nonce, evidence, Buffer.from(signature, 'base64'));
});
