import { join } from 'node:path';
import type { VerifiedCrl, VerifiedDelta } from '../client/crl.ts';
import { fileNames } from '../client/delivered.ts';
import type { Clock } from '../core/clock.ts';
import { replaceFile } from './deliver/durable-file.ts';
import { crlPemInSlices } from './deliver/files.ts';
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

/** What stands in the files: numbers of full CRLs, which are large, and the deltas. */
interface Written {
  fulls: ReadonlyMap<string, bigint>;
  deltas: ReadonlyMap<string, VerifiedDelta>;
}

interface Parts {
  dir: string;
  clock: Clock;
  exclusively: <T>(work: () => Promise<T>) => Promise<T>;
}

/**
 * Writes crl-delta.pem and crl.pem of a generation, and before either agent.json, which says what was seen. The small one
 * first; but a delta for a later base than the full CRL in its file comes after the full CRL, or who reads both then takes
 * neither what it says nor what the one before it said.
 */
export class CrlFiles {
  readonly #parts: Parts;
  /** What is known and does not stand in its file yet. */
  readonly #behind = new Set<'full' | 'delta'>();
  #written: Written;
  #notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor(held: Held, parts: Parts) {
    this.#parts = parts;
    this.#written = writtenIn(held);
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
  reset(held: Held): void {
    this.#behind.clear();
    this.#written = writtenIn(held);
  }

  /** Writes what is behind, unless `isCurrent` says that `held` is no longer what peers read. True where crl.pem is another. */
  write(held: Held, known: KnownCrls, isCurrent: () => boolean): Promise<boolean> {
    return this.#parts.exclusively(async () => {
      if (!isCurrent()) return false;
      await this.#writeSeen(held, known);
      const fullFirst = this.#isFullFirst(known);
      if (fullFirst) await this.#writeFulls(held, known);
      if (fullFirst || this.#behind.has('delta')) await this.#writeDeltas(held, known);
      if (fullFirst || !this.#behind.has('full') || this.waitMs > 0) return fullFirst;
      await this.#writeFulls(held, known);
      return true;
    });
  }

  #isFullFirst({ fulls, deltas }: KnownCrls): boolean {
    return [...deltas].some(
      ([keyId, delta]) =>
        isMadeFor(delta, fulls.get(keyId)?.crlNumber) && !isMadeFor(delta, this.#written.fulls.get(keyId)),
    );
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
    const written = this.#written;
    const inFile = new Map<string, VerifiedDelta>();
    for (const [keyId, delta] of deltas) {
      const fitting = isMadeFor(delta, written.fulls.get(keyId)) ? delta : written.deltas.get(keyId);
      if (fitting) inFile.set(keyId, fitting);
    }
    const crls = held.chain.flatMap(({ keyId }): { der: Buffer }[] => {
      const delta = inFile.get(keyId);
      return delta === undefined ? fullWithoutDelta(fulls.get(keyId)) : [delta];
    });
    this.#behind.delete('delta');
    await this.#replace('delta', join(held.delivered.folder, fileNames.delta), crls);
    this.#written = { ...written, deltas: inFile };
  }

  async #writeFulls(held: Held, { fulls }: KnownCrls): Promise<void> {
    const { clock } = this.#parts;
    const startedMs = clock.monotonicMs();
    const crls = held.chain.flatMap(({ keyId }) => fulls.get(keyId) ?? []);
    this.#behind.delete('full');
    const inFile = numbersOf(fulls);
    await this.#replace('full', join(held.delivered.folder, fileNames.crl), crls);
    this.#written = { ...this.#written, fulls: inFile };
    const tookMs = clock.monotonicMs() - startedMs;
    if (tookMs > quickMs) this.#notBeforeMs = clock.monotonicMs() + tookMs / writingShare - tookMs;
  }

  /** What becomes known while it is written is behind again; what fails stays so. */
  async #replace(file: 'full' | 'delta', path: string, crls: readonly { der: Buffer }[]): Promise<void> {
    try {
      await replaceFile(path, crlPemInSlices(crls.map(({ der }) => der)), 0o644);
    } catch (error) {
      this.#behind.add(file);
      throw error;
    }
  }
}

function isMadeFor(delta: VerifiedDelta, fullNumber = -1n): boolean {
  return delta.baseNumber <= fullNumber;
}

function numbersOf(fulls: KnownCrls['fulls']): Map<string, bigint> {
  return new Map([...fulls].map(([keyId, { crlNumber }]) => [keyId, crlNumber]));
}

function writtenIn({ crls, deltas }: Held): Written {
  return {
    fulls: numbersOf(crls),
    deltas: new Map(deltas.map((delta) => [delta.issuerKeyId, delta])),
  };
}

/** The root's, which `vouch/client` finds beside the deltas, so that it need not read crl.pem for it. */
function fullWithoutDelta(full: VerifiedCrl | undefined): VerifiedCrl[] {
  return full === undefined || full.deltaUrl !== undefined ? [] : [full];
}
