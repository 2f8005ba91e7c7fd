import { VouchError } from '../core/errors.ts';

/** How the signer process ends, as its supervisor or systemd (RestartPreventExitStatus=77 76) reads it. */
export const exitCodes = {
  /** Asked to, or its server is gone. */
  stopped: 0,
  /** The token or its process failed; a new process may help. */
  tryAgain: 75,
  /** State and marks contradict each other; an operator must act. */
  integrity: 76,
  /** The token refused the PIN; trying again could lock it. */
  pinRefused: 77,
  /** Configuration or files are not usable. */
  configuration: 78,
} as const;

/** The exit code for what ended the signer. */
export function exitCodeFor(error: unknown): number {
  const code = error instanceof VouchError ? error.code : '';
  if (code === 'config-pin') return exitCodes.pinRefused;
  if (code.startsWith('integrity-')) return exitCodes.integrity;
  if (code === 'config-hsm' || code.startsWith('unavailable-')) return exitCodes.tryAgain;
  return code.startsWith('config-') ? exitCodes.configuration : exitCodes.tryAgain;
}
