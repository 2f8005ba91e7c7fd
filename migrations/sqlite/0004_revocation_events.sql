-- A revocation is an event: a hold may be released, or become final; one that stands may get a worse reason. What came
-- before stays on record and names what it was followed by. CRLs are stored in pieces, which successive CRLs share.

CREATE TABLE revocation_events (
  leaf_index INTEGER PRIMARY KEY REFERENCES leaves,
  issuer_key_id TEXT NOT NULL CHECK (length(issuer_key_id) = 40),
  serial TEXT NOT NULL CHECK (length(serial) BETWEEN 2 AND 40 AND serial NOT GLOB '*[^0-9a-f]*'),
  shard INTEGER NOT NULL CHECK (shard >= 0),
  revoked_at_ms INTEGER NOT NULL,
  -- removeFromCRL: the release of a hold.
  reason TEXT NOT NULL,
  -- Since when the key was known to others, as far as the operator said (RFC 5280 §5.3.2).
  invalidity_date_seconds INTEGER,
  operator TEXT NOT NULL,
  salt BLOB NOT NULL CHECK (length(salt) = 16),
  not_after_ms INTEGER NOT NULL,
  crl_date_seconds INTEGER,
  may_leave INTEGER NOT NULL CHECK (may_leave IN (0, 1)),
  followed_by INTEGER CHECK (followed_by > leaf_index)
) STRICT;

INSERT INTO revocation_events (leaf_index, issuer_key_id, serial, shard, revoked_at_ms, reason, operator, salt, not_after_ms,
  crl_date_seconds, may_leave)
SELECT leaf_index, issuer_key_id, serial, shard, revoked_at_ms, reason, operator, salt, not_after_ms, crl_date_seconds, may_leave
FROM revocations;

DROP TABLE revocations;
ALTER TABLE revocation_events RENAME TO revocations;

-- What counts now is found by the first; the others hold few rows, or few at random.
CREATE UNIQUE INDEX revocations_current ON revocations (serial, issuer_key_id) WHERE followed_by IS NULL;
CREATE INDEX revocations_followed ON revocations (serial, issuer_key_id, leaf_index) WHERE followed_by IS NOT NULL;
CREATE INDEX revocations_standing ON revocations (issuer_key_id, serial)
  WHERE followed_by IS NULL AND may_leave = 0 AND reason <> 'removeFromCRL';
CREATE INDEX revocations_by_expiry ON revocations (issuer_key_id, not_after_ms)
  WHERE followed_by IS NULL AND may_leave = 0 AND reason <> 'removeFromCRL';

-- Where a table has a trigger on insert, SQLite looks for who refers to a new row.
CREATE INDEX blocked_keys_by_leaf ON blocked_keys (leaf_index);

CREATE TRIGGER revocations_are_fixed BEFORE UPDATE OF leaf_index, issuer_key_id, serial, shard, revoked_at_ms, reason,
  invalidity_date_seconds, operator, salt, not_after_ms ON revocations
BEGIN SELECT RAISE(ABORT, 'revocations are append-only'); END;
CREATE TRIGGER revocations_keep_their_date BEFORE UPDATE OF crl_date_seconds ON revocations
WHEN OLD.crl_date_seconds IS NOT NULL OR NEW.crl_date_seconds IS NULL
BEGIN SELECT RAISE(ABORT, 'a revocation date is fixed by its first CRL'); END;
CREATE TRIGGER revocations_leave_once BEFORE UPDATE OF may_leave ON revocations
WHEN NEW.may_leave < OLD.may_leave
BEGIN SELECT RAISE(ABORT, 'a revocation that left does not come back'); END;
CREATE TRIGGER revocations_are_followed_once BEFORE UPDATE OF followed_by ON revocations
WHEN OLD.followed_by IS NOT NULL OR NEW.followed_by IS NULL
BEGIN SELECT RAISE(ABORT, 'a revocation is followed once'); END;
CREATE TRIGGER revocations_release_holds BEFORE INSERT ON revocations
WHEN NEW.reason = 'removeFromCRL' AND NOT EXISTS (SELECT 1 FROM revocations WHERE serial = NEW.serial AND issuer_key_id = NEW.issuer_key_id
  AND followed_by IS NOT NULL AND followed_by = NEW.leaf_index AND reason = 'certificateHold')
BEGIN SELECT RAISE(ABORT, 'a revocation stays on record: only a hold is released'); END;
CREATE TRIGGER revocations_stay BEFORE DELETE ON revocations BEGIN SELECT RAISE(ABORT, 'revocations are append-only'); END;

