// A second reader of an enrollment's answer: node:crypto and docs/log-format.md, nothing of src/.
import { createHash, createPublicKey, verify, X509Certificate } from 'node:crypto';

const ed25519Prefix = Buffer.from('302a300506032b6570032100', 'hex');

/** Throws unless chain, key, identity, times, inclusion and checkpoint of `{ spiffeId, spki, answer }` all hold. */
export function verifyAnswer({ spiffeId, spki, answer }, rootPin) {
  const chain = answer.chain.map((der) => new X509Certificate(Buffer.from(der, 'base64')));
  const [leaf, issuer] = chain;
  const root = chain.at(-1);
  require(`sha256:${sha256(spkiOf(root)).toString('hex')}` === rootPin, 'the root is not the pinned one');
  require(root.verify(root.publicKey), 'the root does not verify');
  for (const [index, certificate] of chain.slice(0, -1).entries())
    require(certificate.checkIssued(chain[index + 1]) &&
      certificate.verify(chain[index + 1].publicKey), `certificate ${index} of the chain does not verify`);
  require(spkiOf(leaf).equals(Buffer.from(spki, 'base64')), 'the leaf is for another key');
  require(leaf.subjectAltName === `URI:${spiffeId}` && !leaf.ca, 'the leaf is for another identity');
  const nowMs = Date.now();
  require(Date.parse(leaf.validFrom) <= nowMs &&
    nowMs < Date.parse(leaf.validTo), 'the leaf is not valid now');
  verifyProof(answer, leaf, issuer, root);
}

function verifyProof({ proof, bundle }, leaf, issuer, root) {
  const keyId = sha256(spkiOf(issuer).subarray(-65)).subarray(0, 20);
  const bytes = leafBytes(proof, keyId, tbsOf(leaf.raw));
  const computed = rootOf(proof, sha256(Buffer.concat([Buffer.from([0]), bytes])));
  const statement = openStatement(bundle.vouch_statement, root.publicKey);
  const [text, signatures] = proof.checkpoint.split(/(?<=\n)\n/);
  const [origin, size, hash] = text.split('\n');
  require(Number(size) === proof.treeSize &&
    hash === computed.toString('base64'), 'the leaf is not in the tree');
  const key = logKeyOf(statement.logKeys, origin);
  const line = signatures.split('\n').find((one) => one.startsWith(`— ${origin} `)) ?? '';
  const signature = Buffer.from(line.split(' ').at(-1), 'base64').subarray(4);
  const digest = key.asymmetricKeyType === 'ed25519' ? null : 'sha256';
  require(verify(digest, Buffer.from(text), key, signature), 'the checkpoint does not verify');
}

/** A certificate's leaf as docs/log-format.md has it. */
function leafBytes({ time, context }, keyId, tbs) {
  const head = Buffer.alloc(11);
  head.writeUInt8(1, 0);
  head.writeUInt8(1, 1);
  head.writeBigUInt64BE(BigInt(time), 2);
  head.writeUInt8(keyId.length, 10);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(tbs.length);
  return Buffer.concat([head, keyId, length, tbs, Buffer.from(context, 'hex')]);
}

/** RFC 9162 §2.1.3.2. */
function rootOf({ index, treeSize, path }, leafHash) {
  let at = index;
  let last = treeSize - 1;
  let hash = leafHash;
  for (const sibling of path.map((hex) => Buffer.from(hex, 'hex'))) {
    require(last > 0, 'the path is too long');
    if (at % 2 === 1 || at === last) {
      hash = node(sibling, hash);
      while (at % 2 === 0 && at > 0) [at, last] = [at / 2, Math.floor(last / 2)];
    } else hash = node(hash, sibling);
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  require(last === 0, 'the path is too short');
  return hash;
}

function node(left, right) {
  return sha256(Buffer.concat([Buffer.from([1]), left, right]));
}

/** The root's statement, a compact JWS by its P-384 key. */
function openStatement(jws, rootKey) {
  const [header, payload, signature] = jws.split('.');
  const key = { key: rootKey, dsaEncoding: 'ieee-p1363' };
  const signed = Buffer.from(`${header}.${payload}`);
  require(verify(
    'sha384',
    signed,
    key,
    Buffer.from(signature, 'base64url'),
  ), 'the statement does not verify');
  return JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
}

function logKeyOf(verifierKeys, origin) {
  const encoded = verifierKeys.find((one) => one.startsWith(`${origin}+`))?.slice(origin.length + 10) ?? '';
  const [type, ...key] = Buffer.from(encoded, 'base64');
  const der = type === 1 ? Buffer.concat([ed25519Prefix, Buffer.from(key)]) : Buffer.from(key);
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}

/** The first element of a certificate's outer SEQUENCE, header and all. */
export function tbsOf(der) {
  const outer = header(der, 0);
  const inner = header(der, outer.start);
  return der.subarray(outer.start, inner.start + inner.length);
}

function header(der, at) {
  const first = der[at + 1];
  if (first < 0x80) return { start: at + 2, length: first };
  const octets = first - 0x80;
  return { start: at + 2 + octets, length: der.readUIntBE(at + 2, octets) };
}

function spkiOf(certificate) {
  return certificate.publicKey.export({ type: 'spki', format: 'der' });
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest();
}

function require(holds, otherwise) {
  if (!holds) throw new Error(`an answer is wrong: ${otherwise}`);
}
