-- Keys that sign JWT-SVIDs, as the signers told of them: the newest beside each issuer stands in the bundle.

CREATE TABLE jwt_keys (
  leaf_index INTEGER PRIMARY KEY REFERENCES leaves,
  -- In whose token the key is.
  issuer_key_id TEXT NOT NULL,
  -- kid.
  key_id TEXT NOT NULL,
  -- DER SubjectPublicKeyInfo.
  public_key BLOB NOT NULL
) STRICT;

CREATE TRIGGER jwt_keys_are_fixed BEFORE UPDATE ON jwt_keys
BEGIN SELECT RAISE(ABORT, 'a key of JWT-SVIDs is fixed'); END;
CREATE TRIGGER jwt_keys_stay BEFORE DELETE ON jwt_keys
BEGIN SELECT RAISE(ABORT, 'keys of JWT-SVIDs stay on record'); END;
