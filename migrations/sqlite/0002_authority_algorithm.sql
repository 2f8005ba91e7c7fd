-- What an authority signs with. An RSA key does not say whether it signs by PKCS#1 v1.5 or by PSS, and what is signed
-- names the scheme before there is a signature. Up to here every root was P-384 and every issuer P-256.

CREATE TABLE authorities_with_algorithm (
  authority_number INTEGER PRIMARY KEY,
  key_id TEXT NOT NULL UNIQUE CHECK (length(key_id) = 40),
  kind TEXT NOT NULL CHECK (kind IN ('root', 'issuer')),
  state TEXT NOT NULL CHECK (state IN ('prepared', 'active', 'old', 'tainted', 'retired')),
  algorithm TEXT NOT NULL CHECK (algorithm IN ('ecdsa-sha256', 'ecdsa-sha384', 'rsa-pkcs1-sha256', 'rsa-pss-sha256', 'ed25519')),
  certificate_der BLOB NOT NULL
) STRICT;

INSERT INTO authorities_with_algorithm (authority_number, key_id, kind, state, algorithm, certificate_der)
SELECT authority_number, key_id, kind, state, CASE kind WHEN 'root' THEN 'ecdsa-sha384' ELSE 'ecdsa-sha256' END, certificate_der
FROM authorities;

DROP TABLE authorities;
ALTER TABLE authorities_with_algorithm RENAME TO authorities;

-- A key signs by one scheme for as long as it lives.
CREATE TRIGGER authorities_keep_their_key BEFORE UPDATE OF key_id, kind, algorithm ON authorities
BEGIN SELECT RAISE(ABORT, 'an authority keeps its key'); END;
