import { createHash } from 'node:crypto';
import type { JoinFile } from '../wire/join-file.ts';
import type { KeyType } from '../x509/public-key.ts';
import type { CrlPolicy } from './crls.ts';
import { workloadKeyTypes } from './key-type.ts';
import { type AgentParts, type Delivery, obtain } from './obtain.ts';
import { bootBackoff } from './retry.ts';
import { type AgentState, readState, type Seen } from './state.ts';

/** How long, and how strictly. */
export interface ErrandOptions {
  /** What `--key-type` asks for; undefined: of what is renewed, or the default. */
  keyType: KeyType | undefined;
  crlPolicy: CrlPolicy;
  timeoutMs: number;
}

/**
 * A first certificate by a join token. What an earlier life of `dir` saw of the same authority counts on, and the join
 * file's floor beside it, whichever is higher.
 */
export async function enroll(
  dir: string,
  join: JoinFile,
  options: ErrandOptions,
  parts: AgentParts,
): Promise<Delivery> {
  const { server, trustDomain, pin, token } = join;
  return obtain(
    {
      dir,
      address: { server, trustDomain, pin },
      root: undefined,
      seen: floorOf(join, readState(dir)),
      credential: { type: 'token', token },
      usedToken: tokenDigest(token),
      usualKeyType: workloadKeyTypes[0],
      backoff: bootBackoff,
      ...options,
    },
    parts,
  );
}

/** Hex SHA-256: tells a new join token from the one used before, and gives nothing away of either. */
export function tokenDigest(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

function floorOf({ floor, pin, trustDomain }: JoinFile, state: AgentState | undefined): Seen {
  const fresh: Seen = { ...floor, head: undefined, crlNumbers: new Map() };
  if (state === undefined || state.pin !== pin || state.trustDomain !== trustDomain) return fresh;
  return {
    statement: Math.max(floor.statement, state.seen.statement),
    bundle: Math.max(floor.bundle, state.seen.bundle),
    treeSize: Math.max(floor.treeSize, state.seen.treeSize),
    head: state.seen.head,
    crlNumbers: state.seen.crlNumbers,
  };
}
