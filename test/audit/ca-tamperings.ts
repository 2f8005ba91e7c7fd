import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Case } from './tamperings.ts';

const newestFull = "(SELECT max(leaf_index) FROM crls WHERE scope = 'full')";
const otherKey = 'ab'.repeat(20);
const fullCrl = (change: string): string => `UPDATE crls SET ${change} WHERE leaf_index = ${newestFull}`;
const lastByte = (column: string): string =>
  `${column} = CAST(substr(${column}, 1, length(${column}) - 1) || iif(substr(${column}, -1) = x'00', x'01', x'00') AS BLOB)`;

export const inAuthorities: Case[] = [
  ['state', "UPDATE authorities SET state = 'retired' WHERE kind = 'issuer'", 'issuerKeyId', /state/],
  ['kind', "UPDATE authorities SET kind = 'root' WHERE kind = 'issuer'", 'issuerKeyId', /kind/],
  [
    "the issuer's algorithm",
    "UPDATE authorities SET algorithm = 'ecdsa-sha384' WHERE kind = 'issuer'",
    'issuerKeyId',
    /algorithm|signs by/,
  ],
  [
    "the issuer's certificate",
    `UPDATE authorities SET ${lastByte('certificate_der')} WHERE kind = 'issuer'`,
    'issuerKeyId',
    /certificate/,
  ],
  [
    "the root's certificate",
    `UPDATE authorities SET ${lastByte('certificate_der')} WHERE kind = 'root'`,
    'rootKeyId',
    /certificate/,
  ],
  [
    'a certificate that is none',
    "UPDATE authorities SET certificate_der = x'00' WHERE kind = 'issuer'",
    'issuerKeyId',
    /certificate/,
  ],
  [
    'a second root',
    `INSERT INTO authorities SELECT 99, '${otherKey}', 'root', 'active', algorithm, certificate_der FROM authorities WHERE kind = 'issuer'`,
    /abab/,
    /not in the log/,
  ],
  [
    'the issuer taken out',
    "DELETE FROM authorities WHERE kind = 'issuer'",
    'issuerKeyId',
    /store does not have/,
  ],
  ['key_id', `UPDATE authorities SET key_id = '${otherKey}' WHERE kind = 'issuer'`, /abab/, /not in the log/],
  ['keys of JWT-SVIDs taken out', 'DELETE FROM jwt_keys', /JWT-SVID key/, /store does not have/],
  ['key_id of a JWT-SVID key', `UPDATE jwt_keys SET key_id = '${otherKey}'`, /JWT-SVID key/, /keyId is/],
  ['its issuer', `UPDATE jwt_keys SET issuer_key_id = '${otherKey}'`, /JWT-SVID key/, /issuerKeyId is/],
  ['its public key', "UPDATE jwt_keys SET public_key = x'3000'", /JWT-SVID key/, /publicKey is/],
  [
    'another JWT-SVID key',
    'INSERT INTO jwt_keys SELECT leaf_index - 1, issuer_key_id, key_id, public_key FROM jwt_keys',
    /JWT-SVID key/,
    /not in the log/,
  ],
  ['statements taken out', 'DELETE FROM statements', /statement/, /store does not have/],
  ['sequence of a statement', 'UPDATE statements SET sequence = 7', /statement/, /sequence/],
  [
    'leaf of a statement',
    'UPDATE statements SET leaf_index = 1',
    /statement/,
    /not in the log|does not have/,
  ],
  [
    'jws',
    "UPDATE statements SET jws = substr(jws, 1, length(jws) - 4) || 'AAAA'",
    /statement/,
    /signature|sha256/,
  ],
  ['the checkpoint taken out', 'UPDATE marks SET checkpoint_note = NULL', /checkpoint/, /no checkpoint/],
  [
    'the size in the checkpoint',
    (db) => {
      const lines = (db.prepare<[], string>('SELECT checkpoint_note FROM marks').pluck().get() ?? '').split(
        '\n',
      );
      lines[1] = String(Number(lines[1]) - 1);
      db.prepare('UPDATE marks SET checkpoint_note = ?').run(lines.join('\n'));
    },
    /checkpoint/,
    /signature/,
  ],
  ['clock_ms', 'UPDATE marks SET clock_ms = 1', /clock mark/, /far behind the certificate of leaf \d+/],
  ['state_id', "UPDATE state_identity SET state_id = 'other'", /identity/, /stateId/],
  ['trust_domain', "UPDATE state_identity SET trust_domain = 'evil.example'", /identity/, /trustDomain/],
  ['log_origin', "UPDATE state_identity SET log_origin = 'evil.example/vouch-log'", /identity/, /logOrigin/],
  [
    'serial_prefix',
    'UPDATE state_identity SET serial_prefix = 1 + serial_prefix % 100',
    /identity/,
    /serialPrefix/,
  ],
  ['shard_count', 'UPDATE state_identity SET shard_count = 8', /identity/, /shardCount/],
];

