import { VouchError } from '../../core/errors.ts';

/**
 * What a failed call asks for: another session, the login again, a new process (which is the re-initialisation: C_Finalize
 * with other threads inside the module is undefined), or an operator.
 */
export type Recovery = 'session' | 'login' | 'process' | 'operator';

/** From the cheapest to the dearest. */
const ladder: readonly Recovery[] = ['session', 'login', 'process', 'operator'];

/** Return values by what helps; whatever is not here gets a new process. */
const recoveries: Readonly<Record<string, Recovery>> = {
  CKR_SESSION_CLOSED: 'session',
  CKR_SESSION_COUNT: 'session',
  CKR_SESSION_HANDLE_INVALID: 'session',
  CKR_KEY_HANDLE_INVALID: 'session',
  CKR_OBJECT_HANDLE_INVALID: 'session',
  CKR_OPERATION_ACTIVE: 'session',
  CKR_OPERATION_NOT_INITIALIZED: 'session',
  CKR_USER_NOT_LOGGED_IN: 'login',
};

/**
 * Name of a PKCS#11 return value, such as `CKR_DEVICE_ERROR`; undefined for any other error. Of C_FindObjects and
 * C_CreateObject pkcs11js 2.1 says `CKR_DEVICE_ERROR:48`.
 */
export function ckrName(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  return /^(CKR_[A-Z0-9_]+)(?::\d+)?$/.exec(error.message)?.[1];
}

/** What helps after this error. Only a PIN that C_Login refused is an operator's matter: nothing else has judged it. */
export function recoveryFor(error: unknown): Recovery {
  if (!(error instanceof VouchError)) return recoveries[ckrName(error) ?? ''] ?? 'process';
  if (error.code === 'config-pin') return 'operator';
  if (error.code !== 'config-hsm') return 'process';
  // A key that the token does not show is private: it may show it after a login.
  return error.cause === undefined ? 'login' : recoveryFor(error.cause);
}

/** The step after `last`: what the error asks for, or the next dearer one where that has not helped. */
export function nextStep(last: Recovery | undefined, error: unknown): Recovery {
  const least = last === undefined ? 0 : ladder.indexOf(last) + 1;
  return ladder[Math.max(least, ladder.indexOf(recoveryFor(error)))] ?? 'process';
}

/** The error as the signer reports it; its text names the call and the return value, never an argument. */
export function hsmFailure(what: string, cause: unknown): VouchError {
  if (cause instanceof VouchError) return cause;
  const name = ckrName(cause) ?? 'no answer that PKCS#11 knows';
  return new VouchError('config-hsm', `${what} failed: ${name}`, { cause });
}
