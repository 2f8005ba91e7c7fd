-- The whole state of one certificate authority. What is a fact (leaves, certificates, revocations, uses of tokens)
-- cannot be changed or deleted: triggers say so, so that no mistake in the program rewrites history. Whoever holds
-- the file can still do it, and then the log's root hash gives it away.
-- Times end in _ms (Unix milliseconds) or _seconds; serials, key ids and SPKI hashes are lower-case hex.

CREATE TABLE schema_migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  sha256 TEXT NOT NULL,
  applied_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE state_identity (
  singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
  state_id TEXT NOT NULL,
  trust_domain TEXT NOT NULL,
  log_origin TEXT NOT NULL,
  serial_prefix INTEGER NOT NULL CHECK (serial_prefix BETWEEN 1 AND 127),
  shard_count INTEGER NOT NULL CHECK (shard_count > 0),
  created_at_ms INTEGER NOT NULL
) STRICT;

-- What moves on with time.
CREATE TABLE marks (
  singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
  clock_ms INTEGER NOT NULL,
  clock_monotonic_ms REAL NOT NULL,
  clock_boot_id TEXT NOT NULL,
  -- A checkpoint that proves that this log was set back (I10).
  rewind_evidence TEXT,
  checkpoint_note TEXT
) STRICT;

CREATE TABLE authorities (
  authority_number INTEGER PRIMARY KEY,
  key_id TEXT NOT NULL UNIQUE CHECK (length(key_id) = 40),
  kind TEXT NOT NULL CHECK (kind IN ('root', 'issuer')),
  state TEXT NOT NULL CHECK (state IN ('prepared', 'active', 'old', 'tainted', 'retired')),
  certificate_der BLOB NOT NULL
) STRICT;

-- The log. `hash` stands first: reading hashes then never touches the overflow pages of a large leaf.
CREATE TABLE leaves (
  leaf_index INTEGER PRIMARY KEY CHECK (leaf_index >= 0),
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  bytes BLOB NOT NULL CHECK (length(bytes) <= 65535)
) STRICT;

