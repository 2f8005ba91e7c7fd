import { type RegistrationEntry, selectorText } from '../core/registration.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import { Slice } from '../jobs/slice.ts';
import type { StoreReader } from '../store/port.ts';
import type { AgentEntryJson } from '../wire/agent.ts';

const pageRows = 100;

interface Answer {
  sequence: number;
  /** UTF-8 of the JSON, in pieces. */
  pieces: Promise<readonly Buffer[]>;
  bytes: number;
}

/** What agents are told of the entries that name them as parent; encoded once, since many may enroll as one agent. */
export class AgentEntries {
  readonly #store: Pick<StoreReader, 'entries' | 'entriesChangedBy'>;
  readonly #kept = new Map<SpiffeId, Answer>();
  readonly #keptMaxBytes: number;
  #keptBytes = 0;

  /** `keptMaxBytes`: of all answers that are kept for who asks next. */
  constructor(store: Pick<StoreReader, 'entries' | 'entriesChangedBy'>, keptMaxBytes = 32 * 1024 * 1024) {
    this.#store = store;
    this.#keptMaxBytes = keptMaxBytes;
  }

  /** Rises with each change; 0 where the agent never had an entry. */
  sequenceOf(parentId: SpiffeId): number {
    return this.#store.entriesChangedBy(parentId) ?? 0;
  }

  /** The JSON of `entriesAnswerSchema`, oldest first, in pieces. Its entries are never older than `sequence`, which was asked for just now. */
  answerOf(parentId: SpiffeId, sequence: number): Promise<readonly Buffer[]> {
    const known = this.#kept.get(parentId);
    if (known?.sequence === sequence) return known.pieces;
    this.#forget(parentId);
    const answer: Answer = { sequence, pieces: this.#encoded(parentId, sequence), bytes: 0 };
    this.#kept.set(parentId, answer);
    answer.pieces.then(
      (pieces) => this.#keep(parentId, answer, pieces),
      () => this.#forget(parentId),
    );
    return answer.pieces;
  }

  #keep(parentId: SpiffeId, answer: Answer, pieces: readonly Buffer[]): void {
    if (this.#kept.get(parentId) !== answer) return;
    answer.bytes = pieces.reduce((sum, { length }) => sum + length, 0);
    this.#keptBytes += answer.bytes;
    // Never the one that was just made: who reads it slowly, many times over, shares it.
    for (const oldest of this.#kept.keys())
      if (this.#keptBytes > this.#keptMaxBytes && oldest !== parentId) this.#forget(oldest);
      else return;
  }

  #forget(parentId: SpiffeId): void {
    this.#keptBytes -= this.#kept.get(parentId)?.bytes ?? 0;
    this.#kept.delete(parentId);
  }

  async #encoded(parentId: SpiffeId, sequence: number): Promise<readonly Buffer[]> {
    const newestFirst: Buffer[] = [];
    const slice = new Slice();
    for (let after: { after?: string } = {}; ; ) {
      const page = this.#store.entries({ limit: pageRows, parentId, ...after });
      const last = page.at(-1);
      if (!last) break;
      newestFirst.push(Buffer.from(page.toReversed().map(encoded).join(',')));
      after = { after: last.entryId };
      if (slice.isOver) await slice.turn();
    }
    const comma = Buffer.from(',');
    const entries = newestFirst.toReversed().flatMap((piece, at) => (at === 0 ? [piece] : [comma, piece]));
    return [Buffer.from(`{"sequence":${sequence},"entries":[`), ...entries, Buffer.from(']}')];
  }
}

/** Bytes that the entry takes in an answer. */
export function agentEntryBytes(entry: RegistrationEntry): number {
  return Buffer.byteLength(encoded(entry));
}

function encoded(entry: RegistrationEntry): string {
  const json: AgentEntryJson = {
    entryId: entry.entryId,
    version: entry.version,
    spiffeId: entry.spiffeId,
    selectors: entry.selectors.map(selectorText),
    hint: entry.hint,
    dnsNames: [...entry.dnsNames],
    ipAddresses: [...entry.ipAddresses],
    allowedClients: [...entry.allowedClients],
    suspended: entry.suspendedAtMs !== undefined,
    createdAt: entry.createdAtMs,
  };
  return JSON.stringify(json);
}