export const inCrls: Case[] = [
  ['head', fullCrl("head = CAST(head || x'00' AS BLOB)"), /CRL \d+ \(full\)/, /tbs/],
  ['tail', fullCrl("tail = CAST(tail || x'00' AS BLOB)"), /CRL \d+ \(full\)/, /tbs/],
  [
    'pieces',
    fullCrl("pieces = CAST(pieces || x'0000000000000001' AS BLOB), tail = CAST(tail || x'00' AS BLOB)"),
    /CRL \d+ \(full\)/,
    /tbs/,
  ],
  ['signature', fullCrl("signature = x'3006020101020101'"), /CRL \d+ \(full\)/, /signature/],
  ["the signature of the root's", 'UPDATE crls SET signature = NULL', 'rootKeyId', /signature/],
  [
    'the newest taken out',
    `DELETE FROM crls WHERE leaf_index = ${newestFull}`,
    /CRL \d+ \(full\)/,
    /store does not have/,
  ],
  ['all taken out', 'DELETE FROM crls', /CRL \d+ \(full\)/, /store does not have/],
  ['scope', "UPDATE crls SET scope = '77' WHERE scope = '3'", /CRL \d+ \(3\)/, /scope/],
  ['crl_number', fullCrl('crl_number = crl_number - 1'), /CRL \d+ \(full\)/, /crlNumber/],
  [
    'issuer_key_id',
    `UPDATE crls SET issuer_key_id = '${otherKey}', signature = NULL WHERE scope = '3'`,
    /CRL \d+ \(3\)/,
    /issuerKeyId/,
  ],
  ['this_update_seconds', fullCrl('this_update_seconds = 1'), /CRL \d+ \(full\)/, /thisUpdateSeconds/],
  ['next_update_seconds', fullCrl('next_update_seconds = 1'), /CRL \d+ \(full\)/, /nextUpdateSeconds/],
  ['covers_tree_size raised', fullCrl('covers_tree_size = 1000000'), /CRL \d+ \(full\)/, /covers/],
  ['covers_tree_size lowered', fullCrl('covers_tree_size = 1'), /CRL \d+ \(full\)/, /covers/],
  ['scheduled', fullCrl('scheduled = 1 - scheduled'), /full/, /scheduled/],
  [
    'one past the end of the log',
    `INSERT INTO crls SELECT (SELECT max(leaf_index) + 9 FROM leaves), issuer_key_id, scope, crl_number + 1, this_update_seconds,
       next_update_seconds, scheduled, base, covers_tree_size, signature, head, tail, pieces FROM crls WHERE leaf_index = ${newestFull}`,
    /CRL \d+ \(full\)/,
    /not in the log/,
  ],
  ['scopes taken out', 'DELETE FROM crl_scopes', /scope full/, /lastNumber/],
  ['last_number', 'UPDATE crl_scopes SET last_number = 1', /scope full/, /lastNumber/],
  [
    'scheduled_this_update_seconds',
    'UPDATE crl_scopes SET scheduled_this_update_seconds = scheduled_this_update_seconds + 1000000',
    /scope full/,
    /scheduled/,
  ],
  [
    'scheduled_covers_tree_size',
    'UPDATE crl_scopes SET scheduled_covers_tree_size = 1000000',
    /scope full/,
    /scheduled/,
  ],
  [
    'a scope added',
    `INSERT INTO crl_scopes VALUES ('${otherKey}', 'full', 1, NULL, NULL)`,
    /abab/,
    /not in the log/,
  ],
];

const tile = (state: string): string => {
  const folder = join(state, 'log', 'tile', '0');
  const [name = ''] = readdirSync(folder);
  return join(folder, name);
};

export const inFiles: Case[] = [
  [
    'a tile changed',
    (_db, state) => {
      const bytes = readFileSync(tile(state));
      bytes.writeUInt8(bytes.readUInt8(7) ^ 1, 7);
      writeFileSync(tile(state), bytes);
    },
    /tile\/0\/000/,
    /differs/,
  ],
  [
    'a tile cut short',
    (_db, state) => writeFileSync(tile(state), readFileSync(tile(state)).subarray(32)),
    /tile\/0\/000/,
    /differs/,
  ],
  [
    'floor.json taken out',
    (_db, state) => rmSync(join(state, 'signer', 'floor.json')),
    /floor\.json/,
    /missing/,
  ],
  [
    'floor.json of nonsense',
    (_db, state) => writeFileSync(join(state, 'signer', 'floor.json'), '{'),
    /floor\.json/,
    /malformed/,
  ],
  [
    'the root in floor.json',
    (_db, state) => {
      const file = join(state, 'signer', 'floor.json');
      writeFileSync(file, readFileSync(file, 'utf8').replace(/"rootHash":"[0-9a-f]{4}/, '"rootHash":"0000'));
    },
    /floor\.json/,
    /root/,
  ],
  [
    'floor.json of a later state',
    (_db, state) => {
      const file = join(state, 'signer', 'floor.json');
      writeFileSync(file, readFileSync(file, 'utf8').replace(/"treeSize":\d+/, '"treeSize":100000'));
    },
    /floor\.json/,
    /rewound/,
  ],
];
