import { openFileTiles } from '../../../src/log/file-tiles.ts';
import path from 'node:path';
import { VouchError } from '../../../src/core/errors.ts';
import { decodeLeaf } from '../../../src/log/leaf.ts';
import { TileTree } from '../../../src/log/tiles.ts';
import { ClockGuard } from '../../../src/issuance/clock-guard.ts';
import type { PublishedCrl } from '../../../src/revocation/published-crls.ts';
import type { CrlBounds } from '../../../src/revocation/crl-timing.ts';
import { CrlPublisher, type CrlTiming } from '../../../src/revocation/publisher.ts';
import { revocationLeaf } from '../../../src/sequencer/record.ts';
import { Sequencer } from '../../../src/sequencer/sequencer.ts';
import type { Signer } from '../../../src/signer/port.ts';
import type { RevocationDraft, Store } from '../../../src/store/port.ts';
import { openSqliteStore } from '../../../src/store/sqlite/store.ts';
import type { Random } from '../../kills/random.ts';
import { publicationUrl, type SoftwareAuthority } from '../../support/software-authority.ts';
import type { Model } from './model.ts';
import { Mortal } from './mortal.ts';

interface Parts {
  authority: SoftwareAuthority;
  model: Model;
  random: Random;
  timing: CrlTiming;
  bounds: CrlBounds;
  bootId: string;
  publish: (crl: PublishedCrl) => void;
  alarm: (problem: string) => void;
  problem: (what: string) => void;
}

/** One life of a server over the database file: store, sequencer and publisher as they are, able to die at any call. */
export class SimulatedServer {
  readonly mortal: Mortal;
  readonly guard: ClockGuard;
  readonly publisher: CrlPublisher;
  readonly sequencer: Sequencer;
  /** The next write fails. */
  failsToStore = false;
  readonly #parts: Parts;
  readonly #store: Store;
  readonly #seen: Store;
  #latestMs = 0;
  readonly #tree: TileTree;

  constructor(parts: Parts) {
    const { authority, random, model } = parts;
    this.#parts = parts;
    this.mortal = new Mortal(random);
    this.#store = openSqliteStore(path.join(authority.folder, 'vouch.db'));
    this.guard = new ClockGuard(authority.clock, this.#store.clockMark(), parts.bootId);
    this.#watch();
    this.#seen = this.mortal.sees(this.#store, [
      ...(['commitBatch', 'storeSigned', 'putPieces', 'releaseExpired', 'setClockMark'] as const),
    ]);
    const tiles = openFileTiles(path.join(authority.folder, 'log'));
    this.#tree = new TileTree(tiles, this.#store.treeSize(), (from, to) => this.#store.leafHashes(from, to));
    authority.signer.uploads.clear();
    this.sequencer = new Sequencer({
      store: this.#seen,
      signer: this.mortal.sees(this.#signer(), ['upload', 'append', 'signLogged']),
      tree: this.#tree,
      logKeys: authority.logKeys,
      onHalt: (reason) => parts.problem(`signing is halted: ${reason.message}`),
    });
    this.publisher = new CrlPublisher({
      ...{
        issuer: authority.issuer,
        publicationUrl,
        shardCount: 16,
        store: this.#seen,
        sequencer: this.sequencer,
      },
      ...{ clock: authority.clock, clockGuard: this.guard, timing: parts.timing, bounds: parts.bounds },
      publish: this.mortal.says(parts.publish),
      alarm: (_, problems) => {
        if (!this.mortal.isDead) for (const problem of problems) parts.alarm(problem);
      },
    });
    model.earliest(this.earliestSeconds);
  }

  /** The time that is believed now: before the clock is set back it was as late as this. */
  noteTime(): void {
    this.#latestMs = Math.max(this.#latestMs, this.guard.steadyTimeMs());
  }

  /** No CRL that is drafted from now on is dated before this, as long as the clock is not set back. */
  get earliestSeconds(): number {
    return Math.floor(this.guard.steadyTimeMs() / 1000) - this.#parts.timing.backdateSeconds;
  }

