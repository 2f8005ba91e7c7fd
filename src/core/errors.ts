/**
 * Every failure Vouch reports, grouped by whose fault it is: `request-` the peer's input, `denied-` who asks,
 * `policy-` what is asked for, `unavailable-` try again, `integrity-` stop signing until an operator acts,
 * `config-` the operator's files, `usage-` the command line.
 */
export type ErrorCode =
  | 'request-malformed'
  | 'request-too-large'
  | 'request-not-found'
  | 'request-method'
  | 'request-csr'
  | 'request-key'
  | 'request-binding'
  | 'request-unknown-type'
  | 'denied-evidence'
  | 'denied-token-used'
  | 'denied-token-expired'
  | 'denied-token-revoked'
  | 'denied-token-address'
  | 'denied-certificate'
  | 'denied-revoked'
  | 'denied-suspended'
  | 'denied-no-entry'
  | 'denied-operator'
  | 'denied-server'
  | 'denied-workload'
  | 'policy-key-conflict'
  | 'policy-key-blocked'
  | 'policy-names'
  | 'policy-entry-changed'
  | 'policy-conflict'
  | 'policy-lint'
  | 'policy-clock'
  | 'policy-not-fresh'
  | 'unavailable-overloaded'
  | 'unavailable-rate-limited'
  | 'unavailable-signer'
  | 'unavailable-issuer'
  | 'unavailable-store'
  | 'unavailable-server'
  | 'unavailable-stopping'
  | 'integrity-signature'
  | 'integrity-log'
  | 'integrity-crl'
  | 'integrity-state'
  | 'integrity-rewind'
  | 'config-invalid'
  | 'config-secret-readable'
  | 'config-state'
  | 'config-in-use'
  | 'config-schema'
  | 'config-hsm'
  | 'config-pin'
  | 'usage-invalid'
  | 'usage-confirm'
  | 'internal';

/** What else a failure carries. `cause` reaches the log only, never the peer. */
export interface VouchErrorOptions {
  cause?: unknown;
  retryAfterSeconds?: number;
}

/** The one error class. `detail` (the message) is safe to show the peer and says what to do. */
export class VouchError extends Error {
  readonly code: ErrorCode;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, detail: string, options: VouchErrorOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'VouchError';
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  get detail(): string {
    return this.message;
  }
}

/** True for a failure after which nothing may be signed until an operator has looked. */
export function isIntegrityFailure(error: unknown): error is VouchError {
  return error instanceof VouchError && error.code.startsWith('integrity-');
}

/** True for a failure that says that the log was put back or is another: of several signers one is enough to know. */
export function isOtherLog(error: unknown): error is VouchError {
  return error instanceof VouchError && (error.code === 'integrity-rewind' || error.code === 'integrity-log');
}

/** Any thrown value as a VouchError; what is not one becomes `internal`, with its text kept from the peer. */
export function asVouchError(error: unknown): VouchError {
  if (error instanceof VouchError) return error;
  return new VouchError('internal', 'internal error; the server log has the cause', { cause: error });
}

/** Wrong code, not wrong input: crashes loudly. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${what}`);
}
