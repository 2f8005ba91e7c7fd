import type { ErrorCode, VouchError } from './errors.ts';

interface Presentation {
  status: number;
  title: string;
}

/** How each failure looks at the edge (RFC 9457); complete by type. What is ours to mend shows nothing of the inside. */
const presentations = {
  'request-malformed': { status: 400, title: 'The request is malformed' },
  'request-too-large': { status: 413, title: 'The request is too large' },
  'request-not-found': { status: 404, title: 'There is no such thing here' },
  'request-method': { status: 405, title: 'That method is not served here' },
  'request-csr': { status: 400, title: 'The CSR cannot be used' },
  'request-key': { status: 400, title: 'The public key cannot be certified' },
  'request-binding': { status: 400, title: 'The request is not bound to this connection' },
  'request-unknown-type': { status: 400, title: 'A type in the request is unknown' },
  'denied-evidence': { status: 401, title: 'The evidence was not accepted' },
  'denied-token-used': { status: 403, title: 'The join token is used up' },
  'denied-token-expired': { status: 403, title: 'The join token has expired' },
  'denied-token-revoked': { status: 403, title: 'The join token was revoked' },
  'denied-token-address': { status: 403, title: 'The join token may not be used from here' },
  'denied-certificate': { status: 401, title: 'The client certificate was not accepted' },
  'denied-revoked': { status: 403, title: 'The certificate is revoked' },
  'denied-suspended': { status: 403, title: 'The identity is suspended' },
  'denied-no-entry': { status: 403, title: 'No registration entry matches' },
  'denied-operator': { status: 403, title: 'The caller is not an operator' },
  'denied-server': { status: 502, title: 'The server was not accepted' },
  'denied-workload': { status: 403, title: 'The workload was not recognised' },
  'policy-key-conflict': { status: 409, title: 'The join token was used with another key' },
  'policy-key-blocked': { status: 403, title: 'The key is blocked' },
  'policy-names': { status: 403, title: 'The CSR asks for names it may not have' },
  'policy-entry-changed': { status: 409, title: 'The registration entry changed meanwhile' },
  'policy-conflict': { status: 409, title: 'That was done already' },
  'policy-lint': { status: 422, title: 'The certificate would break a rule' },
  'policy-clock': { status: 503, title: 'The clock is in doubt' },
  'policy-not-fresh': { status: 503, title: 'The server is behind what you have seen' },
  'unavailable-overloaded': { status: 503, title: 'The server is busy' },
  'unavailable-rate-limited': { status: 429, title: 'Too many requests' },
  'unavailable-signer': { status: 503, title: 'Nothing can be signed now' },
  'unavailable-issuer': { status: 503, title: 'No issuer may issue' },
  'unavailable-store': { status: 503, title: 'Nothing can be stored now' },
  'unavailable-server': { status: 503, title: 'The server cannot be reached' },
  'unavailable-stopping': { status: 503, title: 'The server is stopping' },
  'integrity-signature': { status: 500, title: 'The state is inconsistent' },
  'integrity-log': { status: 500, title: 'The state is inconsistent' },
  'integrity-crl': { status: 500, title: 'The state is inconsistent' },
  'integrity-state': { status: 500, title: 'The state is inconsistent' },
  'integrity-rewind': { status: 500, title: 'The state is inconsistent' },
  'config-invalid': { status: 500, title: 'The configuration is wrong' },
  'config-secret-readable': { status: 500, title: 'A secret can be read by others' },
  'config-state': { status: 500, title: 'The state directory is wrong' },
  'config-in-use': { status: 500, title: 'The state directory is in use' },
  'config-schema': { status: 500, title: 'The database schema is another' },
  'config-hsm': { status: 500, title: 'The token cannot be used' },
  'config-pin': { status: 500, title: 'The PIN was refused' },
  'usage-invalid': { status: 400, title: 'The command line is wrong' },
  'usage-confirm': { status: 400, title: 'This needs --yes' },
  internal: { status: 500, title: 'Internal error' },
} satisfies Record<ErrorCode, Presentation>;

/** An `application/problem+json` body. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  code: ErrorCode;
  detail: string;
  requestId?: string;
}

/** Whom a problem is shown to: a stranger learns nothing of the inside, an operator everything that helps. */
export type Audience = 'peer' | 'operator';

/** The problem that a failure shows. */
export function problemOf(error: VouchError, audience: Audience, requestId?: string): Problem {
  const { status, title } = presentations[error.code];
  const hidden = audience === 'peer' && /^(?:integrity|config)-/.test(error.code);
  const detail = hidden ? 'the server cannot do its work; its operator must act' : error.detail;
  return {
    type: `urn:vouch:problem:${error.code}`,
    title,
    status,
    code: error.code,
    detail,
    ...(requestId ? { requestId } : {}),
  };
}
