import { createHash } from 'node:crypto';
import type { Known, Tampering } from './state-copies.ts';

/** What an intruder does, which row the problem must name, and what it must say. */
export type Case = [what: string, how: Tampering, names: keyof Known | RegExp, says: RegExp];

const renewed = "(SELECT max(leaf_index) FROM certificates WHERE spiffe_id LIKE '%/orders')";
const compromised = "(SELECT leaf_index FROM revocations WHERE reason = 'keyCompromise')";
const used =
  "token_number = (SELECT token_number FROM join_tokens JOIN entries USING (entry_number) WHERE spiffe_id LIKE '%/orders')";
const unused =
  "token_number = (SELECT token_number FROM join_tokens JOIN entries USING (entry_number) WHERE spiffe_id LIKE '%/unused')";
const otherKey = 'ab'.repeat(20);
const certificate = (change: string): string =>
  `UPDATE certificates SET ${change} WHERE leaf_index = ${renewed}`;
const revocation = (change: string): string =>
  `UPDATE revocations SET ${change} WHERE leaf_index = ${compromised}`;
const entry = (change: string): string => `UPDATE entries SET ${change} WHERE spiffe_id LIKE '%/orders'`;
const agentsEntry = (name: string, change: string): string =>
  `UPDATE entries SET ${change} WHERE spiffe_id LIKE '%/${name}'`;
const token = (change: string): string => `UPDATE join_tokens SET ${change} WHERE ${used}`;

export const inLeaves: Case[] = [
  [
    'bytes',
    `UPDATE leaves SET bytes = CAST(substr(bytes, 1, 40) || iif(substr(bytes, 41, 1) = x'00', x'01', x'00') || substr(bytes, 42) AS BLOB) WHERE leaf_index = ${renewed}`,
    /leaf \d+/,
    /hash/,
  ],
  ['hash', 'UPDATE leaves SET hash = zeroblob(32) WHERE leaf_index = 5', /leaf 5/, /hash/],
  [
    'bytes with a hash that fits',
    (db) => {
      const bytes =
        db.prepare<[], Buffer>('SELECT bytes FROM leaves WHERE leaf_index = 5').pluck().get() ??
        Buffer.alloc(0);
      bytes[9] = (bytes[9] ?? 0) ^ 1;
      const hash = createHash('sha256').update(Buffer.of(0)).update(bytes).digest();
      db.prepare('UPDATE leaves SET bytes = ?, hash = ? WHERE leaf_index = 5').run(bytes, hash);
    },
    /leaves/,
    /root.*not the one that the log key signed/,
  ],
  ['a hole', 'DELETE FROM leaves WHERE leaf_index = 20', /leaf 20/, /missing/],
  [
    'the end',
    'DELETE FROM leaves WHERE leaf_index = (SELECT max(leaf_index) FROM leaves)',
    /checkpoint/,
    /rewound/,
  ],
  [
    'a body that is none',
    'UPDATE leaves SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) AS BLOB) WHERE leaf_index = 5',
    /leaf 5/,
    /truncated|after its end/,
  ],
  [
    'a certificate past the checkpoint',
    (db) => {
      const next = db.prepare<[], number>('SELECT max(leaf_index) + 1 FROM leaves').pluck().get();
      db.prepare(`INSERT INTO leaves SELECT ?, hash, bytes FROM leaves WHERE leaf_index = ${renewed}`).run(
        next,
      );
    },
    /leaf \d+/,
    /certificate that the store does not have/,
  ],
];

