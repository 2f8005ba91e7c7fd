import { asVouchError } from '../core/errors.ts';
import { ConnectionLost } from './connection.ts';
import type { SignerLink } from './link.ts';
import type { AppendBatch, AppendResult } from './port.ts';

/** The server's tree is larger than what this life of the signer was sent; a new one takes it up whole. */
export class OutOfStep extends ConnectionLost {}

/**
 * Appends what the signer has not got, and has signed again what it has: leaves that a resume already fed it are never
 * sent twice.
 */
export async function appendTo(link: SignerLink, batch: AppendBatch): Promise<AppendResult> {
  const { firstIndex, items } = batch;
  if (firstIndex > link.treeSize) throw new OutOfStep('the signer lacks leaves');
  const had = Math.min(link.treeSize - firstIndex, items.length);
  const fresh = items.slice(had);
  const appended = fresh.length > 0 ? link.append({ firstIndex: link.treeSize, items: fresh }) : undefined;
  const signedAgain = items.slice(0, had).map(async (item, position) => {
    const { purpose } = item;
    if (purpose === 'record' || purpose === 'foreign') return undefined;
    const index = firstIndex + position;
    const { treeSize } = link.checkpoint;
    // Without a path it is judged by the leaves that this signer has hashed itself.
    const path = batch.auditPath?.(index, treeSize) ?? [];
    return link.signLogged({ ...item, purpose, index, path, treeSize }).catch(asItemError);
  });
  const [result, again] = await Promise.all([appended, Promise.all(signedAgain)]);
  const signatures = [...again, ...(result?.signatures ?? [])];
  return { signatures, checkpoint: result?.checkpoint ?? link.checkpoint };
}

function asItemError(error: unknown): Error {
  if (error instanceof ConnectionLost) throw error;
  return asVouchError(error);
}
