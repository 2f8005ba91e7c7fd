import { readDelivered } from '../client/delivered.ts';
import { VouchError } from '../core/errors.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { isPinned } from './connection.ts';
import type { ErrandOptions } from './enroll.ts';
import { type AgentParts, type Delivery, obtain } from './obtain.ts';
import { type Backoff, bootBackoff } from './retry.ts';
import { type AgentState, readState } from './state.ts';

/** Renews what stands in `dir`, with a fresh key, of the same type unless another is asked for. Throws `config-state` where nothing does. */
export async function renew(
  dir: string,
  options: ErrandOptions & { backoff?: Backoff },
  parts: AgentParts,
): Promise<Delivery> {
  const state = requireState(dir);
  const { chainPem, keyPem, leaf, spiffeId } = readDelivered(dir);
  const { server, trustDomain, pin } = state;
  return obtain(
    {
      dir,
      address: { server, trustDomain, pin },
      root: state.root,
      seen: state.seen,
      credential: { type: 'certificate', cert: chainPem, key: keyPem, leafDer: leaf.der, spiffeId },
      usedToken: state.usedToken,
      usualKeyType: importPublicKey(leaf.spki).type,
      backoff: bootBackoff,
      ...options,
    },
    parts,
  );
}

/** agent.json, with its root checked against its pin. Throws `config-state`. */
export function requireState(dir: string): AgentState {
  const state = readState(dir);
  if (state === undefined)
    throw new VouchError(
      'config-state',
      `${dir} has no agent.json: nothing was enrolled there; run \`vouch enroll\``,
    );
  if (!isPinned(state.root, state.pin))
    throw new VouchError('config-state', `the root in ${dir}/agent.json is not the pinned one; enroll again`);
  return state;
}