export const inCertificates: Case[] = [
  [
    'a row taken out',
    `DELETE FROM certificates WHERE leaf_index = ${renewed}`,
    /leaf \d+/,
    /store does not have/,
  ],
  ['issuer_key_id', certificate(`issuer_key_id = '${otherKey}'`), 'renewed', /issuerKeyId/],
  [
    'issuer_key_id without signature',
    certificate(`issuer_key_id = '${otherKey}', signature = NULL`),
    'renewed',
    /issuerKeyId/,
  ],
  ['serial', certificate("serial = '2a00000000000000000000000000000001'"), 'renewed', /serial/],
  ['spiffe_id', certificate("spiffe_id = 'spiffe://test.example/else'"), 'renewed', /spiffeId/],
  ['entry_number gone', certificate('entry_number = NULL'), 'renewed', /entryId/],
  [
    'entry_number',
    certificate('entry_number = (SELECT max(entry_number) FROM entries)'),
    'renewed',
    /entryId/,
  ],
  ['token_number gone', certificate('token_number = NULL'), 'renewed', /tokenId/],
  ['predecessor', certificate('predecessor = NULL'), 'renewed', /predecessor/],
  ['lineage', certificate('lineage = NULL'), 'renewed', /lineage/],
  ['spki_sha256', certificate(`spki_sha256 = '${'0'.repeat(64)}'`), 'renewed', /spkiSha256/],
  ['not_before_ms', certificate('not_before_ms = 1'), 'renewed', /notBeforeMs/],
  ['not_after_ms lowered', certificate('not_after_ms = 1'), 'renewed', /notAfterMs/],
  [
    'not_after_ms raised',
    certificate('not_after_ms = not_after_ms + 1000000000000'),
    'renewed',
    /notAfterMs/,
  ],
  ['issued_at_ms', certificate('issued_at_ms = 1'), 'renewed', /issuedAtMs/],
  ['signature', certificate("signature = x'3006020101020101'"), 'renewed', /signature/],
  ['salt', certificate('salt = zeroblob(16)'), 'renewed', /decision/],
  ['salt cut short', certificate('salt = zeroblob(15)'), 'renewed', /decision/],
  ['agent', certificate("agent = 'spiffe://test.example/agents/a'"), 'renewed', /agent/],
  ['node', certificate("node = 'node-1'"), 'renewed', /node/],
  ['operator', certificate("operator = 'uid:4242'"), 'renewed', /operator/],
  ['tbs', certificate("tbs = CAST(tbs || x'00' AS BLOB)"), 'renewed', /tbs/],
  ['decision', certificate("decision = '{}'"), 'renewed', /decision/],
  ['decision that is no JSON', certificate("decision = '{'"), 'renewed', /decision/],
  [
    'two rows swapped',
    (db) => {
      const [a, b] = db
        .prepare<[], number>('SELECT leaf_index FROM certificates ORDER BY 1 DESC LIMIT 2')
        .pluck()
        .all();
      const move = db.prepare('UPDATE certificates SET leaf_index = ? WHERE leaf_index = ?');
      for (const [to, from] of [
        [-1, a],
        [a, b],
        [b, -1],
      ])
        move.run(to, from);
    },
    'renewed',
    /serial/,
  ],
  [
    'a row past the end of the log',
    `INSERT INTO certificates SELECT (SELECT max(leaf_index) + 5 FROM leaves), issuer_key_id, '2a00000000000000000000000000000002', spiffe_id,
       entry_number, token_number, predecessor, lineage, spki_sha256, not_before_ms, not_after_ms, issued_at_ms, signature, salt, tbs, decision, agent, node, operator
     FROM certificates WHERE leaf_index = ${renewed}`,
    /2a00000000000000000000000000000002/,
    /not in the log/,
  ],
];

