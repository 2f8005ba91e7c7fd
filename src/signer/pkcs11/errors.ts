import { VouchError } from '../../core/errors.ts';

/** What a failed call asks for: another session, a new process, or an operator. */
export type Recovery = 'session' | 'process' | 'operator';

/** Return values by what helps; whatever is not here gets a new process. */
const recoveries: Readonly<Record<string, Recovery>> = {
  CKR_SESSION_CLOSED: 'session',
  CKR_SESSION_HANDLE_INVALID: 'session',
  CKR_KEY_HANDLE_INVALID: 'session',
  CKR_OBJECT_HANDLE_INVALID: 'session',
  CKR_OPERATION_ACTIVE: 'session',
  CKR_PIN_INCORRECT: 'operator',
  CKR_PIN_LOCKED: 'operator',
  CKR_PIN_EXPIRED: 'operator',
  CKR_PIN_LEN_RANGE: 'operator',
  CKR_PIN_INVALID: 'operator',
};

/**
 * Name of a PKCS#11 return value, such as `CKR_DEVICE_ERROR`; undefined for any other error. Of C_FindObjects pkcs11js
 * 2.1 says `CKR_DEVICE_ERROR:48`.
 */
export function ckrName(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  return /^(CKR_[A-Z0-9_]+)(?::\d+)?$/.exec(error.message)?.[1];
}

/** What helps after this error. */
export function recoveryFor(error: unknown): Recovery {
  return recoveries[ckrName(error) ?? ''] ?? 'process';
}

/** The error as the signer reports it; its text names the call and the return value, never an argument. */
export function hsmFailure(what: string, cause: unknown): VouchError {
  if (cause instanceof VouchError) return cause;
  const name = ckrName(cause) ?? 'no answer that PKCS#11 knows';
  return new VouchError('config-hsm', `${what} failed: ${name}`, { cause });
}
