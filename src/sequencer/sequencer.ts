import { setImmediate as aTurn } from 'node:timers/promises';
import { asVouchError, isIntegrityFailure, VouchError } from '../core/errors.ts';
import { startInSlices } from '../jobs/slice.ts';
import type { AppendItem, Signer } from '../signer/port.ts';
import type { Mutation, MutationOutcome, Store } from '../store/port.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { inclusionPath, rangeHasher } from '../log/merkle.ts';
import { type LogKey, openCheckpoint } from '../log/note.ts';
import type { TileTree } from '../log/tiles.ts';
import { Outage } from './outage.ts';
import { Pace } from './pace.ts';
import { isEnding, Queue, type Room } from './queue.ts';
import {
  type AlreadyThere,
  type InclusionProof,
  issuerKeyIdOf,
  type Sequenced,
  type Submission,
} from './submission.ts';
import { SignatureKeeper } from './signature-keeper.ts';
import { type Committed, type Outcome, untilLate, type Waiting, within } from './waiting.ts';

/** Limits of the group commit. */
export interface SequencerLimits {
  /** Mutations of one transaction, and of the one message to the signer that follows it. */
  batchMax: number;
  /** Batches at the signer while the next one is committed. */
  batchesAtSigner: number;
  /** Mutations that may wait; past it `unavailable-overloaded`. */
  queueMax: number;
  /** Longest time that a signature stays unstored. */
  storeSignedAfterMs: number;
  /** Longest time that a request waits for its answer, in the queue and at the signer together. */
  waitMs: number;
}

const defaultSequencerLimits: SequencerLimits = {
  // With the largest leaves 4 MiB of what a message to the signer may hold (signer/frames.ts).
  batchMax: 64,
  batchesAtSigner: 2,
  queueMax: 4096,
  storeSignedAfterMs: 100,
  waitMs: 3000,
};

/** A CRL need not wait until the signer is done with a batch of certificates. */
const crlBatchesMore = 1;

/**
 * The one road into the log: waiting mutations are committed together with their leaves, durable before the signer
 * sees them (I1); its signatures are verified (I3), its checkpoint is compared with the tree that we computed ourselves.
 * A crash between commit and signature leaves a leaf without artefact; `signAgain` completes it for its holder.
 */
export class Sequencer {
  readonly #store: Store;
  readonly #signer: Signer;
  readonly #tree: TileTree;
  readonly #logKeys: readonly LogKey[];
  readonly #limits: SequencerLimits;
  readonly #keeper: SignatureKeeper;
  readonly #queue = new Queue<Waiting>();
  readonly #pace = new Pace();
  readonly #onCommitted: (mutation: Mutation, leafIndex: number) => void;
  readonly #onHalt: (reason: VouchError) => void;
  readonly #onWrongSignature: (leafIndex: number) => void;
  readonly #outage = new Outage();
  #running: Promise<void> | undefined;
  #atSigner = new Set<Promise<void>>();
  #checkpoint: Checkpoint | undefined;
  #halted: VouchError | undefined;
  #closing = false;

  constructor(parts: {
    store: Store;
    signer: Signer;
    tree: TileTree;
    /** All of one log: a checkpoint by any of them counts. */
    logKeys: readonly LogKey[];
    limits?: Partial<SequencerLimits>;
    /** Called with each mutation as soon as it is durable. */
    onCommitted?: (mutation: Mutation, leafIndex: number) => void;
    /** Called once, with why nothing is signed any more. */
    onHalt?: (reason: VouchError) => void;
    /** Called where the token made a wrong signature, which is asked for once more. */
    onWrongSignature?: (leafIndex: number) => void;
  }) {
    this.#store = parts.store;
    this.#signer = parts.signer;
    this.#tree = parts.tree;
    this.#logKeys = parts.logKeys;
    this.#limits = { ...defaultSequencerLimits, ...parts.limits };
    this.#onCommitted = parts.onCommitted ?? (() => undefined);
    this.#onHalt = parts.onHalt ?? (() => undefined);
    this.#onWrongSignature = parts.onWrongSignature ?? (() => undefined);
    this.#keeper = new SignatureKeeper(parts.store, this.#limits.storeSignedAfterMs);
  }

