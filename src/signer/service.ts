import type { Clock } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { decodeCrlBody, decodeLeaf } from '../log/leaf.ts';
import { assembleNote, checkpointBody, type LogKey, openCheckpoint } from '../log/note.ts';
import { verifyConsistency } from '../log/merkle.ts';
import { authorityOverNewLog } from './new-log.ts';
import { crlNumberCeiling } from './crl-policy.ts';
import { type Decision, decide } from './policy.ts';
import { jwtKeyIn, signJwt } from './jwt-policy.ts';
import { signOcsp } from './ocsp-policy.ts';
import { type PolicyIssuer, policyIssuer } from './policy-issuer.ts';
import type { AppendResult } from './port.ts';
import { encodeHealth } from './health.ts';
import type { SignOrder } from './hsm.ts';
import {
  encodeAppendResult,
  encodeCheckpoint,
  encodeGreeting,
  protocolVersion,
  type Request,
  type RequestedItem,
  type RequestedSignature,
} from './protocol.ts';
import type { SignerRuntime } from './runtime.ts';
import { SignerTree } from './tree.ts';
import { Uploads } from './uploads.ts';

/** A tree on its way: leaves are fed, then the marks are written and the checkpoint signed, then it signs. */
interface TakenUp {
  readonly tree: SignerTree;
  phase: 'fed' | 'finishing' | 'usable';
}

/** Of a tree that is signed. */
interface Head {
  treeSize: number;
  rootHash: Buffer;
}

const nothing = Buffer.alloc(0);

/** What the signer does for one client: takes up the tree, then decides and signs (I11). */
export class SignerService {
  readonly #runtime: SignerRuntime;
  readonly #clock: Clock;
  readonly #issuers: ReadonlyMap<string, PolicyIssuer>;
  readonly #uploads: Uploads;
  readonly #started: { wallMs: number; monotonicMs: number };
  #greeted = false;
  /** The root's word led to the present log in this life: a mark of it need not be there yet. */
  #openedLog = false;
  /** One at a time: what is taken up anew, or stopped, leaves nothing that a slow signature could make usable again. */
  #takenUp: TakenUp | undefined;

  constructor(runtime: SignerRuntime, clock: Clock) {
    this.#runtime = runtime;
    this.#clock = clock;
    this.#started = { wallMs: clock.now(), monotonicMs: clock.monotonicMs() };
    const { issuers } = runtime.authority;
    this.#issuers = new Map(issuers.map((issuer) => [issuer.keyId, policyIssuer(issuer)]));
    this.#uploads = new Uploads(issuers.map(({ algorithm }) => algorithm));
  }

  /**
   * Answers a request. What it does to the tree is done before this returns, so that requests take effect in the order
   * in which they came; only signatures are waited for. Rejects with what the client is told.
   */
  handle(request: Request): Promise<Buffer> {
    try {
      return this.#answer(request);
    } catch (error) {
      return Promise.reject(asVouchError(error));
    }
  }

