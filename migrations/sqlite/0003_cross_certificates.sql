-- The root's key certified by a CA above, with that CA's chain: for verifiers that trust that CA only. The newest one is
-- published; trust bundle and pin go by the root's own certificate.

CREATE TABLE cross_certificates (
  leaf_index INTEGER PRIMARY KEY REFERENCES leaves,
  chain_pem TEXT NOT NULL
) STRICT;

CREATE TRIGGER cross_certificates_are_fixed BEFORE UPDATE ON cross_certificates
BEGIN SELECT RAISE(ABORT, 'a cross-certificate is fixed'); END;
CREATE TRIGGER cross_certificates_stay BEFORE DELETE ON cross_certificates
BEGIN SELECT RAISE(ABORT, 'cross-certificates stay on record'); END;
