import { join } from 'node:path';
import type { VerifiedCrl, VerifiedDelta } from '../client/crl.ts';
import { fileNames } from '../client/delivered.ts';
import type { Clock } from '../core/clock.ts';
import { replaceFile } from './deliver/durable-file.ts';
import { crlPem } from './deliver/files.ts';
import type { Held } from './held.ts';
import { withNumbers } from './obtain.ts';
import { deltaNumberKey, formatState, readState, stateFile } from './state.ts';

/** Of the time, what writing crl.pem may take: a million entries are 70 MB. */
const writingShare = 0.2;
/** A write that takes less may follow the last one at once. */
const quickMs = 100;

/** The CRLs that are known, by the key id of who signed. */
export interface KnownCrls {
  fulls: ReadonlyMap<string, VerifiedCrl>;
  deltas: ReadonlyMap<string, VerifiedDelta>;
}

interface Parts {
  dir: string;
  clock: Clock;
  exclusively: <T>(work: () => Promise<T>) => Promise<T>;
}

/** Writes crl-delta.pem and crl.pem of a generation, the small one first; and before either agent.json, which says what was seen. */
export class CrlFiles {
  readonly #parts: Parts;
  /** What is known and does not stand in its file yet. */
  readonly #behind = new Set<'full' | 'delta'>();
  #notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get isBehind(): boolean {
    return this.#behind.size > 0;
  }

  /** How long a large crl.pem has to wait until it is written again; 0 where nothing waits. */
  get waitMs(): number {
    return this.#behind.has('full') ? Math.max(0, this.#notBeforeMs - this.#parts.clock.monotonicMs()) : 0;
  }

  changed(...files: readonly ('full' | 'delta')[]): void {
    for (const file of files) this.#behind.add(file);
  }

  /** Another generation is current: nothing is behind in it until `changed` says so. */
  reset(): void {
    this.#behind.clear();
  }

  /** Writes what is behind, unless `isCurrent` says that `held` is no longer what peers read. True where crl.pem is another. */
  write(held: Held, known: KnownCrls, isCurrent: () => boolean): Promise<boolean> {
    return this.#parts.exclusively(async () => {
      if (!isCurrent()) return false;
      await this.#writeSeen(held, known);
      if (this.#behind.has('delta')) await this.#writeDeltas(held, known);
      if (!this.#behind.has('full') || this.waitMs > 0) return false;
      await this.#writeFulls(held, known);
      return true;
    });
  }

  async #writeSeen(held: Held, { fulls, deltas }: KnownCrls): Promise<void> {
    const { dir } = this.#parts;
    const state = readState(dir) ?? held.state;
    const numbers = withNumbers(state.seen.crlNumbers, [...fulls.values()]);
    for (const { issuerKeyId, crlNumber } of deltas.values()) {
      const key = deltaNumberKey(issuerKeyId);
      if (crlNumber > (numbers.get(key) ?? 0n)) numbers.set(key, crlNumber);
    }
    const seen = { ...state.seen, crlNumbers: numbers };
    await replaceFile(join(dir, stateFile), formatState({ ...state, seen }), 0o600);
  }

  async #writeDeltas(held: Held, { fulls, deltas }: KnownCrls): Promise<void> {
    const crls = held.chain.flatMap(({ keyId }): { der: Buffer }[] => {
      const delta = deltas.get(keyId);
      return delta === undefined ? fullWithoutDelta(fulls.get(keyId)) : [delta];
    });
    this.#behind.delete('delta');
    await this.#replace('delta', join(held.delivered.folder, fileNames.delta), crls);
  }

  async #writeFulls(held: Held, { fulls }: KnownCrls): Promise<void> {
    const { clock } = this.#parts;
    const startedMs = clock.monotonicMs();
    const crls = held.chain.flatMap(({ keyId }) => fulls.get(keyId) ?? []);
    this.#behind.delete('full');
    await this.#replace('full', join(held.delivered.folder, fileNames.crl), crls);
    const tookMs = clock.monotonicMs() - startedMs;
    if (tookMs > quickMs) this.#notBeforeMs = clock.monotonicMs() + tookMs / writingShare - tookMs;
  }

  /** What becomes known while it is written is behind again; what fails stays so. */
  async #replace(file: 'full' | 'delta', path: string, crls: readonly { der: Buffer }[]): Promise<void> {
    try {
      await replaceFile(path, crlPem(crls.map(({ der }) => der)), 0o644);
    } catch (error) {
      this.#behind.add(file);
      throw error;
    }
  }
}

/** The root's, which `vouch/client` finds beside the deltas, so that it need not read crl.pem for it. */
function fullWithoutDelta(full: VerifiedCrl | undefined): VerifiedCrl[] {
  return full === undefined || full.deltaUrl !== undefined ? [] : [full];
}
