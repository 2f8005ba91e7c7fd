import { setTimeout as sleep } from 'node:timers/promises';
import { asVouchError, isOtherLog } from './core/errors.ts';
import type { Kernel } from './kernel.ts';
import { errorFields, type Log } from './telemetry/log.ts';

/** How long a starting server waits for its signer. */
const signerWaitMs = 15_000;
/** How long it waits for the others once one of several signs: longer than a token takes to open that is there. */
const othersWaitMs = 3_000;

/**
 * Waits for the signer, but not for ever: while the token is away CRLs, bundle and log are served all the same, and the
 * signer is tried again. Throws what only an operator can mend: a refused PIN, a rewound state.
 */
export async function signerUp(kernel: Kernel, log: Log): Promise<void> {
  const { ready } = kernel;
  const timeout = new AbortController();
  const late = sleep(signerWaitMs, undefined, { signal: timeout.signal, ref: false });
  late.catch(() => undefined);
  const isUp = await Promise.race([ready.then(() => true), late.then(() => false)])
    .catch((error: unknown) => {
      if (asVouchError(error).code !== 'config-hsm') throw error;
      log.error(errorFields(error), 'the token cannot be used');
      return false;
    })
    .finally(() => timeout.abort());
  if (isUp) await othersJudged(kernel);
  else log.warn({}, 'the signer is not up yet; serving what is signed already');
}

/** Of several signers one may know a newer log than the one that is up: nothing is begun before they were asked. */
async function othersJudged({ allReady }: Kernel): Promise<void> {
  const timeout = new AbortController();
  const late = sleep(othersWaitMs, undefined, { signal: timeout.signal, ref: false }).catch(() => undefined);
  const all = allReady().catch((error: unknown) => {
    if (isOtherLog(error)) throw error;
  });
  await Promise.race([all, late]).finally(() => timeout.abort());
}
