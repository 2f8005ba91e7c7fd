import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { joinedCrl } from '../../src/x509/crl-tbs.ts';
import { type ParsedCrl, parseCrl } from '../../src/x509/crl.ts';

/** A published CRL, read from its bytes. */
export function readPublished({ der }: Pick<PublishedCrl, 'der'>): ParsedCrl {
  return parseCrl(joinedCrl(der));
}
