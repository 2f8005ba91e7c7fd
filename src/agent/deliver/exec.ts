import type { Clock } from '../../core/clock.ts';
import { type IdentityOptions, identityAtBoot, renewOrRejoin } from '../boot.ts';
import { refreshBundle } from '../bundle-keeper.ts';
import { CrlKeeper } from '../crl-keeper.ts';
import type { Held } from '../held.ts';
import type { AgentParts } from '../obtain.ts';
import { keepRenewed } from '../renewer.ts';
import { handOn, type Told } from '../told.ts';
import { Watcher } from '../watcher.ts';
import { type Hook, HookRunner } from './hook.ts';
import { SignalRelay, signalExitCode, startWorkload, type Workload } from './workload.ts';

/** What `vouch exec` runs, and how. */
export interface ExecOptions extends IdentityOptions {
  command: readonly string[];
  hook: Hook;
  onRevoked: 'keep' | 'stop';
  crlRefreshMs: number;
}

/**
 * Gets an identity, runs the command, and keeps the identity fresh beside it. Resolves to the command's exit code, or
 * to 128 + n where signal n came before it was started. Throws where there is no identity to start with.
 */
export async function execWorkload(
  options: ExecOptions,
  { clock, notice }: { clock: Clock; notice: (line: string) => void },
): Promise<number> {
  const stop = new AbortController();
  let endedBy: NodeJS.Signals | undefined;
  const relay = new SignalRelay((signal) => {
    endedBy = signal;
    stop.abort();
  });
  const parts = { clock, notice, signal: stop.signal, exclusively: oneAtATime() };
  try {
    const held = await identityAtBoot(options, parts);
    if (endedBy !== undefined) return signalExitCode(endedBy);
    const workload = startWorkload(options.command, options.dir, notice);
    relay.passTo(workload);
    const tasks = keepFresh(held, workload, options, parts);
    const code = await workload.exited;
    stop.abort();
    await tasks;
    return code;
  } catch (error) {
    if (endedBy !== undefined) return signalExitCode(endedBy);
    throw error;
  } finally {
    stop.abort();
    relay.close();
  }
}

/** Renewal, CRLs and what the server tells beside a running workload; ends with the signal, never before and never by a failure. */
async function keepFresh(
  held: Held,
  workload: Workload,
  options: ExecOptions,
  parts: AgentParts,
): Promise<void> {
  const { clock, notice, signal, exclusively } = parts;
  const hook = new HookRunner(options.hook, { dir: options.dir, workload, notice, signal });
  let saidRevoked = '';
  const revoked = (detail: string): void => {
    if (saidRevoked === detail) return;
    saidRevoked = detail;
    notice(
      `REVOKED: ${detail}. Its peers refuse this workload; ${options.onRevoked === 'stop' ? 'it is stopped' : 'it goes on running (--on-revoked keep)'}`,
    );
    if (options.onRevoked === 'stop') workload.kill('SIGTERM');
  };
  const keeper = new CrlKeeper(held, {
    dir: options.dir,
    everyMs: options.crlRefreshMs,
    clock,
    signal,
    notice,
    exclusively,
    changed: (change) => hook.changed(change),
    revoked,
  });
  let order = (): void => undefined;
  const refresh = async (sequence: number): Promise<void> => {
    try {
      // Bundle and the root's CRL come of one ceremony.
      if (await refreshBundle(options.dir, sequence, parts)) keeper.askNow();
    } catch (error) {
      if (!signal.aborted) notice(`the trust bundle cannot be had: ${String(error)}; a renewal brings it`);
    }
  };
  const told: Told = {
    crl: (event) => void keeper.take(event),
    bundle: (sequence) => void refresh(sequence),
    renew: () => order(),
    notice,
  };
  const watcher = new Watcher(held, {
    ...{ clock, signal, notice, revoked },
    event: (event) => handOn(event, told),
    live: (isLive) => keeper.live(isLive),
  });
  const renewed = (fresh: Held): void => {
    saidRevoked = '';
    keeper.adopt(fresh);
    watcher.adopt(fresh);
    notice(
      `renewed: serial ${fresh.delivered.leaf.serial}, valid until ${new Date(fresh.delivered.leaf.notAfterMs).toISOString()}`,
    );
  };
  const attempt = (): Promise<Held> => renewOrRejoin(options, parts);
  const ordered = (take: () => void): void => void (order = take);
  await Promise.all([
    keeper.run(),
    watcher.run(),
    keepRenewed(held, { clock, signal, notice, attempt, renewed, revoked, ordered }),
  ]);
}

/** Runs each piece of work after the one before it, failed or not. */
function oneAtATime(): AgentParts['exclusively'] {
  let last: Promise<unknown> = Promise.resolve();
  return <T>(work: () => Promise<T>): Promise<T> => {
    const next = last.then(work, work);
    last = next.catch(() => undefined);
    return next;
  };
}