  /** The newest checkpoint that the signer signed and we verified. */
  checkpoint(): Checkpoint | undefined {
    return this.#checkpoint;
  }

  /** Why nothing is signed any more, after an integrity failure. */
  haltedBy(): VouchError | undefined {
    return this.#halted;
  }

  /** Stops signing: the first reason stays, and what waits is refused. */
  halt(reason: VouchError): void {
    if (this.#halted) return;
    this.#halted = reason;
    for (const waiting of this.#queue.takeOthers()) waiting.reject(reason);
    this.#onHalt(reason);
  }

  /** True while the signer of this issuer answers, or any where none is named. What can wait for it is better not committed meanwhile: each attempt would be a leaf. */
  signerAnswers(issuerKeyId?: string): boolean {
    return this.#signer.status(issuerKeyId).state === 'usable';
  }

  /** Takes a checkpoint that a resumed signer made over the committed tree. Throws `integrity-log`. */
  adoptCheckpoint(note: string): Checkpoint {
    const checkpoint = this.#verifiedCheckpoint(note);
    this.#noteSigned([]);
    this.#outage.over();
    return checkpoint;
  }

  /** Commits a mutation that needs no signature; resolves with its leaf's index when it is durable. */
  async record(mutation: Mutation): Promise<number> {
    const result = await this.#enqueue({ purpose: 'record', mutation });
    if (result.status === 'exists') throw new VouchError('internal', 'a record cannot exist already');
    return result.leafIndex;
  }

  /**
   * Has the signer read the DER TBSCertList of a CRL, in chunks cut anywhere, before `sign` commits its leaf. What it
   * rejects with is what `Signer.upload` does.
   */
  async upload(issuerKeyId: string, chunks: Iterable<Buffer>): Promise<void> {
    this.#refuseHalted();
    return this.#signer.upload(issuerKeyId, chunks);
  }

  /** Commits a mutation, has its artefact signed, and resolves with signature and inclusion proof. */
  async sign(submission: Submission): Promise<Sequenced | AlreadyThere> {
    this.#outage.refuse(this.#signer, issuerKeyIdOf(submission));
    const result = await this.#enqueue(submission);
    if (result.status === 'recorded')
      throw new VouchError('internal', 'a submission to sign was only recorded');
    return result;
  }

  /**
   * Signs a committed leaf whose signature a crash lost; the same bytes, a new signature. Who has waited since `sinceMs`
   * (monotonic) waits no longer in all than for any other.
   */
  async signAgain(
    leafIndex: number,
    submission: Submission,
    sinceMs = performance.now(),
  ): Promise<Sequenced> {
    this.#refuseHalted();
    const leaf = this.#store.leaves(leafIndex, leafIndex + 1)[0];
    if (!leaf) throw new VouchError('integrity-log', `leaf ${leafIndex} is missing from the log`);
    const checkpoint = this.#checkpoint;
    if (!checkpoint || checkpoint.treeSize <= leafIndex)
      throw new VouchError('unavailable-signer', 'the log has no checkpoint over this leaf yet', {
        retryAfterSeconds: 1,
      });
    const treeSize = this.#tree.size;
    const path = inclusionPath(leafIndex, treeSize, rangeHasher(this.#tree));
    if (submission.purpose === 'record') throw new VouchError('internal', 'a record has no signature');
    const { purpose } = submission;
    const request = { purpose, leaf, index: leafIndex, path, treeSize };
    const leftMs = sinceMs + this.#limits.waitMs - performance.now();
    const signature = await within(leftMs, this.#signer.signLogged(request));
    try {
      await this.#verifySignature(submission, signature);
    } catch (error) {
      this.halt(asVouchError(error));
      throw error;
    }
    this.#noteSigned([{ leafIndex, submission, signature }]);
    return { status: 'signed', leafIndex, signature, proof: this.inclusion(leafIndex) };
  }

  /** Inclusion proof of a leaf in the newest checkpoint's tree. */
  inclusion(leafIndex: number): InclusionProof {
    const checkpoint = this.#checkpoint;
    if (!checkpoint || checkpoint.treeSize <= leafIndex)
      throw new VouchError('unavailable-signer', 'the log has no checkpoint over this leaf yet', {
        retryAfterSeconds: 1,
      });
    return {
      leafIndex,
      path: inclusionPath(leafIndex, checkpoint.treeSize, rangeHasher(this.#tree)),
      checkpoint,
    };
  }

  /** Resolves when every signature so far is durable: what a CRL said is not taken back by a crash. */
  storeSigned(): Promise<void> {
    return this.#keeper.store();
  }

  /** Ends: what waits is refused, what was committed is signed and stored. */
  async close(): Promise<void> {
    this.#closing = true;
    const stopping = new VouchError('unavailable-stopping', 'the server is stopping; try again', {
      retryAfterSeconds: 1,
    });
    for (const waiting of this.#queue.takeAll()) waiting.reject(stopping);
    await this.#running;
    await Promise.all(this.#atSigner);
    await this.#keeper.close();
  }

  #enqueue(submission: Submission): Promise<Outcome> {
    const mayBeRefused = !isEnding(submission.mutation);
    if (mayBeRefused) this.#refuseHalted();
    if (this.#closing)
      throw new VouchError('unavailable-stopping', 'the server is stopping; try again', {
        retryAfterSeconds: 1,
      });
    if (mayBeRefused && this.#queue.size >= this.#limits.queueMax)
      throw new VouchError('unavailable-overloaded', 'too many requests wait for the log; try again', {
        retryAfterSeconds: 2,
      });
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { submission, resolve, reject };
      // What was committed by then is signed and stored all the same.
      if (mayBeRefused) untilLate(waiting, this.#limits.waitMs, () => this.#queue.drop(waiting));
      this.#queue.push(waiting);
      this.#running ??= this.#run();
    });
  }

  /** Owns the queue: one batch after another, the commit of the next while the signer has the previous. */
  async #run(): Promise<void> {
    // A turn of the event loop lets requests that arrived together share a commit.
    await aTurn();
    while (this.#queue.size > 0) {
      await this.#untilItsTurn();
      const batch = this.#queue.take(this.#pace.mutations(this.#limits.batchMax), this.#room());
      const committed = batch.length > 0 ? await this.#commit(batch) : [];
      if (committed.length > 0) this.#handToSigner(committed);
    }
    // In the same turn as the look at the queue, so that what comes next starts a new run.
    this.#running = undefined;
  }

  /** Waits for room at the signer; what ends something does not. */
  async #untilItsTurn(): Promise<void> {
    if (this.#room() === 'all') return;
    if (!this.#queue.has(this.#room())) await Promise.race([...this.#atSigner, this.#queue.urgent()]);
    if (this.#room() !== 'all') await aTurn();
  }

  #room(): Room {
    const { batchesAtSigner } = this.#limits;
    if (this.#atSigner.size < batchesAtSigner) return 'all';
    return this.#atSigner.size < batchesAtSigner + crlBatchesMore ? 'crls' : 'none';
  }

  async #commit(batch: readonly Waiting[]): Promise<Committed[]> {
    let outcomes: MutationOutcome[];
    try {
      outcomes = await this.#keeper.carriedBy((signed) =>
        this.#store.commitBatch(
          batch.map((waiting) => waiting.submission.mutation),
          signed,
        ),
      );
    } catch (error) {
      for (const waiting of batch) waiting.reject(asVouchError(error));
      return [];
    }
    const committed: Committed[] = [];
    for (const [position, waiting] of batch.entries()) {
      const outcome = outcomes[position];
      if (outcome?.status === 'committed') {
        committed.push({ ...waiting, leafIndex: outcome.leafIndex });
        this.#onCommitted(waiting.submission.mutation, outcome.leafIndex);
      } else if (outcome?.status === 'exists') waiting.resolve(outcome);
      else
        waiting.reject(
          new VouchError(outcome?.code ?? 'internal', outcome?.detail ?? 'the store gave no outcome', {
            cause: outcome?.cause,
          }),
        );
    }
    return committed;
  }

  /** The tree grows in the same turn as the signer is sent the leaves, so that both are always of one size. */
  #handToSigner(committed: readonly Committed[]): void {
    this.#tree.append(committed.map((one) => one.submission.mutation.leaf.hash));
    for (const one of committed)
      if (one.submission.purpose === 'record') one.resolve({ status: 'recorded', leafIndex: one.leafIndex });
    const work = this.#signBatch(committed).finally(() => this.#atSigner.delete(work));
    this.#atSigner.add(work);
  }

  async #signBatch(committed: readonly Committed[]): Promise<void> {
    const startedMs = performance.now();
    try {
      const items = committed.map(({ submission }): AppendItem => {
        return { purpose: submission.purpose, leaf: submission.mutation.leaf.bytes };
      });
      const result = await this.#signer.append({
        firstIndex: committed[0]?.leafIndex ?? 0,
        items,
        auditPath: (index, treeSize) => inclusionPath(index, treeSize, rangeHasher(this.#tree)),
      });
      const checkpoint = this.#verifiedCheckpoint(result.checkpoint.note);
      this.#noteSigned([]);
      const hash = rangeHasher(this.#tree);
      await startInSlices(committed, (one, position) =>
        this.#settle(one, result.signatures[position], checkpoint, hash),
      );
    } catch (error) {
      const failure = asVouchError(error);
      if (isIntegrityFailure(failure)) this.halt(failure);
      for (const one of committed) one.reject(failure);
    } finally {
      if (committed[0]?.submission.purpose !== 'crl')
        this.#pace.took(committed.length, performance.now() - startedMs);
    }
  }

  async #settle(
    one: Committed,
    signature: Buffer | Error | undefined,
    checkpoint: Checkpoint,
    hash: (start: number, end: number) => Buffer,
  ): Promise<void> {
    if (one.submission.purpose === 'record') return;
    if (!Buffer.isBuffer(signature)) {
      one.reject(signature ?? new VouchError('integrity-signature', 'the signer gave no signature'));
      return;
    }
    try {
      await this.#verifySignature(one.submission, signature);
    } catch {
      // A token that once computed a wrong signature is asked once more; a second one halts signing.
      this.#onWrongSignature(one.leafIndex);
      await this.signAgain(one.leafIndex, one.submission).then(one.resolve, one.reject);
      return;
    }
    this.#noteSigned([{ leafIndex: one.leafIndex, submission: one.submission, signature }]);
    const path = inclusionPath(one.leafIndex, checkpoint.treeSize, hash);
    one.resolve({
      status: 'signed',
      leafIndex: one.leafIndex,
      signature,
      proof: { leafIndex: one.leafIndex, path, checkpoint },
    });
  }

  /** I3: throws `integrity-signature` unless the signature verifies with the issuer's public key. */
  async #verifySignature(submission: Submission, signature: Buffer): Promise<void> {
    if (__VOUCH_WITHOUT__ !== 'I3' && !(await submission.verify?.(signature)))
      throw new VouchError(
        'integrity-signature',
        'the token returned a signature that does not verify; nothing was released',
      );
  }

  #verifiedCheckpoint(note: string): Checkpoint {
    const checkpoint = openCheckpoint(note, this.#logKeys, this.#logKeys[0]?.name);
    if (
      checkpoint.treeSize > this.#tree.size ||
      !checkpoint.rootHash.equals(this.#tree.root(checkpoint.treeSize))
    )
      throw new VouchError('integrity-log', 'the signer signed a tree that is not the one in the store');
    if (checkpoint.treeSize >= (this.#checkpoint?.treeSize ?? 0)) this.#checkpoint = checkpoint;
    return checkpoint;
  }

  #refuseHalted(): void {
    if (this.#halted)
      throw new VouchError(
        'unavailable-signer',
        'signing is stopped after an integrity failure; the operator must act',
        { cause: this.#halted },
      );
  }

  /** With the newest checkpoint: a batch of CRLs overtakes others at the signer, so that theirs come after a larger one. */
  #noteSigned(signed: readonly { leafIndex: number; submission: Submission; signature: Buffer }[]): void {
    const signatures = signed.flatMap(({ leafIndex, submission, signature }) => {
      const kind = submission.mutation.kind;
      return kind === 'certificate' || kind === 'crl' ? [{ kind, leafIndex, signature } as const] : [];
    });
    this.#keeper.keep(signatures, this.#checkpoint?.note);
  }
}
