import { Worker } from 'node:worker_threads';
import { assert, asVouchError, type ErrorCode, VouchError } from '../../core/errors.ts';
import type { Hsm, HsmConfig, HsmKey } from '../hsm.ts';
import type { SignerLog } from '../signer-log.ts';
import { exact, type SignJob, type WorkerReply, type WorkerRequest, type WorkerStart } from './messages.ts';
import { signingMethods } from './signing.ts';

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

/** Jobs handed to a thread at once, and threads are handed the next before they are done: they never wait. */
const chunkJobs = 8;
const chunksAhead = 2;

const defaultStartMs = 15_000;

/** Opens the token in worker threads. Rejects with `config-hsm`, `config-pin`, `config-secret-readable`. */
export async function openPool(options: PoolOptions): Promise<Hsm> {
  const pool = new Pool(options);
  await pool.open();
  return pool;
}

interface Job extends SignJob {
  resolve: (signature: Buffer) => void;
  reject: (error: Error) => void;
}

interface Thread {
  worker: Worker;
  progress: Int32Array;
  /** Value of `progress` when it was last looked at, and how long it has stood there in a call. */
  seen: number;
  stuckMs: number;
  chunks: number;
}

class Pool implements Hsm {
  readonly #options: PoolOptions;
  readonly #keyIndexes: ReadonlyMap<string, number>;
  readonly #threads: Thread[] = [];
  readonly #waiting: Job[] = [];
  readonly #running = new Map<number, Job>();
  /** Answers of the first thread about guards, in order. */
  readonly #guardCalls: { resolve: (values: Buffer[]) => void; reject: (error: Error) => void }[] = [];
  #nextId = 0;
  #fault: HsmFault | undefined;

  readonly guards = {
    read: () => this.#askGuard({ kind: 'read-guards' }),
    replace: async (value: Buffer, obsolete: readonly Buffer[]) => {
      await this.#askGuard({ kind: 'replace-guard', value: exact(value), obsolete: obsolete.map(exact) });
    },
  };

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#keyIndexes = new Map(options.keys.map((key, index) => [key.ckaId, index]));
  }

  /** The first thread logs in and proves the keys; the others join when it is done, and are not waited for. */
  async open(): Promise<void> {
    await this.#start(true);
    for (let count = this.#options.workers ?? 2; count > 1; count -= 1)
      this.#start(false).catch((error: unknown) => {
        // A token may allow one session only; one thread does the work then.
        this.#options.log('warn', 'the token gave no further session', {
          problem: asVouchError(error).detail,
        });
      });
    const lookEveryMs = Math.ceil(this.#options.hangMs / 8);
    setInterval(() => this.#lookForHang(lookEveryMs), lookEveryMs).unref();
  }

  sign(ckaId: string, data: Buffer): Promise<Buffer> {
    const key = this.#keyIndexes.get(ckaId);
    assert(key !== undefined, 'a key that was proven at the start');
    const algorithm = this.#options.keys[key]?.algorithm;
    assert(algorithm, 'algorithm of a known key');
    if (this.#fault) return Promise.reject(this.#fault.error);
    const input = exact(signingMethods[algorithm].input(data));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ id: this.#nextId++, key, input, resolve, reject });
      // What is asked for in one turn of the event loop travels together.
      if (this.#waiting.length === 1) queueMicrotask(() => this.#dispatch());
    });
  }

  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const free = this.#threads.toSorted((a, b) => a.chunks - b.chunks)[0];
      if (!free || free.chunks >= chunksAhead) return;
      // Few jobs are spread over the threads, many go in chunks.
      const share = Math.ceil(this.#waiting.length / this.#threads.length);
      const jobs = this.#waiting.splice(0, Math.min(chunkJobs, share));
      for (const job of jobs) this.#running.set(job.id, job);
      free.chunks += 1;
      send(free.worker, { kind: 'sign', jobs: jobs.map(({ id, key, input }) => ({ id, key, input })) });
    }
  }

  #start(first: boolean): Promise<void> {
    const { hsm, keys, refusedFile } = this.#options;
    const { module, tokenLabel, tokenSerial, pinFile } = hsm;
    const progress = new SharedArrayBuffer(4);
    const start: WorkerStart = {
      address: { module, tokenLabel, tokenSerial },
      keys,
      login: first ? { pinFile, refusedFile } : undefined,
      progress,
    };
    const worker = new Worker(this.#options.workerUrl ?? defaultWorkerUrl(), { workerData: start });
    const thread = { worker, progress: new Int32Array(progress), seen: 0, stuckMs: 0, chunks: 0 };
    return new Promise((resolve, reject) => {
      // Nobody else watches a process that listens and has no client yet. It is not rejected: whoever waits would end the
      // process in order, which a thread that hangs holds up for ever.
      const late = setTimeout(
        () => this.#fail({ error: tokenHangs(), hangs: true }),
        this.#options.startMs ?? defaultStartMs,
      );
      worker.on('error', (cause) => {
        clearTimeout(late);
        const error = new VouchError('config-hsm', 'a PKCS#11 thread failed', { cause });
        reject(error);
        if (this.#threads.includes(thread)) this.#fail({ error, hangs: false });
      });
      worker.on('message', (message: WorkerReply) => {
        clearTimeout(late);
        if (message.kind === 'ready') {
          this.#threads.push(thread);
          resolve();
          this.#dispatch();
        } else if (message.kind === 'failed') {
          const error = new VouchError(message.code as ErrorCode, message.detail);
          reject(error);
          if (this.#threads.includes(thread)) this.#fail({ error, hangs: false });
        } else this.#take(thread, message);
      });
    });
  }

  #take(thread: Thread, message: WorkerReply): void {
    if (message.kind === 'signed') {
      thread.chunks -= 1;
      for (const { id, signature } of message.signatures) {
        this.#running.get(id)?.resolve(asBuffer(signature));
        this.#running.delete(id);
      }
      this.#dispatch();
    } else if (message.kind === 'guards') this.#guardCalls.shift()?.resolve(message.values.map(asBuffer));
    else this.#guardCalls.shift()?.resolve([]);
  }

  #askGuard(request: WorkerRequest): Promise<Buffer[]> {
    const first = this.#threads[0];
    assert(first, 'an open pool');
    if (this.#fault) return Promise.reject(this.#fault.error);
    return new Promise((resolve, reject) => {
      this.#guardCalls.push({ resolve, reject });
      send(first.worker, request);
    });
  }

  #lookForHang(elapsedMs: number): void {
    for (const thread of this.#threads) {
      const now = Atomics.load(thread.progress, 0);
      const sameCall = now % 2 !== 0 && now === thread.seen;
      thread.seen = now;
      thread.stuckMs = sameCall ? thread.stuckMs + elapsedMs : 0;
      if (thread.stuckMs < this.#options.hangMs) continue;
      this.#fail({ error: tokenHangs(), hangs: true });
    }
  }

  #fail(fault: HsmFault): void {
    if (this.#fault) return;
    this.#fault = fault;
    // First: whoever waits shall not be told of a fault that the next process hides.
    this.#options.onFault(fault);
    for (const job of [...this.#waiting.splice(0), ...this.#running.values()]) job.reject(fault.error);
    this.#running.clear();
    for (const call of this.#guardCalls.splice(0)) call.reject(fault.error);
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

function send(worker: Worker, request: WorkerRequest): void {
  worker.postMessage(request);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