  /** Whatever it throws is a defect, unless it died of it. */
  does(work: () => Promise<unknown> | void): void {
    const failed = (error: unknown): void => {
      if (!this.mortal.isDead)
        this.#parts.problem(error instanceof Error ? (error.stack ?? error.message) : 'failed');
    };
    try {
      Promise.resolve(work()).catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  /** Records an event as `Revocation` does; what the store refuses or cannot write is none. */
  record(revocation: RevocationDraft): void {
    const { issuerKeyId, serial, revokedAtMs } = revocation;
    const leaf = revocationLeaf(revokedAtMs, issuerKeyId, revocation);
    this.does(async () => {
      let leafIndex: number;
      try {
        leafIndex = await this.sequencer.record({
          kind: 'revocation',
          leaf,
          revocation,
          blockKeySha256: undefined,
        });
      } catch (error) {
        if (error instanceof VouchError && ['policy-conflict', 'unavailable-store'].includes(error.code))
          return;
        throw error;
      }
      const events = this.#seen.revocationEvents(issuerKeyId, serial);
      const record = events.find((event) => event.leafIndex === leafIndex);
      if (record) this.publisher.add(record);
    });
  }

  /** What the server does each few seconds. */
  tick(): void {
    this.#tree.flush();
    const mark = this.guard.nextMark();
    if (mark) this.does(() => this.#seen.setClockMark(mark));
    this.does(() => this.publisher.publishDue());
  }

  /** The operator believes the clock. */
  accept(): void {
    this.noteTime();
    this.does(() => this.#seen.setClockMark(this.guard.accept()));
    this.#parts.model.earliest(this.earliestSeconds);
  }

  get treeSize(): number {
    return this.#store.treeSize();
  }

  /** Lets the file go; nothing was told to the process, which is dead by then, or ended. */
  async abandon(): Promise<void> {
    this.mortal.die();
    await this.#store.close();
  }

  /** The model is told what became durable; writes fail where they are to. */
  #watch(): void {
    const store = this.#store;
    const { model, problem } = this.#parts;
    const [commit, storeSigned, put, release] = [
      store.commitBatch.bind(store),
      store.storeSigned.bind(store),
      store.putPieces.bind(store),
      store.releaseExpired.bind(store),
    ];
    store.commitBatch = async (mutations, signed) => {
      this.#mayFail();
      const outcomes = await commit(mutations, signed);
      for (const [at, mutation] of mutations.entries()) {
        const outcome = outcomes[at];
        if (mutation.kind === 'revocation') {
          const { serial, reason } = mutation.revocation;
          const { last } = model.of(Buffer.from(serial, 'hex').toString('latin1')) ?? { last: undefined };
          if (outcome?.status === 'committed')
            for (const what of model.recorded(mutation.revocation, outcome.leafIndex, this.earliestSeconds))
              problem(what);
          else if (model.mayFollow(last, reason))
            problem(`${reason} of ${serial} is refused after ${last?.reason ?? 'nothing'}`);
        } else if (mutation.kind === 'crl' && outcome?.status === 'committed')
          this.#drafted(mutation.crl, decodeLeaf(mutation.leaf.bytes).timeMs);
      }
      return outcomes;
    };
    store.storeSigned = async (signed) => {
      this.#mayFail();
      return storeSigned(signed);
    };
    store.putPieces = async (pieces) => {
      this.#mayFail();
      return put(pieces);
    };
    store.releaseExpired = async (...args) => {
      if (this.guard.doubt() !== undefined) problem('entries leave while the clock is in doubt');
      return release(...args);
    };
  }

  #drafted(crl: Parameters<Model['draft']>[0], nowMs: number): void {
    this.noteTime();
    if (nowMs > this.#latestMs)
      this.#parts.problem(`CRL ${crl.scope} ${crl.crlNumber} was drafted in the future`);
    this.#parts.model.draft(crl, nowMs);
  }

  #mayFail(): void {
    if (!this.failsToStore) return;
    this.failsToStore = false;
    throw new VouchError('unavailable-store', storeFailure);
  }

  /** A signer that takes up what was committed while it was away, as one that is started again does. */
  #signer(): Signer {
    const { signer } = this.#parts.authority;
    return {
      upload: async (issuerKeyId, chunks) => {
        await signer.upload(issuerKeyId, chunks);
        for (const sha256 of [...signer.uploads.keys()].slice(0, -64)) signer.uploads.delete(sha256);
      },
      append: async (batch) => {
        if (signer.state === 'usable' && signer.treeSize < batch.firstIndex)
          signer.resume(this.#store.leaves(signer.treeSize, batch.firstIndex));
        signer.asked.length = 0;
        signer.signedLeaves.length = 0;
        return signer.append(batch);
      },
      signLogged: (request) => signer.signLogged(request),
      status: () => signer.status(),
      ocspKey: () => undefined,
      signOcsp: (...args) => signer.signOcsp(...args),
      jwtKey: () => undefined,
      signJwt: (...args) => signer.signJwt(...args),
      retry: () => signer.retry(),
      close: async () => undefined,
    };
  }
}

/** What a write says that fails. */
export const storeFailure = 'the disk is full, for once';
