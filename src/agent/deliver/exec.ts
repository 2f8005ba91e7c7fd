import type { Clock } from '../../core/clock.ts';
import { type IdentityOptions, identityAtBoot, renewOrRejoin } from '../boot.ts';
import { type FreshOptions, freshness } from '../freshness.ts';
import type { Held } from '../held.ts';
import type { AgentParts } from '../obtain.ts';
import { oneAtATime } from '../one-at-a-time.ts';
import { type Hook, HookRunner } from './hook.ts';
import { SignalRelay, signalExitCode, startWorkload, type Workload } from './workload.ts';

/** What `vouch exec` runs, and how. */
export interface ExecOptions extends IdentityOptions, FreshOptions {
  command: readonly string[];
  hook: Hook;
  onRevoked: 'keep' | 'stop';
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
  const { notice, signal } = parts;
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
  await freshness(held, options, {
    ...parts,
    revoked,
    changed: (change) => hook.changed(change),
    attempt: () => renewOrRejoin(options, parts),
    renewed: () => (saidRevoked = ''),
  }).run();
}
