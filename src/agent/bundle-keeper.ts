import { join } from 'node:path';
import { type Delivered, fileNames, readDelivered } from '../client/delivered.ts';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { type BundleJson, bundleSchema, enrollmentPaths } from '../wire/enrollment.ts';
import { encodePem } from '../x509/pem.ts';
import { rootsOf, verifyBundle } from './answer.ts';
import { connectServer } from './connection.ts';
import { replaceFile } from './deliver/durable-file.ts';
import { exchange } from './exchange.ts';
import type { Held } from './held.ts';
import { requireState } from './renew.ts';
import { type AgentState, formatState, stateFile } from './state.ts';

/**
 * Fetches the bundle where it has another sequence than the one seen, checks it as an answer's, and puts it in place of
 * the current generation's bundle.pem. Undefined where it is not newer. Throws as `connectServer`, `exchange` and
 * `verifyBundle` do. `known`: the sequence of the bundle that the caller has; default the one seen.
 */
export async function refreshBundle(
  dir: string,
  sequence: number,
  parts: { clock: Clock; signal: AbortSignal; exclusively: <T>(work: () => Promise<T>) => Promise<T> },
  known?: number,
): Promise<BundleJson | undefined> {
  const { clock } = parts;
  const address = requireState(dir);
  if (sequence <= (known ?? address.seen.bundle)) return undefined;
  const socket = await connectServer(address, address.root, parts);
  const json = await exchange(socket, address.server, { method: 'GET', path: enrollmentPaths.bundle }, parts);
  const { data: bundle } = bundleSchema.safeParse(json);
  if (!bundle) throw new VouchError('denied-server', `what ${address.server} serves is no trust bundle`);
  return parts.exclusively(async () => {
    const [state, delivered] = [requireState(dir), readDelivered(dir)];
    const { statement, roots } = verifyBundle(bundle, {
      ...{ address: state, root: state.root, seen: state.seen, nowMs: clock.now() },
    });
    const seen = { ...state.seen, statement: statement.sequence, bundle: bundle.spiffe_sequence };
    await replaceFile(join(dir, stateFile), formatState({ ...state, seen, bundle }), 0o600);
    await deliverBundle(delivered, roots);
    return bundle;
  });
}

/** The bundle in agent.json, checked as if it came from the server. Throws as `verifyBundle` does. */
export function keptBundle(state: AgentState, nowMs: number): BundleJson | undefined {
  const { bundle, root, seen } = state;
  if (bundle !== undefined) verifyBundle(bundle, { address: state, root, seen, nowMs });
  return bundle;
}

/**
 * Brings bundle.pem to what agent.json has, which is written first: a crash may have come between. What cannot be done is
 * said; the next renewal brings it.
 */
export async function repairBundle(
  { state, delivered }: Held,
  { clock, notice }: { clock: Clock; notice: (line: string) => void },
): Promise<void> {
  try {
    const { bundle } = state;
    if (bundle === undefined || bundlePem(rootsOf(bundle)) === delivered.bundlePem) return;
    keptBundle(state, clock.now());
    await deliverBundle(delivered, rootsOf(bundle));
  } catch (error) {
    notice(`the trust bundle that was seen last cannot be delivered: ${String(error)}; a renewal brings it`);
  }
}

async function deliverBundle(delivered: Delivered, roots: readonly Buffer[]): Promise<void> {
  const pem = bundlePem(roots);
  if (pem !== delivered.bundlePem) await replaceFile(join(delivered.folder, fileNames.bundle), pem, 0o644);
}

function bundlePem(roots: readonly Buffer[]): string {
  return roots.map((der) => encodePem('CERTIFICATE', der)).join('');
}
