import { VouchError } from '../../core/errors.ts';
import { parseSpiffeId, trustDomainOf } from '../../core/spiffe-id.ts';
import { type CertificateRule, details } from './context.ts';

/** Exactly one URI, a SPIFFE ID with a path in our trust domain, and the one that was decided. */
export const spiffeId: CertificateRule = {
  name: 'spiffe-id',
  citation: 'X509-SVID §2, §5.2; SPIFFE-ID §2',
  check({ uris }, { spiffeId: decided, trustDomain }) {
    const [uri] = uris;
    if (uri === undefined || uris.length !== 1) return ['an X509-SVID has exactly one URI'];
    try {
      return details(
        [trustDomainOf(parseSpiffeId(uri)) !== trustDomain, `the SPIFFE ID is outside of ${trustDomain}`],
        [decided !== undefined && decided !== uri, 'the SPIFFE ID is not the one decided'],
      );
    } catch (error) {
      if (!(error instanceof VouchError)) throw error;
      return [error.detail];
    }
  },
};
