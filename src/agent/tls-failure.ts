import { type Clock, rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';

const awayCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'EHOSTDOWN',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EADDRNOTAVAIL',
  'ECONNABORTED',
  'ERR_SOCKET_CONNECTION_TIMEOUT',
  'ERR_TLS_HANDSHAKE_TIMEOUT',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ABORT_ERR',
]);

/**
 * A failure of a connection as what it means: away (try again), a wrong clock, or not the server. What is none of those
 * after the server was verified (`verified`) is an answer that cannot be read; the secret has been sent by then.
 */
export function connectionFailure(
  error: unknown,
  server: string,
  { clock, verified }: { clock: Clock; verified: boolean },
): VouchError {
  if (error instanceof VouchError) return error;
  const code = codeOf(error);
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return new VouchError(
      'denied-server',
      `the certificate of ${server} ${code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet'} by this machine's clock, which says ${rfc3339(clock.now())}: set the clock right, or ask the operator of the server`,
      { cause: error },
    );
  if (code.includes('ALERT'))
    return new VouchError(
      'denied-certificate',
      `${server} refused the TLS connection (${code}); enroll again`,
      { cause: error },
    );
  if (awayCodes.has(code) || isTimeout(error))
    return new VouchError('unavailable-server', `${server} cannot be reached (${code})`, { cause: error });
  return new VouchError(
    'denied-server',
    verified
      ? `the answer of ${server} cannot be read (${code}): is something in between?`
      : `${server} is not the server that the pin names (${code}); nothing secret was sent. Check the URL and who answers there`,
    { cause: error },
  );
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
}

function codeOf(error: unknown): string {
  if (isTimeout(error)) return 'ETIMEDOUT';
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return error instanceof Error ? error.message : 'unknown error';
}