-- Runs of DER entries, at most 32 KiB each; those of no CRL are what a crash left.
CREATE TABLE crl_pieces (
  piece_id INTEGER PRIMARY KEY,
  bytes BLOB NOT NULL
) STRICT;
CREATE TRIGGER crl_pieces_are_fixed BEFORE UPDATE ON crl_pieces BEGIN SELECT RAISE(ABORT, 'a piece of a CRL is fixed'); END;

-- The TBSCertList is `head`, the pieces, `tail`; `pieces` are their ids, 8 bytes each, big endian.
CREATE TABLE crls_in_pieces (
  leaf_index INTEGER PRIMARY KEY REFERENCES leaves,
  issuer_key_id TEXT NOT NULL CHECK (length(issuer_key_id) = 40),
  scope TEXT NOT NULL,
  crl_number INTEGER NOT NULL,
  this_update_seconds INTEGER NOT NULL,
  next_update_seconds INTEGER NOT NULL,
  scheduled INTEGER NOT NULL CHECK (scheduled IN (0, 1)),
  -- What delta CRLs go with: the newest one that is signed.
  base INTEGER NOT NULL CHECK (base IN (0, 1)),
  covers_tree_size INTEGER NOT NULL,
  signature BLOB,
  head BLOB NOT NULL,
  tail BLOB NOT NULL,
  pieces BLOB NOT NULL CHECK (length(pieces) % 8 = 0),
  UNIQUE (issuer_key_id, scope, crl_number)
) STRICT;

INSERT INTO crls_in_pieces (leaf_index, issuer_key_id, scope, crl_number, this_update_seconds, next_update_seconds, scheduled,
  base, covers_tree_size, signature, head, tail, pieces)
SELECT leaf_index, issuer_key_id, scope, crl_number, this_update_seconds, next_update_seconds, scheduled, 0, covers_tree_size, signature,
  tbs, x'', x''
FROM crls;

DROP TABLE crls;
ALTER TABLE crls_in_pieces RENAME TO crls;

CREATE TRIGGER crls_are_fixed BEFORE UPDATE OF leaf_index, issuer_key_id, scope, crl_number, this_update_seconds,
  next_update_seconds, scheduled, base, covers_tree_size, head, tail, pieces ON crls
BEGIN SELECT RAISE(ABORT, 'CRLs are append-only'); END;
CREATE TRIGGER crls_are_signed_once BEFORE UPDATE OF signature ON crls
WHEN OLD.signature IS NOT NULL OR NEW.signature IS NULL
BEGIN SELECT RAISE(ABORT, 'a CRL is signed once'); END;
CREATE TRIGGER crls_keep_the_newest BEFORE DELETE ON crls
WHEN OLD.crl_number IS (SELECT max(crl_number) FROM crls WHERE issuer_key_id = OLD.issuer_key_id AND scope = OLD.scope)
  OR OLD.crl_number IS (SELECT max(crl_number) FROM crls WHERE issuer_key_id = OLD.issuer_key_id AND scope = OLD.scope AND signature IS NOT NULL)
  OR OLD.scope = 'full' AND OLD.crl_number IS (SELECT max(crl_number) FROM crls
    WHERE issuer_key_id = OLD.issuer_key_id AND scope = 'full' AND signature IS NOT NULL AND base = 1)
BEGIN SELECT RAISE(ABORT, 'the newest CRL of a scope stays'); END;

-- Where a certificate came from, to revoke by: the agent that asked for it, the node it runs on, the operator who made
-- the join token. The last is its token's, repeated so that it is found by expiry as the others are.
DROP TRIGGER certificates_are_fixed;
ALTER TABLE certificates ADD COLUMN agent TEXT;
ALTER TABLE certificates ADD COLUMN node TEXT;
ALTER TABLE certificates ADD COLUMN operator TEXT;
UPDATE certificates SET operator = (SELECT created_by FROM join_tokens AS t WHERE t.token_number = certificates.token_number)
WHERE token_number IS NOT NULL;
CREATE INDEX certificates_by_agent ON certificates (agent, not_after_ms) WHERE agent IS NOT NULL;
CREATE INDEX certificates_by_node ON certificates (node, not_after_ms) WHERE node IS NOT NULL;
CREATE INDEX certificates_by_operator ON certificates (operator, not_after_ms) WHERE operator IS NOT NULL;
CREATE INDEX certificates_by_issuance ON certificates (issued_at_ms, not_after_ms);
CREATE TRIGGER certificates_are_fixed BEFORE UPDATE OF leaf_index, issuer_key_id, serial, spiffe_id, entry_number, token_number,
  predecessor, lineage, spki_sha256, not_before_ms, not_after_ms, issued_at_ms, salt, tbs, decision, agent, node, operator ON certificates
BEGIN SELECT RAISE(ABORT, 'certificates are append-only'); END;
