-- A revocation of many certificates is written down before the first of them ends, so that a crash does not leave it half done.

CREATE TABLE mass_revocations (
  leaf_index INTEGER PRIMARY KEY REFERENCES leaves,
  -- Canonical JSON.
  target TEXT NOT NULL,
  -- removeFromCRL: the release of holds.
  reason TEXT NOT NULL,
  invalidity_date_seconds INTEGER,
  operator TEXT NOT NULL,
  started_at_ms INTEGER NOT NULL,
  -- Events recorded so far.
  event_count INTEGER NOT NULL DEFAULT 0,
  -- Leaf that says that it is done.
  ended_by INTEGER CHECK (ended_by > leaf_index)
) STRICT;
CREATE INDEX mass_revocations_unfinished ON mass_revocations (leaf_index) WHERE ended_by IS NULL;
CREATE TRIGGER mass_revocations_are_fixed BEFORE UPDATE OF leaf_index, target, reason, invalidity_date_seconds, operator, started_at_ms
  ON mass_revocations
BEGIN SELECT RAISE(ABORT, 'mass revocations are append-only'); END;
CREATE TRIGGER mass_revocations_end_once BEFORE UPDATE OF ended_by ON mass_revocations
WHEN OLD.ended_by IS NOT NULL OR NEW.ended_by IS NULL
BEGIN SELECT RAISE(ABORT, 'a mass revocation ends once'); END;
CREATE TRIGGER mass_revocations_stay BEFORE DELETE ON mass_revocations
BEGIN SELECT RAISE(ABORT, 'mass revocations are append-only'); END;

-- What else has a key that is known to others; what an operator handed out and nobody has used yet.
CREATE INDEX certificates_by_key ON certificates (spki_sha256, not_after_ms);
CREATE INDEX join_tokens_by_operator ON join_tokens (created_by, expires_at_ms) WHERE revoked_at_ms IS NULL;
