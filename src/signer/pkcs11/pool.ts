import { assert, type ErrorCode, VouchError } from '../../core/errors.ts';
import type { Hsm, HsmConfig, HsmHealth, HsmKey, Signable, SignOrder } from '../hsm.ts';
import type { SignerLog } from '../signer-log.ts';
import { exact, type GuardRequest, type WorkerReply } from './messages.ts';
import { SharedLogin } from './shared-login.ts';
import { signingMethods } from './signing.ts';
import { type GuardTask, type SignTask, TokenThread } from './token-thread.ts';

/** How the pool is opened. */
export interface PoolOptions {
  hsm: HsmConfig;
  /** Every key that may be asked for; each is proven before the pool is ready. */
  keys: readonly HsmKey[];
  /** Where a refused PIN is noted. */
  refusedFile: string;
  /** Sessions, one a thread; 2 saturate SoftHSM on two cores. */
  workers?: number | undefined;
  /** The built worker; by default beside this file. */
  workerUrl?: URL | undefined;
  /** A PKCS#11 call that takes longer hangs. */
  hangMs: number;
  /** How often the token is asked after sessions that have nothing to do; default 2 s. */
  probeMs?: number | undefined;
  /** A thread that takes longer to log in and prove its keys hangs, too; default 15 s: network HSMs take seconds. */
  startMs?: number | undefined;
  log: SignerLog;
  /** Called once, when the token failed in a way that a new process may cure, or hangs. */
  onFault: (fault: HsmFault) => void;
}

/** Why the pool is of no use any more. */
export interface HsmFault {
  error: VouchError;
  /** True when a thread is stuck in the module: the process cannot end in order, only be killed. */
  hangs: boolean;
}

/** Signatures handed to a thread at once, and at most before it has answered. */
const chunkMax = 8;
const aheadMax = 16;
/**
 * Work that a thread may have before it: enough that a quick token never waits for the next message, and too little to
 * keep a signature from another thread that is free, or an urgent one from being next.
 */
const aheadMs = 2;

const defaultStartMs = 15_000;
/** A token that was pulled is missed before somebody needs it, and one that closes idle sessions finds none. */
const defaultProbeMs = 2000;
const defaultWorkers = 2;
/** What was mended is said once in so long. */
const sayEveryMs = 1000;

/** Opens the token in worker threads. Rejects with `config-hsm`, `config-pin`, `config-secret-readable`. */
export async function openPool(options: PoolOptions): Promise<Hsm> {
  const pool = new Pool(options);
  await pool.open();
  return pool;
}

class Pool implements Hsm {
  readonly #options: PoolOptions;
  readonly #keyIndexes: ReadonlyMap<string, number>;
  readonly #sharedLogin = SharedLogin.memory();
  readonly #threads: TokenThread[] = [];
  readonly #urgent: SignTask[] = [];
  readonly #waiting: SignTask[] = [];
  readonly #guards: GuardTask[] = [];
  readonly #opened = Promise.withResolvers<void>();
  /** Guards that should be gone, and that the token did not destroy. */
  #leftOver: readonly Buffer[] = [];
  readonly #failures = { session: 0, login: 0 };
  /** What a signature takes, averaged; at first so long that each thread gets one at a time. */
  #signMs = aheadMs;
  #saidMs = Number.NEGATIVE_INFINITY;
  #nextId = 0;
  #isOpen = false;
  #fault: HsmFault | undefined;