CREATE TABLE entries (
  entry_number INTEGER PRIMARY KEY,
  entry_id TEXT NOT NULL UNIQUE,
  spiffe_id TEXT NOT NULL,
  selectors TEXT NOT NULL,
  -- Distinct selectors; an entry without any matches nobody.
  selector_count INTEGER NOT NULL,
  dns_names TEXT NOT NULL,
  ip_addresses TEXT NOT NULL,
  allowed_clients TEXT NOT NULL,
  profile TEXT NOT NULL,
  lifetime_seconds INTEGER,
  version INTEGER NOT NULL,
  suspended_at_ms INTEGER,
  created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX entries_by_spiffe_id ON entries (spiffe_id);

CREATE TABLE entry_selectors (
  selector TEXT NOT NULL,
  entry_number INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
  PRIMARY KEY (selector, entry_number)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_selectors_by_entry ON entry_selectors (entry_number);

CREATE TABLE join_tokens (
  token_number INTEGER PRIMARY KEY,
  token_id TEXT NOT NULL UNIQUE,
  secret_sha256 BLOB NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
  entry_number INTEGER NOT NULL REFERENCES entries,
  uses_allowed INTEGER NOT NULL CHECK (uses_allowed > 0),
  uses_taken INTEGER NOT NULL,
  cidrs TEXT NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  revoked_at_ms INTEGER
) STRICT;
CREATE INDEX join_tokens_by_entry ON join_tokens (entry_number);

-- The leaf's index is the row's key, so that rows are appended; (serial, issuer) is what is unique (I2) and in that
-- order it also answers for a serial alone. Each index that new rows hit at random costs a page written twice, which is
-- most of what a certificate costs: so there are few, and numbers stand for random names (those of recent entries are
-- neighbours). `lineage` is NULL where the certificate starts its lineage: its own serial.
CREATE TABLE certificates (
  leaf_index INTEGER PRIMARY KEY REFERENCES leaves,
  issuer_key_id TEXT NOT NULL CHECK (length(issuer_key_id) = 40),
  serial TEXT NOT NULL CHECK (length(serial) BETWEEN 2 AND 40 AND serial NOT GLOB '*[^0-9a-f]*'),
  spiffe_id TEXT NOT NULL,
  entry_number INTEGER REFERENCES entries,
  token_number INTEGER REFERENCES join_tokens,
  predecessor TEXT,
  lineage TEXT,
  spki_sha256 TEXT NOT NULL CHECK (length(spki_sha256) = 64),
  not_before_ms INTEGER NOT NULL,
  not_after_ms INTEGER NOT NULL,
  issued_at_ms INTEGER NOT NULL,
  signature BLOB,
  salt BLOB NOT NULL,
  tbs BLOB NOT NULL,
  decision TEXT NOT NULL,
  UNIQUE (serial, issuer_key_id)
) STRICT;
CREATE INDEX certificates_by_lineage ON certificates (lineage, not_after_ms);
CREATE INDEX certificates_by_spiffe_id ON certificates (spiffe_id, not_after_ms);
CREATE INDEX certificates_by_entry ON certificates (entry_number, not_after_ms);

-- Each use of a join token: the key that it was used with and what it got (I6).
CREATE TABLE token_uses (
  token_number INTEGER NOT NULL REFERENCES join_tokens,
  spki_sha256 TEXT NOT NULL,
  leaf_index INTEGER NOT NULL REFERENCES certificates,
  PRIMARY KEY (token_number, spki_sha256)
) STRICT, WITHOUT ROWID;

-- Without reference to certificates: a restored state knows revocations of serials that it does not know.
CREATE TABLE revocations (
  leaf_index INTEGER PRIMARY KEY REFERENCES leaves,
  issuer_key_id TEXT NOT NULL CHECK (length(issuer_key_id) = 40),
  serial TEXT NOT NULL CHECK (length(serial) BETWEEN 2 AND 40 AND serial NOT GLOB '*[^0-9a-f]*'),
  shard INTEGER NOT NULL CHECK (shard >= 0),
  revoked_at_ms INTEGER NOT NULL,
  reason TEXT NOT NULL,
  operator TEXT NOT NULL,
  salt BLOB NOT NULL CHECK (length(salt) = 16),
  not_after_ms INTEGER NOT NULL,
  crl_date_seconds INTEGER,
  may_leave INTEGER NOT NULL CHECK (may_leave IN (0, 1)),
  UNIQUE (serial, issuer_key_id)
) STRICT;
CREATE INDEX revocations_standing ON revocations (issuer_key_id, may_leave, serial);

CREATE TABLE blocked_keys (
  spki_sha256 TEXT PRIMARY KEY,
  leaf_index INTEGER NOT NULL REFERENCES revocations
) STRICT, WITHOUT ROWID;

-- What outlives the rows of `crls`, which are pruned: the last number of each scope (I5), and the newest scheduled
-- CRL, which lets expired entries leave.
CREATE TABLE crl_scopes (
  issuer_key_id TEXT NOT NULL CHECK (length(issuer_key_id) = 40),
  scope TEXT NOT NULL,
  last_number INTEGER NOT NULL,
  scheduled_this_update_seconds INTEGER,
  scheduled_covers_tree_size INTEGER,
  PRIMARY KEY (issuer_key_id, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE crls (
  leaf_index INTEGER PRIMARY KEY REFERENCES leaves,
  issuer_key_id TEXT NOT NULL CHECK (length(issuer_key_id) = 40),
  scope TEXT NOT NULL,
  crl_number INTEGER NOT NULL,
  this_update_seconds INTEGER NOT NULL,
  next_update_seconds INTEGER NOT NULL,
  scheduled INTEGER NOT NULL CHECK (scheduled IN (0, 1)),
  covers_tree_size INTEGER NOT NULL,
  signature BLOB,
  tbs BLOB NOT NULL,
  UNIQUE (issuer_key_id, scope, crl_number)
) STRICT;

-- What the root vouches for; the highest sequence counts.
CREATE TABLE statements (
  sequence INTEGER PRIMARY KEY,
  leaf_index INTEGER NOT NULL UNIQUE REFERENCES leaves,
  jws TEXT NOT NULL
) STRICT;

-- Facts stay as they are. An entry may change, but not whose it is: rows refer to its number.

CREATE TRIGGER state_identity_is_fixed BEFORE UPDATE ON state_identity BEGIN SELECT RAISE(ABORT, 'the state identity is fixed'); END;
CREATE TRIGGER state_identity_stays BEFORE DELETE ON state_identity BEGIN SELECT RAISE(ABORT, 'the state identity is fixed'); END;

CREATE TRIGGER statements_rise BEFORE INSERT ON statements
WHEN NEW.sequence <= (SELECT max(sequence) FROM statements)
BEGIN SELECT RAISE(ABORT, 'a statement needs a higher sequence'); END;
CREATE TRIGGER statements_are_fixed BEFORE UPDATE ON statements BEGIN SELECT RAISE(ABORT, 'a statement is fixed'); END;
CREATE TRIGGER statements_stay BEFORE DELETE ON statements BEGIN SELECT RAISE(ABORT, 'statements stay on record'); END;

CREATE TRIGGER leaves_have_no_hole BEFORE INSERT ON leaves
WHEN NEW.leaf_index IS NOT (SELECT coalesce(max(leaf_index) + 1, 0) FROM leaves)
BEGIN SELECT RAISE(ABORT, 'a leaf must follow the last one'); END;
CREATE TRIGGER leaves_are_fixed BEFORE UPDATE ON leaves BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END;
CREATE TRIGGER leaves_stay BEFORE DELETE ON leaves BEGIN SELECT RAISE(ABORT, 'leaves are append-only'); END;

CREATE TRIGGER certificates_are_fixed BEFORE UPDATE OF leaf_index, issuer_key_id, serial, spiffe_id, entry_number, token_number,
  predecessor, lineage, spki_sha256, not_before_ms, not_after_ms, issued_at_ms, salt, tbs, decision ON certificates
BEGIN SELECT RAISE(ABORT, 'certificates are append-only'); END;
CREATE TRIGGER certificates_are_signed_once BEFORE UPDATE OF signature ON certificates
WHEN OLD.signature IS NOT NULL OR NEW.signature IS NULL
BEGIN SELECT RAISE(ABORT, 'a certificate is signed once'); END;
CREATE TRIGGER certificates_stay BEFORE DELETE ON certificates BEGIN SELECT RAISE(ABORT, 'certificates are append-only'); END;

CREATE TRIGGER revocations_are_fixed BEFORE UPDATE OF leaf_index, issuer_key_id, serial, shard, revoked_at_ms, reason,
  operator, salt, not_after_ms ON revocations
BEGIN SELECT RAISE(ABORT, 'revocations are append-only'); END;
CREATE TRIGGER revocations_keep_their_date BEFORE UPDATE OF crl_date_seconds ON revocations
WHEN OLD.crl_date_seconds IS NOT NULL OR NEW.crl_date_seconds IS NULL
BEGIN SELECT RAISE(ABORT, 'a revocation date is fixed by its first CRL'); END;
CREATE TRIGGER revocations_leave_once BEFORE UPDATE OF may_leave ON revocations
WHEN NEW.may_leave < OLD.may_leave
BEGIN SELECT RAISE(ABORT, 'a revocation that left does not come back'); END;
CREATE TRIGGER revocations_stay BEFORE DELETE ON revocations BEGIN SELECT RAISE(ABORT, 'revocations are append-only'); END;

CREATE TRIGGER blocked_keys_are_fixed BEFORE UPDATE ON blocked_keys BEGIN SELECT RAISE(ABORT, 'a blocked key stays blocked'); END;
CREATE TRIGGER blocked_keys_stay BEFORE DELETE ON blocked_keys BEGIN SELECT RAISE(ABORT, 'a blocked key stays blocked'); END;

CREATE TRIGGER entries_keep_their_name BEFORE UPDATE OF entry_number, entry_id ON entries
BEGIN SELECT RAISE(ABORT, 'an entry keeps its id'); END;

CREATE TRIGGER token_uses_are_fixed BEFORE UPDATE ON token_uses BEGIN SELECT RAISE(ABORT, 'a use of a token is final'); END;
CREATE TRIGGER token_uses_stay BEFORE DELETE ON token_uses BEGIN SELECT RAISE(ABORT, 'a use of a token is final'); END;

CREATE TRIGGER join_tokens_are_fixed BEFORE UPDATE OF token_number, token_id, secret_sha256, entry_number, uses_allowed, cidrs,
  expires_at_ms, created_at_ms, created_by ON join_tokens
BEGIN SELECT RAISE(ABORT, 'a join token is fixed'); END;
CREATE TRIGGER join_tokens_give_no_use_back BEFORE UPDATE OF uses_taken ON join_tokens
WHEN NEW.uses_taken <= OLD.uses_taken
BEGIN SELECT RAISE(ABORT, 'a use of a token is final'); END;
CREATE TRIGGER join_tokens_are_revoked_once BEFORE UPDATE OF revoked_at_ms ON join_tokens
WHEN OLD.revoked_at_ms IS NOT NULL OR NEW.revoked_at_ms IS NULL
BEGIN SELECT RAISE(ABORT, 'a revoked token stays revoked'); END;
CREATE TRIGGER join_tokens_stay BEFORE DELETE ON join_tokens BEGIN SELECT RAISE(ABORT, 'join tokens stay on record'); END;

CREATE TRIGGER crls_are_fixed BEFORE UPDATE OF leaf_index, issuer_key_id, scope, crl_number, this_update_seconds,
  next_update_seconds, scheduled, covers_tree_size, tbs ON crls
BEGIN SELECT RAISE(ABORT, 'CRLs are append-only'); END;
CREATE TRIGGER crls_are_signed_once BEFORE UPDATE OF signature ON crls
WHEN OLD.signature IS NOT NULL OR NEW.signature IS NULL
BEGIN SELECT RAISE(ABORT, 'a CRL is signed once'); END;
CREATE TRIGGER crls_keep_the_newest BEFORE DELETE ON crls
WHEN OLD.crl_number IS (SELECT max(crl_number) FROM crls WHERE issuer_key_id = OLD.issuer_key_id AND scope = OLD.scope)
  OR OLD.crl_number IS (SELECT max(crl_number) FROM crls WHERE issuer_key_id = OLD.issuer_key_id AND scope = OLD.scope AND signature IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'the newest CRL of a scope stays'); END;
CREATE TRIGGER crl_scopes_stay BEFORE DELETE ON crl_scopes BEGIN SELECT RAISE(ABORT, 'CRL numbers are never forgotten'); END;