export const inRevocations: Case[] = [
  [
    'a row taken out',
    `DELETE FROM revocations WHERE leaf_index = ${compromised}`,
    'compromised',
    /does not know as revoked/,
  ],
  ['issuer_key_id', revocation(`issuer_key_id = '${otherKey}'`), 'compromised', /issuerKeyId/],
  ['serial', revocation("serial = '2a00000000000000000000000000000001'"), 'compromised', /serial/],
  ['shard', revocation('shard = (shard + 1) % 16'), 'compromised', /shard/],
  ['revoked_at_ms', revocation('revoked_at_ms = 1'), 'compromised', /revokedAtMs/],
  ['reason', revocation("reason = 'superseded'"), 'compromised', /reason/],
  [
    'invalidity_date_seconds',
    revocation('invalidity_date_seconds = 1'),
    'compromised',
    /invalidityDateSeconds/,
  ],
  ['followed_by', revocation('followed_by = 1000000'), 'compromised', /followedBy/],
  ['operator', revocation("operator = 'uid:4242'"), 'compromised', /operator/],
  ['salt', revocation('salt = zeroblob(16)'), 'compromised', /operator/],
  ['not_after_ms lowered', revocation('not_after_ms = 1'), 'compromised', /notAfterMs/],
  ['crl_date_seconds', revocation('crl_date_seconds = 1'), 'compromised', /date/],
  ['crl_date_seconds gone', revocation('crl_date_seconds = NULL'), 'compromised', /date/],
  ['may_leave', revocation('may_leave = 1'), 'compromised', /may leave/],
  ['leaf_index', revocation('leaf_index = 1'), 'compromised', /not in the log|does not know/],
  ['the blocked key taken out', 'DELETE FROM blocked_keys', 'compromised', /blocked/],
  ['another key blocked', `UPDATE blocked_keys SET spki_sha256 = '${'0'.repeat(64)}'`, /0{64}/, /blocked/],
];

