import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VouchError } from '../core/errors.ts';
import { parseSerial, type Serial } from '../core/serial.ts';
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from '../core/spiffe-id.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { type BundleJson, bundleSchema } from '../wire/enrollment.ts';
import type { ServerAddress } from './connection.ts';

/** The newest of everything the agent was shown and believed: nothing older is accepted again (I9). */
export interface Seen {
  /** Sequence of the statement. */
  statement: number;
  /** Sequence of the bundle. */
  bundle: number;
  treeSize: number;
  /** The last checkpoint; undefined before the first, when only the join file's size is known. */
  head: Checkpoint | undefined;
  /** By the key id of the CA that signed; of its delta CRLs by `deltaNumberKey`. */
  crlNumbers: ReadonlyMap<string, bigint>;
}

/** What `agent.json` keeps beside the delivered files. */
export interface AgentState extends ServerAddress {
  /** DER. */
  root: Buffer;
  seen: Seen;
  /**
   * The bundle that `seen` has the sequence of, in the same file: after a crash, too, nobody who goes on from here is
   * without the newest. Undefined in what an earlier version wrote. To be verified before it is used.
   */
  bundle: BundleJson | undefined;
  spiffeId: SpiffeId;
  /** The certificate that `renewal` speaks of. */
  serial: Serial;
  renewal: { earliestMs: number; latestMs: number };
  /** Where each CA of the chain has its full CRL, by its key id. */
  crlUrls: ReadonlyMap<string, string>;
  /** Hex SHA-256 of the join token that was used last, so that a new one is told apart; '' where none was. */
  usedToken: string;
}

/** What counts after an answer showed `shown`, where others may have moved `kept` on since it was asked for: nothing falls. */
export function newestOf(
  shown: Pick<AgentState, 'seen' | 'bundle'>,
  kept: Pick<AgentState, 'seen' | 'bundle'>,
): Pick<AgentState, 'seen' | 'bundle'> {
  const { seen } = shown;
  return {
    seen: {
      ...seen,
      statement: Math.max(seen.statement, kept.seen.statement),
      bundle: Math.max(seen.bundle, kept.seen.bundle),
      crlNumbers: highest(seen.crlNumbers, kept.seen.crlNumbers),
    },
    bundle: kept.seen.bundle > seen.bundle ? kept.bundle : shown.bundle,
  };
}

/** Of each CRL the higher number. */
export function highest(
  numbers: ReadonlyMap<string, bigint>,
  more: Iterable<readonly [string, bigint]>,
): Map<string, bigint> {
  const all = new Map(numbers);
  for (const [keyId, number] of more) if (number > (all.get(keyId) ?? 0n)) all.set(keyId, number);
  return all;
}

/** Where `crlNumbers` has the number of an issuer's delta CRL. */
export function deltaNumberKey(issuerKeyId: string): string {
  return `${issuerKeyId}/delta`;
}

const version = 1;

/** Its name in the delivery folder; 0600. */
export const stateFile = 'agent.json';

/** The text of agent.json. */
export function formatState(state: AgentState): string {
  const { head } = state.seen;
  return `${JSON.stringify(
    {
      version,
      ...state,
      root: state.root.toString('base64'),
      seen: {
        ...state.seen,
        head: head === undefined ? null : { ...head, rootHash: head.rootHash.toString('hex') },
        crlNumbers: Object.fromEntries(
          [...state.seen.crlNumbers].map(([keyId, number]) => [keyId, number.toString()]),
        ),
      },
      crlUrls: Object.fromEntries(state.crlUrls),
    },
    undefined,
    2,
  )}\n`;
}

/** Reads `dir/agent.json`. Undefined where there is none; throws `config-state` where it is damaged. */
export function readState(dir: string): AgentState | undefined {
  const path = join(dir, stateFile);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new VouchError('config-state', `${path} cannot be read`, { cause });
  }
  try {
    return parseState(record(JSON.parse(text)));
  } catch (cause) {
    throw new VouchError(
      'config-state',
      `${path} is damaged; remove the folder and enroll again with a new join file`,
      { cause },
    );
  }
}

type Members = { readonly [name: string]: unknown };

function parseState(members: Members): AgentState {
  if (members.version !== version) throw new Error('of another version');
  const seen = record(members.seen);
  const head = seen.head === null ? undefined : record(seen.head);
  const renewal = record(members.renewal);
  return {
    server: text(members.server),
    trustDomain: parseTrustDomain(text(members.trustDomain)),
    pin: text(members.pin),
    root: Buffer.from(text(members.root), 'base64'),
    seen: {
      statement: count(seen.statement),
      bundle: count(seen.bundle),
      treeSize: count(seen.treeSize),
      head:
        head === undefined
          ? undefined
          : {
              origin: text(head.origin),
              treeSize: count(head.treeSize),
              rootHash: Buffer.from(text(head.rootHash), 'hex'),
              note: text(head.note),
            },
      crlNumbers: new Map(
        Object.entries(record(seen.crlNumbers)).map(([keyId, number]) => [keyId, BigInt(text(number))]),
      ),
    },
    bundle: bundleSchema.safeParse(members.bundle).data,
    spiffeId: parseSpiffeId(text(members.spiffeId)),
    serial: parseSerial(text(members.serial)),
    renewal: { earliestMs: count(renewal.earliestMs), latestMs: count(renewal.latestMs) },
    crlUrls: new Map(Object.entries(record(members.crlUrls)).map(([keyId, url]) => [keyId, text(url)])),
    usedToken: text(members.usedToken),
  };
}

function record(value: unknown): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object');
  return value as Members;
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new Error('not a string');
  return value;
}

function count(value: unknown): number {
  if (!Number.isSafeInteger(value) || Number(value) < 0) throw new Error('not a count');
  return Number(value);
}
