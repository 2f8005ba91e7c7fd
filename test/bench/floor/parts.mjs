// What the other unavoidable steps cost: reading the public key, the verifications, one row of a group commit.
import { createPublicKey, generateKeyPairSync, randomBytes, sign, verify } from 'node:crypto';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { timeOf, serveParts } from './repeat.mjs';

const folder = process.argv[2];
/** Bytes under the signatures: a CSR's CertificationRequestInfo without names, the binding's input, a checkpoint. */
const csrBytes = 104;
const bindingBytes = 79;
const checkpointBytes = 96;
const variety = 64;

const pairs = Array.from({ length: variety }, () => generateKeyPairSync('ec', { namedCurve: 'P-256' }));
const spkis = pairs.map(({ publicKey }) => publicKey.export({ type: 'spki', format: 'der' }));
const logKey = generateKeyPairSync('ed25519');
const csrs = pairs.map((pair) => signedBy('sha256', pair, csrBytes));
const bindings = pairs.map((pair) => signedBy('sha256', pair, bindingBytes));
const checkpoints = pairs.map(() => signedBy(null, logKey, checkpointBytes));
const database = openDatabase();
let leafIndex = 0;

serveParts({
  import: ({ ms }) => timeOf((n) => createPublicKey(pemOf(spkis[n % variety])), ms),
  'verify-csr': ({ ms }) => verified('sha256', csrs, ms),
  'verify-binding': ({ ms }) => verified('sha256', bindings, ms),
  'verify-signature': ({ ms, tbsBytes }) => {
    const certificates = pairs.map(() => signedBy('sha256', pairs[0], tbsBytes));
    return verified('sha256', certificates, ms);
  },
  'verify-checkpoint': ({ ms }) => verified(null, checkpoints, ms),
  commit: ({ ms, rows, leafBytes }) => timeOf(() => commit(rows, leafBytes), ms),
});

/** Node 24 imports a PEM text in less than half the time of a DER object: two type checks by exception fewer. */
function pemOf(spki) {
  return `-----BEGIN PUBLIC KEY-----\n${spki.toString('base64')}\n-----END PUBLIC KEY-----`;
}

function signedBy(digest, { publicKey, privateKey }, bytes) {
  const data = randomBytes(bytes);
  return { data, key: publicKey, signature: sign(digest, data, privateKey) };
}

function verified(digest, signed, ms) {
  return timeOf((n) => {
    const { data, key, signature } = signed[n % variety];
    if (!verify(digest, data, key, signature)) throw new Error('a signature does not verify');
  }, ms);
}

function openDatabase() {
  const db = new Database(join(folder, 'floor.db'));
  if (db.pragma('journal_mode = WAL', { simple: true }) !== 'wal') throw new Error('no WAL here');
  db.pragma('synchronous = FULL');
  db.exec('CREATE TABLE leaves (leaf_index INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT');
  return {
    begin: db.prepare('BEGIN IMMEDIATE'),
    insert: db.prepare('INSERT INTO leaves (leaf_index, bytes) VALUES (?, ?)'),
    commit: db.prepare('COMMIT'),
  };
}

function commit(rows, leafBytes) {
  database.begin.run();
  for (let row = 0; row < rows; row += 1) {
    database.insert.run(leafIndex, randomBytes(leafBytes));
    leafIndex += 1;
  }
  database.commit.run();
}