export const inRegistrations: Case[] = [
  ['uses taken out', `DELETE FROM token_uses WHERE ${used}`, 'usedToken', /use/],
  [
    'the key of a use',
    `UPDATE token_uses SET spki_sha256 = '${'0'.repeat(64)}' WHERE ${used}`,
    'usedToken',
    /0{64}/,
  ],
  [
    'the certificate of a use',
    `UPDATE token_uses SET leaf_index = ${renewed} WHERE ${used}`,
    'usedToken',
    /use/,
  ],
  [
    'a use added',
    `INSERT INTO token_uses SELECT token_number, '${'0'.repeat(64)}', ${renewed} FROM join_tokens WHERE ${unused}`,
    'unusedToken',
    /0{64}/,
  ],
  ['uses_taken', token('uses_taken = 0'), 'usedToken', /usesTaken/],
  ['uses_allowed', token('uses_allowed = 10000'), 'usedToken', /usesAllowed/],
  [
    'revoked_at_ms',
    'UPDATE join_tokens SET revoked_at_ms = NULL WHERE revoked_at_ms IS NOT NULL',
    'revokedToken',
    /revokedAtMs/,
  ],
  ['revoked_at_ms set', token('revoked_at_ms = 1'), 'usedToken', /revokedAtMs/],
  ['expires_at_ms', token('expires_at_ms = expires_at_ms + 100000000000'), 'usedToken', /expiresAtMs/],
  ['cidrs', `UPDATE join_tokens SET cidrs = '["0.0.0.0/0"]' WHERE ${unused}`, 'unusedToken', /cidrs/],
  ['secret_sha256', token('secret_sha256 = zeroblob(32)'), 'usedToken', /secretSha256/],
  [
    'entry_number of a token',
    token('entry_number = (SELECT max(entry_number) FROM entries)'),
    'usedToken',
    /entryId/,
  ],
  ['created_by', token("created_by = 'uid:1'"), 'usedToken', /createdBy/],
  ['created_at_ms of a token', token('created_at_ms = 1'), 'usedToken', /createdAtMs/],
  [
    'an unused token taken out',
    `DELETE FROM join_tokens WHERE ${unused}`,
    'unusedToken',
    /store does not have/,
  ],
  [
    'a token added',
    `INSERT INTO join_tokens SELECT 9999, 't_0000', zeroblob(32), entry_number, 9, 0, cidrs, expires_at_ms, created_at_ms, created_by, NULL FROM join_tokens WHERE ${used}`,
    /t_0000/,
    /not in the log/,
  ],
  ['spiffe_id', entry("spiffe_id = 'spiffe://test.example/admin'"), 'usedEntry', /spiffeId/],
  ['dns_names', entry(`dns_names = '["db.test.example"]'`), 'usedEntry', /dnsNames/],
  ['ip_addresses', entry(`ip_addresses = '["10.0.0.1"]'`), 'usedEntry', /ipAddresses/],
  [
    'allowed_clients',
    entry(`allowed_clients = '["spiffe://test.example/*"]'`),
    'usedEntry',
    /allowedClients/,
  ],
  ['lifetime_seconds', entry('lifetime_seconds = 86400'), 'usedEntry', /lifetimeSeconds/],
  ['profile', entry("profile = 'other'"), 'usedEntry', /profile/],
  ['selectors', entry("selectors = '[]'"), 'usedEntry', /selectors/],
  ['selectors that are no JSON', entry("selectors = '['"), 'usedEntry', /selectors/],
  ['selector_count', entry('selector_count = 0'), 'usedEntry', /selectorCount/],
  ['version', entry('version = 2'), 'usedEntry', /version/],
  [
    'entry_selectors',
    "UPDATE entry_selectors SET selector = 'join_token:t_ffff' WHERE entry_number = (SELECT entry_number FROM entries WHERE spiffe_id LIKE '%/orders')",
    'usedEntry',
    /t_ffff/,
  ],
  [
    'suspended_at_ms gone',
    'UPDATE entries SET suspended_at_ms = NULL WHERE suspended_at_ms IS NOT NULL',
    'suspendedEntry',
    /suspendedAtMs/,
  ],
  [
    "parent_id of a token's entry",
    entry("parent_id = 'spiffe://test.example/host'"),
    'usedEntry',
    /parentId/,
  ],
  ['parent_id', agentsEntry('cache', "parent_id = 'spiffe://test.example/other'"), 'agentsEntry', /parentId/],
  ['parent_id gone', agentsEntry('cache', 'parent_id = NULL'), 'agentsEntry', /parentId/],
  ['hint', agentsEntry('cache', "hint = 'other'"), 'agentsEntry', /hint/],
  [
    "an agent's entry resumed",
    agentsEntry('cache', 'suspended_at_ms = NULL'),
    'agentsEntry',
    /suspendedAtMs/,
  ],
  ['changed_by', agentsEntry('cache', 'changed_by = 1'), 'agentsEntry', /changedBy/],
  ['changed_by set back', agentsEntry('deleted', 'changed_by = changed_by - 2'), 'deletedEntry', /changedBy/],
  ['a deletion undone', agentsEntry('deleted', 'deleted_at_ms = NULL'), 'deletedEntry', /deletedAtMs/],
  ['deleted_at_ms', agentsEntry('cache', 'deleted_at_ms = 1'), 'agentsEntry', /deletedAtMs/],
  [
    "an agent's entry taken out",
    "DELETE FROM entries WHERE spiffe_id LIKE '%/cache'",
    'agentsEntry',
    /does not have it/,
  ],
  ['suspended_at_ms set', entry('suspended_at_ms = 1'), 'usedEntry', /suspendedAtMs/],
  ['created_at_ms', entry('created_at_ms = 1'), 'usedEntry', /createdAtMs/],
  [
    'an entry taken out',
    "DELETE FROM entries WHERE spiffe_id LIKE '%/unused'",
    'unusedEntry',
    /store does not have/,
  ],
  [
    'an entry added',
    "INSERT INTO entries SELECT 9999, 'e_0000', 'spiffe://test.example/root', selectors, selector_count, dns_names, ip_addresses, allowed_clients, profile, lifetime_seconds, version, NULL, created_at_ms, NULL, '', NULL, NULL FROM entries WHERE spiffe_id LIKE '%/orders'",
    /e_0000/,
    /not in the log/,
  ],
];
