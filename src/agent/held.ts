import type { VerifiedCrl, VerifiedDelta } from '../client/crl.ts';
import { type Delivered, readDelivered } from '../client/delivered.ts';
import { VouchError } from '../core/errors.ts';
import { validatePath } from '../x509/path.ts';
import { toleratedSkewMs } from './answer.ts';
import type { ServerAddress } from './connection.ts';
import { type ChainAuthority, chainAuthorities } from './crls.ts';
import { readHeldCrls, readHeldDeltas } from './held-crls.ts';
import { requireState } from './renew.ts';
import type { AgentState } from './state.ts';

/** A delivered certificate that holds, with what the agent knows about it. */
export interface Held {
  state: AgentState;
  delivered: Delivered;
  chain: readonly ChainAuthority[];
  /** The CRLs in crl.pem, by the key id of who signed. */
  crls: ReadonlyMap<string, VerifiedCrl>;
  /** The delta CRLs in crl-delta.pem. */
  deltas: readonly VerifiedDelta[];
}

/**
 * Reads what stands in `dir` and checks it as if it came from elsewhere, with the tolerance for this machine's clock
 * that it was delivered with: what was delivered can be read back. Throws `config-state` where nothing does or where it
 * is of another authority than `address`, `denied-certificate` where it does not hold.
 */
export function readHeld(
  dir: string,
  nowMs: number,
  address?: Pick<ServerAddress, 'pin' | 'trustDomain'>,
): Held {
  const state = requireState(dir);
  if (address !== undefined && (address.pin !== state.pin || address.trustDomain !== state.trustDomain))
    throw new VouchError(
      'config-state',
      `${dir} holds a certificate of another authority than the join file's`,
    );
  const delivered = readDelivered(dir);
  const [, ...authorities] = validatePath({
    chain: [delivered.leaf, ...delivered.issuers].map((certificate) => certificate.der),
    roots: [state.root],
    nowMs,
    skewMs: toleratedSkewMs,
    trustDomain: state.trustDomain,
  });
  const chain = chainAuthorities(delivered.leaf, authorities, delivered.otherIssuers, state.crlUrls);
  const { crlNumbers } = state.seen;
  const crls = readHeldCrls(delivered.folder, chain, crlNumbers);
  return { state, delivered, chain, crls, deltas: readHeldDeltas(delivered.folder, chain, crlNumbers) };
}

/** True where a certificate is over by this machine's clock. */
export function hasExpired({ delivered }: Held, nowMs: number): boolean {
  return nowMs > delivered.leaf.notAfterMs + 999;
}

/** When to renew, in Unix milliseconds. */
export interface RenewalWindow {
  earliestMs: number;
  latestMs: number;
}

/** Of a certificate's life what is kept for failed attempts, where the other half is to be left. */
const marginShare = 1 / 20;

/** When to renew: at a random moment of the window the server gave, or about half life where it gave none. */
export function renewalDueMs(held: Held, random = Math.random): number {
  const { earliestMs, latestMs } = windowOf(held);
  return earliestMs + random() * (latestMs - earliestMs);
}

/** The same by an agent, who has to ride out half a life for others, too: early in the window. */
export function earlyRenewalDueMs(held: Held, random = Math.random): number {
  const { leaf } = held.delivered;
  const { earliestMs, latestMs } = earlyWindow(windowOf(held), leaf);
  return earliestMs + random() * (latestMs - earliestMs);
}

/** The part of a window after which more than half of the life is left, if not the earliest moment of it. */
export function earlyWindow(
  { earliestMs, latestMs }: RenewalWindow,
  { notBeforeMs, notAfterMs }: { notBeforeMs: number; notAfterMs: number },
): RenewalWindow {
  const lifetimeMs = notAfterMs - notBeforeMs;
  const early = notAfterMs - lifetimeMs * (1 / 2 + marginShare);
  return { earliestMs, latestMs: Math.max(earliestMs, Math.min(latestMs, early)) };
}

function windowOf({ state, delivered }: Held): RenewalWindow {
  const { leaf } = delivered;
  if (state.serial === leaf.serial) return state.renewal;
  const half = leaf.notBeforeMs + (leaf.notAfterMs - leaf.notBeforeMs) / 2;
  const tenth = (leaf.notAfterMs - leaf.notBeforeMs) / 10;
  return { earliestMs: half - tenth, latestMs: half + tenth };
}
