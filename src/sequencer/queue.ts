import type { Mutation } from '../store/port.ts';

/** Always taken (I12), with what has to come before a revocation; they need the store, not the token. */
const endings: ReadonlySet<Mutation['kind']> = new Set([
  'revocation',
  'mass-revocation',
  'mass-revocation-ended',
  'key-blocked',
  'token-revoked',
  'entry-suspended',
  'entry-deleted',
]);

/** True for what ends something: it is refused neither by a halt nor by a long queue. */
export function isEnding({ kind }: Mutation): boolean {
  return endings.has(kind);
}

/**
 * Order of service. What ends something waits for nothing; a CRL carries it to everybody; who already runs (and who
 * operates) comes before who wants to start.
 */
type Lane = 'endings' | 'crls' | 'running' | 'starting';

function laneOf(mutation: Mutation): Lane {
  if (isEnding(mutation)) return 'endings';
  if (mutation.kind === 'crl') return 'crls';
  return mutation.kind === 'certificate' && isFirst(mutation) ? 'starting' : 'running';
}

function isFirst({ certificate, askedBy, tokenUse }: Extract<Mutation, { kind: 'certificate' }>): boolean {
  return tokenUse !== undefined || (askedBy !== undefined && certificate.predecessor === undefined);
}

/** Of each batch for first enrollments where others would fill it: they wait longer, and not for ever. */
const startingShare = 1 / 4;

/** What waits: its mutation's leaf goes to the signer. */
interface Waits {
  submission: { mutation: Mutation };
}

/** What the signer has room for: anything, a CRL alone, or nothing. */
export type Room = 'all' | 'crls' | 'none';

/** What waits for a commit, in the order of service. */
export class Queue<Item extends Waits> {
  readonly #lanes: Readonly<Record<Lane, Item[]>> = { endings: [], crls: [], running: [], starting: [] };
  #came: () => void = () => undefined;

  get size(): number {
    return Object.values(this.#lanes).reduce((sum, lane) => sum + lane.length, 0);
  }

  push(item: Item): void {
    const lane = laneOf(item.submission.mutation);
    this.#lanes[lane].push(item);
    if (lane === 'endings' || lane === 'crls') this.#came();
  }

  /** Takes away one that waits; false where it does not. */
  drop(item: Item): boolean {
    const lane = this.#lanes[laneOf(item.submission.mutation)];
    const at = lane.indexOf(item);
    if (at >= 0) lane.splice(at, 1);
    return at >= 0;
  }

  /** True where `take` has something for this room. */
  has(room: Room): boolean {
    const { endings: ending, crls } = this.#lanes;
    if (room === 'all') return this.size > 0;
    return ending.length > 0 || (room === 'crls' && crls.length > 0);
  }

  /**
   * The next ones, at most `most`. CRLs have a batch of their own, which is answered when they are signed, not when as
   * many certificates are.
   */
  take(most: number, room: Room): Item[] {
    const { endings: ending, crls, running, starting } = this.#lanes;
    const batch = ending.splice(0, most);
    const fill = (lane: Item[], upTo = most) =>
      void batch.push(...lane.splice(0, Math.max(0, upTo - batch.length)));
    if (room === 'none') return batch;
    if (crls.length > 0) fill(crls);
    else if (room === 'all') {
      fill(running, most - Math.min(starting.length, Math.ceil(most * startingShare)));
      fill(starting);
      fill(running);
    }
    return batch;
  }

  /** Everything but what ends something. */
  takeOthers(): Item[] {
    const { crls, running, starting } = this.#lanes;
    return [crls, running, starting].flatMap((lane) => lane.splice(0));
  }

  takeAll(): Item[] {
    return [...this.#lanes.endings.splice(0), ...this.takeOthers()];
  }

  /** Resolves when something comes that does not wait for its turn. */
  urgent(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#came = resolve;
    return promise;
  }
}
