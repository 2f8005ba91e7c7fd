import { join } from 'node:path';
import { fileNames, readDelivered } from '../client/delivered.ts';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { type BundleJson, bundleSchema, enrollmentPaths } from '../wire/enrollment.ts';
import { encodePem } from '../x509/pem.ts';
import { verifyBundle } from './answer.ts';
import { connectServer } from './connection.ts';
import { replaceFile } from './deliver/durable-file.ts';
import { exchange } from './exchange.ts';
import { requireState } from './renew.ts';
import { formatState, stateFile } from './state.ts';

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
    const pem = roots.map((der) => encodePem('CERTIFICATE', der)).join('');
    if (pem !== delivered.bundlePem) await replaceFile(join(delivered.folder, fileNames.bundle), pem, 0o644);
    return bundle;
  });
}