  readonly guards = {
    read: () => this.#askGuard((id) => ({ kind: 'read-guards', id })),
    replace: async (value: Buffer, obsolete: readonly Buffer[]) => {
      const all = [...this.#leftOver, ...obsolete];
      this.#leftOver = await this.#askGuard((id) => ({
        ...{ kind: 'replace-guard', id },
        ...{ value: exact(value), obsolete: all.map(exact) },
      }));
    },
  };

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#keyIndexes = new Map(options.keys.map((key, index) => [key.ckaId, index]));
  }

  /** The first thread logs in and proves the keys; the others join when it is done, and are not waited for. */
  async open(): Promise<void> {
    this.#start(true);
    await this.#opened.promise;
    this.#isOpen = true;
    const { workers = defaultWorkers, hangMs } = this.#options;
    while (this.#threads.length < workers) this.#start(false);
    const lookEveryMs = Math.ceil(hangMs / 8);
    setInterval(() => this.#lookForHang(lookEveryMs), lookEveryMs).unref();
    setInterval(() => this.#probe(), this.#options.probeMs ?? defaultProbeMs).unref();
  }

  sign(ckaId: string, data: Signable, { urgent = false }: SignOrder = {}): Promise<Buffer> {
    const key = this.#keyIndexes.get(ckaId);
    assert(key !== undefined, 'a key that was proven at the start');
    const algorithm = this.#options.keys[key]?.algorithm;
    assert(algorithm, 'algorithm of a known key');
    if (this.#fault) return Promise.reject(this.#fault.error);
    const input = exact(signingMethods[algorithm].input(data));
    return new Promise((resolve, reject) => {
      const lane = urgent ? this.#urgent : this.#waiting;
      lane.push({ kind: 'sign', id: this.#nextId++, key, input, resolve, reject });
      // What is asked for in one turn of the event loop travels together.
      if (lane.length === 1) queueMicrotask(() => this.#dispatch());
    });
  }

  health(): HsmHealth {
    const sessions = this.#threads.filter((thread) => thread.isOpen).length;
    return {
      sessions,
      sessionsWanted: this.#options.workers ?? defaultWorkers,
      failures: { ...this.#failures },
    };
  }

  #dispatch(): void {
    const any = this.#leastBusy();
    for (const task of any ? this.#guards.splice(0) : []) any?.guard(task);
    const ahead = Math.min(aheadMax, Math.max(1, Math.floor(aheadMs / this.#signMs)));
    for (let left = this.#left(); left > 0; left = this.#left()) {
      const free = this.#leastBusy();
      if (!free || free.load >= ahead) return;
      // Few are spread over the threads, many go in chunks.
      const share = Math.ceil(left / this.#threads.filter(({ isOpen }) => isOpen).length);
      const count = Math.min(chunkMax, share, ahead - free.load);
      const urgent = this.#urgent.splice(0, count);
      free.sign([...urgent, ...this.#waiting.splice(0, count - urgent.length)]);
    }
  }

  #left(): number {
    return this.#urgent.length + this.#waiting.length;
  }

  #leastBusy(): TokenThread | undefined {
    const open = this.#threads.filter((thread) => thread.isOpen);
    return open.toSorted((a, b) => a.load - b.load)[0];
  }

  #start(first: boolean): void {
    const { hsm, keys, refusedFile, workerUrl, startMs } = this.#options;
    const { module, tokenLabel, tokenSerial, pinFile } = hsm;
    const start = {
      address: { module, tokenLabel, tokenSerial },
      ...{ keys, first, login: { pinFile, refusedFile }, sharedLogin: this.#sharedLogin },
    };
    const events = {
      reply: (thread: TokenThread, reply: WorkerReply) => this.#take(thread, reply),
      broke: (error: VouchError) => this.#giveUp(error),
      late: () => this.#fail({ error: tokenHangs(), hangs: true }),
    };
    const options = {
      workerUrl: workerUrl ?? defaultWorkerUrl(),
      startMs: startMs ?? defaultStartMs,
      events,
    };
    this.#threads.push(new TokenThread(start, options));
  }

  #take(thread: TokenThread, reply: WorkerReply): void {
    switch (reply.kind) {
      case 'ready':
        this.#opened.resolve();
        break;
      case 'probed':
        thread.works();
        break;
      case 'signed':
        this.#signed(thread, reply);
        break;
      case 'guards':
        (thread.done(reply.id) as GuardTask | undefined)?.resolve(reply.values.map(asBuffer));
        break;
      case 'guard-failed':
        thread.done(reply.id)?.reject(new VouchError(reply.code as ErrorCode, reply.detail));
        break;
      case 'mended':
        this.#mended(reply);
        return;
      case 'failed':
        this.#failed(thread, reply);
    }
    this.#dispatch();
  }

  #signed(thread: TokenThread, { signatures, tookMs }: WorkerReply & { kind: 'signed' }): void {
    thread.works();
    for (const { id, signature } of signatures)
      (thread.done(id) as SignTask | undefined)?.resolve(asBuffer(signature));
    this.#signMs += (tookMs / signatures.length - this.#signMs) / 8;
  }

  #mended({ by, problem }: WorkerReply & { kind: 'mended' }): void {
    if (by === 'session' || by === 'login') this.#failures[by] += 1;
    const nowMs = performance.now();
    if (nowMs - this.#saidMs < sayEveryMs) return;
    this.#saidMs = nowMs;
    this.#options.log('warn', 'a call of the token failed and is made again', { problem, ...this.#failures });
  }

  /** One thread without a session leaves the work to the others, and asks for another session later. */
  #failed(thread: TokenThread, reply: WorkerReply & { kind: 'failed' }): void {
    const error = new VouchError(reply.code as ErrorCode, reply.detail);
    const others = this.#threads.some((other) => other !== thread && other.isOpen);
    const fatal = thread.isOpen ? reply.recovery !== 'session' : reply.recovery === 'operator';
    if (fatal || !others) return this.#giveUp(error);
    this.#options.log('warn', 'a session with the token is not to be had; asking again later', {
      problem: error.detail,
    });
    thread.reopenLater();
    for (const task of thread.takeBack())
      if (task.kind === 'guard') this.#guards.push(task);
      else this.#urgent.push(task);
  }

  #askGuard(request: (id: number) => GuardRequest): Promise<Buffer[]> {
    if (this.#fault) return Promise.reject(this.#fault.error);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#guards.push({ kind: 'guard', id, request: request(id), resolve, reject });
      this.#dispatch();
    });
  }

  #probe(): void {
    if (!this.#fault) for (const thread of this.#threads) thread.probe();
  }

  #lookForHang(elapsedMs: number): void {
    for (const thread of this.#threads)
      if (thread.stuckMs(elapsedMs) >= this.#options.hangMs) this.#fail({ error: tokenHangs(), hangs: true });
  }

  /** Before it was ever open, whoever opens it is told why and ends the process in order. */
  #giveUp(error: VouchError): void {
    if (this.#isOpen) this.#fail({ error, hangs: false });
    else this.#opened.reject(error);
  }

  #fail(fault: HsmFault): void {
    if (this.#fault) return;
    this.#fault = fault;
    // First: whoever waits shall not be told of a fault that the next process hides.
    this.#options.onFault(fault);
    const given = this.#threads.flatMap((thread) => thread.takeBack());
    const waiting = [...this.#urgent.splice(0), ...this.#waiting.splice(0), ...this.#guards.splice(0)];
    for (const task of [...given, ...waiting]) task.reject(fault.error);
  }
}

function tokenHangs(): VouchError {
  return new VouchError('unavailable-signer', 'the token does not answer');
}

function defaultWorkerUrl(): URL {
  // Sources run as they are in tests; a build puts every entry point into one folder.
  const name = import.meta.url.endsWith('.ts') ? './worker.ts' : './pkcs11-worker.js';
  return new URL(name, import.meta.url);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