  #answer(request: Request): Promise<Buffer> {
    if (request.op === 'hello') return Promise.resolve(this.#hello(request.version));
    if (!this.#greeted) throw new VouchError('request-malformed', 'the signer waits for hello first');
    switch (request.op) {
      case 'resume':
        this.#resume(request);
        return Promise.resolve(nothing);
      case 'openLog':
        return this.#openLog(request);
      case 'leaves':
        this.#feed(request.leaves);
        return Promise.resolve(nothing);
      case 'resumed':
        return this.#finishResume();
      case 'append':
        return this.#append(request.firstIndex, request.items);
      case 'signLogged':
        return this.#signLogged(request.request);
      case 'upload':
        this.#uploads.take(request);
        return Promise.resolve(nothing);
      case 'ocsp':
        this.#usableTree();
        return signOcsp(request, { ...this.#runtime, issuers: this.#issuers, nowMs: this.#latestMs() });
      case 'jwt':
        this.#usableTree();
        return signJwt(request, { ...this.#runtime, nowMs: this.#clock.now() });
      case 'ping':
        return Promise.resolve(encodeHealth(this.#runtime.hsm.health()));
      case 'stop':
        return this.#stop();
    }
  }

  #hello(version: number): Buffer {
    if (version !== protocolVersion)
      throw new VouchError(
        'config-state',
        `server and signer are of different versions (protocol ${version} and ${protocolVersion}); install the same`,
      );
    this.#greeted = true;
    const { trustDomain, logOrigin } = this.#runtime.authority;
    const issuerKeyIds = [...this.#issuers.keys()];
    const { ocspKey, jwtKey } = this.#runtime.authority;
    return encodeGreeting({
      version: protocolVersion,
      pid: process.pid,
      trustDomain,
      logOrigin,
      issuerKeyIds,
      floorSize: this.#runtime.floor.highest()?.treeSize ?? 0,
      ocspKey,
      jwtKey: jwtKey && jwtKeyIn(jwtKey),
    });
  }

  #resume(request: Request & { op: 'resume' }): void {
    this.#takenUp = undefined;
    this.#takenUp = { tree: this.#treeFor(request), phase: 'fed' };
  }

  #treeFor(request: Request & { op: 'resume' }): SignerTree {
    const { floor } = this.#runtime;
    // A log that was begun before begins again only as itself: a signer that ended during genesis is replaced.
    const isNew = (request.genesis || this.#openedLog) && !floor.exists();
    const marks = __VOUCH_WITHOUT__ === 'I11' || isNew ? [] : floor.marks();
    if (request.genesis) return SignerTree.genesis(marks);
    return SignerTree.resume(this.#opened(request), request.peaks, marks);
  }

  /**
   * Opens the checkpoint to begin from. Past the own floor the word of another token's log key does not count alone: it
   * must be proven to lead on from there, or whoever holds that key could lead this signer to another tree (I11).
   */
  #opened({ checkpoint: note, consistency = [] }: Request & { op: 'resume' }): Checkpoint {
    const own = this.#logKey();
    const { authority, floor } = this.#runtime;
    const others = (authority.otherLogKeys ?? []).map((key) => ({ ...key, name: own.name }));
    const checkpoint = openCheckpoint(note, [own, ...others], own.name);
    const mark = floor.highest();
    if (isSignedBy(own, checkpoint) || !mark || mark.treeSize === 0 || mark.treeSize >= checkpoint.treeSize)
      return checkpoint;
    const leadsOn = verifyConsistency({
      oldSize: mark.treeSize,
      newSize: checkpoint.treeSize,
      oldRoot: mark.rootHash,
      newRoot: checkpoint.rootHash,
      path: consistency,
    });
    if (__VOUCH_WITHOUT__ !== 'I11' && !leadsOn)
      throw new VouchError(
        'integrity-rewind',
        `the other log key signed a tree that does not contain the ${mark.treeSize} leaves this signer has signed: ` +
          'there are two logs; find out which one is true',
      );
    return checkpoint;
  }

  /** Goes over to the log that the root's statement opens; nothing else is answered meanwhile. */
  async #openLog(request: Request & { op: 'openLog' }): Promise<Buffer> {
    const { authority } = this.#runtime;
    const over = authorityOverNewLog(authority, request, this.#clock.now());
    if (over === authority) {
      // The same word as before the crash that took this log's first marks.
      this.#openedLog ||= this.#runtime.floor.isToBegin();
      return nothing;
    }
    this.#openedLog = true;
    this.#takenUp = undefined;
    this.#greeted = false;
    await this.#runtime.openLog(over);
    this.#greeted = true;
    return nothing;
  }

  #feed(leaves: readonly Buffer[]): void {
    const { tree } = this.#beingFed();
    for (const leaf of leaves) {
      tree.append(leaf);
      this.#noteCrl(leaf);
    }
  }

  /** A number that stands in the log is in use, whether its CRL was signed before the crash or not. */
  #noteCrl(bytes: Buffer): void {
    try {
      const leaf = decodeLeaf(bytes);
      if (leaf.type !== 'crl' || !this.#issuers.has(leaf.issuerKeyId)) return;
      const { floor, authority } = this.#runtime;
      const { crlNumbers } = floor;
      const crl = decodeCrlBody(leaf.body);
      const bounds = { limits: authority.limits, crlNumbers, nowMs: this.#latestMs() };
      // One past the ceiling was not signed, and is not in use.
      if (crl.crlNumber > crlNumberCeiling(leaf.issuerKeyId, bounds)) return;
      crlNumbers.raise(leaf.issuerKeyId, crl);
    } catch {
      // A leaf that cannot be read was refused when it came; it is in the tree all the same.
    }
  }

  async #finishResume(): Promise<Buffer> {
    const { floor } = this.#runtime;
    const takenUp = this.#beingFed();
    takenUp.phase = 'finishing';
    const { tree } = takenUp;
    tree.finishResume();
    const head = { treeSize: tree.size, rootHash: tree.root() };
    floor.advance(head.treeSize, head.rootHash);
    floor.crlNumbers.begin();
    await floor.start();
    const checkpoint = await this.#signCheckpoint(head, { urgent: true });
    if (this.#takenUp !== takenUp)
      throw new VouchError('request-malformed', 'the signer was told to take up another tree meanwhile');
    takenUp.phase = 'usable';
    return encodeCheckpoint(checkpoint);
  }

  /**
   * Decides on each item and signs. The leaves are in the server's durable log already, so the tree grows by all of
   * them whatever is decided: a refused item loses its signature, and the log keeps what was tried.
   */
  async #append(firstIndex: number, items: readonly RequestedItem[]): Promise<Buffer> {
    const { floor } = this.#runtime;
    const tree = this.#usableTree();
    if (__VOUCH_WITHOUT__ !== 'I11' && firstIndex !== tree.size)
      throw new VouchError(
        'integrity-log',
        `the server appends at ${firstIndex}, but the tree that the signer hashed has ${tree.size} leaves`,
      );
    const decisions = items.map((item) => {
      const decision = this.#decide(item, 'first');
      tree.append(item.leaf);
      return decision;
    });
    const head = { treeSize: tree.size, rootHash: tree.root() };
    floor.advance(head.treeSize, head.rootHash);
    const [checkpoint, ...signatures] = await Promise.all([
      this.#signCheckpoint(head, { urgent: items.some(({ purpose }) => purpose === 'crl') }),
      ...decisions.map((decision) => this.#carryOut(decision)),
    ]);
    const result: AppendResult = { signatures, checkpoint };
    return encodeAppendResult(result);
  }

  async #signLogged(request: RequestedSignature): Promise<Buffer> {
    const tree = this.#usableTree();
    if (__VOUCH_WITHOUT__ !== 'I1' && !tree.holds(request)) {
      // A tree that grew meanwhile is no fault: the caller takes a new path and asks again.
      if (request.path.length > 0 && !tree.knowsRoot(request.treeSize))
        throw new VouchError('unavailable-signer', 'the log has grown meanwhile; ask again', {
          retryAfterSeconds: 1,
        });
      throw new VouchError(
        'integrity-log',
        `leaf ${request.index} is not in the log at that place; not signed`,
      );
    }
    const signature = await this.#carryOut(this.#decide(request, 'again'));
    if (Buffer.isBuffer(signature)) return signature;
    throw signature ?? new VouchError('request-malformed', 'a record has no signature');
  }

  #decide(item: RequestedItem, occasion: 'first' | 'again'): Decision {
    const { authority, floor } = this.#runtime;
    const { trustDomain, limits } = authority;
    const { crlNumbers } = floor;
    const ocspSpki = authority.ocspKey?.publicKeySpki;
    const jwtSpki = authority.jwtKey?.publicKeySpki;
    const known = { trustDomain, limits, issuers: this.#issuers, ocspSpki, jwtSpki };
    const context = { ...known, crlNumbers, uploads: this.#uploads };
    const nowMs = item.purpose === 'crl' ? this.#latestMs() : this.#clock.now();
    const decision = decide(item, { ...context, nowMs, occasion });
    if (decision.outcome === 'sign' && decision.crl) {
      floor.crlNumbers.raise(decision.issuer.keyId, decision.crl);
      floor.changed();
    }
    return decision;
  }

  async #carryOut(decision: Decision): Promise<Buffer | Error | undefined> {
    if (decision.outcome === 'record') return undefined;
    if (decision.outcome === 'refuse') return decision.error;
    const { hsm, floor } = this.#runtime;
    // A revocation waits for its CRL: it comes before certificates, and so does the checkpoint that goes with it.
    const order = { urgent: decision.crl !== undefined };
    const signature = await hsm.sign(decision.issuer.ckaId, decision.toSign, order);
    if (!decision.crl) return signature;
    // CRLs are few: their numbers are on disk before their signatures leave, not a second later.
    return floor.write().then(
      () => signature,
      (error: unknown) => asVouchError(error),
    );
  }

  /** A token that once computed a wrong signature is asked once more; the server finds a second one, and stops (I3). */
  async #signCheckpoint(head: Head, order: SignOrder): Promise<Checkpoint> {
    const key = this.#logKey();
    const checkpoint = await this.#checkpointOver(head, key, order);
    return isSignedBy(key, checkpoint) ? checkpoint : this.#checkpointOver(head, key, order);
  }

  async #checkpointOver(head: Head, key: LogKey, order: SignOrder): Promise<Checkpoint> {
    const { hsm, authority } = this.#runtime;
    const origin = key.name;
    const body = checkpointBody({ origin, ...head });
    const signature = await hsm.sign(authority.logKey.ckaId, Buffer.from(body, 'utf8'), order);
    return { origin, ...head, note: assembleNote(body, [{ key, signature }]) };
  }

  #logKey(): LogKey {
    const { logKey, logOrigin } = this.#runtime.authority;
    return { name: logOrigin, algorithm: logKey.algorithm, publicKeySpki: logKey.publicKeySpki };
  }

  async #stop(): Promise<Buffer> {
    this.#takenUp = undefined;
    this.#runtime.floor.stop();
    await this.#runtime.floor.flush();
    return nothing;
  }

  #beingFed(): TakenUp {
    if (this.#takenUp?.phase === 'fed') return this.#takenUp;
    throw new VouchError('request-malformed', 'the signer is not taking up a tree');
  }

  #usableTree(): SignerTree {
    if (this.#takenUp?.phase === 'usable') return this.#takenUp.tree;
    throw new VouchError('unavailable-signer', 'the signer has no tree yet', { retryAfterSeconds: 1 });
  }

  /**
   * The latest that it may be now, for CRLs: a wall clock that was set back must not hold up a revocation (I12), whose
   * CRL the server dates by the time that has passed.
   */
  #latestMs(): number {
    const clock = this.#clock;
    return Math.max(clock.now(), this.#started.wallMs + clock.monotonicMs() - this.#started.monotonicMs);
  }
}

function isSignedBy(key: LogKey, { note, origin }: Checkpoint): boolean {
  try {
    openCheckpoint(note, [key], origin);
    return true;
  } catch {
    return false;
  }
}
