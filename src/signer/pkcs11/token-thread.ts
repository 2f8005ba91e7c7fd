import { Worker } from 'node:worker_threads';
import { VouchError } from '../../core/errors.ts';
import type { GuardRequest, SignJob, WorkerReply, WorkerRequest, WorkerStart } from './messages.ts';

/** What a thread was given and has not answered. */
export type Task = (SignTask | GuardTask) & { reject: (error: Error) => void };

/** A signature that somebody waits for. */
export interface SignTask extends SignJob {
  kind: 'sign';
  resolve: (signature: Buffer) => void;
  reject: (error: Error) => void;
}

/** A guard that somebody waits for. */
export interface GuardTask {
  kind: 'guard';
  id: number;
  request: GuardRequest;
  resolve: (values: Buffer[]) => void;
  reject: (error: Error) => void;
}

/** What a thread tells its pool. */
export interface ThreadEvents {
  reply: (thread: TokenThread, reply: WorkerReply) => void;
  /** It ended by itself. */
  broke: (error: VouchError) => void;
  /** It does not open within its time: whoever waits cannot end the process in order. */
  late: () => void;
}

/** The first pause before a session is asked for again, and the longest. */
const reopenMs = { first: 1000, longest: 60_000 };

/** One worker thread with one session, as the pool sees it. */
export class TokenThread {
  readonly #worker: Worker;
  readonly #progress: Int32Array;
  readonly #startMs: number;
  readonly #events: ThreadEvents;
  /** In the order in which they were given. */
  readonly #tasks = new Map<number, Task>();
  #isOpen = false;
  #isProbing = false;
  /** Value of `progress` when it was last looked at, and how long it has stood there in a call. */
  #seen = 0;
  #stuckMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #pauseMs = reopenMs.first;

  constructor(
    start: Omit<WorkerStart, 'progress'>,
    options: { workerUrl: URL; startMs: number; events: ThreadEvents },
  ) {
    const progress = new SharedArrayBuffer(4);
    this.#progress = new Int32Array(progress);
    this.#startMs = options.startMs;
    this.#events = options.events;
    this.#worker = new Worker(options.workerUrl, { workerData: { ...start, progress } });
    this.#worker.on('error', (cause) => {
      clearTimeout(this.#timer);
      this.#events.broke(new VouchError('config-hsm', 'a PKCS#11 thread failed', { cause }));
    });
    this.#worker.on('message', (reply: WorkerReply) => {
      if (reply.kind === 'ready' || reply.kind === 'failed') clearTimeout(this.#timer);
      if (reply.kind === 'ready') this.#isOpen = true;
      if (reply.kind === 'probed' || reply.kind === 'failed') this.#isProbing = false;
      this.#events.reply(this, reply);
    });
    this.#open();
  }

  /** True while it has a session. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** How much it was given and has not answered. */
  get load(): number {
    return this.#tasks.size;
  }

  /** Has it make signatures, in this order. */
  sign(tasks: readonly SignTask[]): void {
    for (const task of tasks) this.#tasks.set(task.id, task);
    this.#send({ kind: 'sign', jobs: tasks.map(({ id, key, input }) => ({ id, key, input })) });
  }

  /** Has it ask the token after its session, where it has nothing else to do. */
  probe(): void {
    if (!this.#isOpen || this.#isProbing || this.load > 0) return;
    this.#isProbing = true;
    this.#send({ kind: 'probe' });
  }

  /** Has it read or replace guards. */
  guard(task: GuardTask): void {
    this.#tasks.set(task.id, task);
    this.#send(task.request);
  }

  /** What it has answered by now. */
  done(id: number): Task | undefined {
    const task = this.#tasks.get(id);
    this.#tasks.delete(id);
    return task;
  }

  /** Takes back what it has not answered. */
  takeBack(): Task[] {
    const tasks = [...this.#tasks.values()];
    this.#tasks.clear();
    return tasks;
  }

  /** It has no session: it is to ask for another, later and later. */
  reopenLater(): void {
    this.#isOpen = false;
    this.#timer = setTimeout(() => this.#open(), this.#pauseMs).unref();
    this.#pauseMs = Math.min(2 * this.#pauseMs, reopenMs.longest);
  }

  /** A call came through: the token gives sessions again. */
  works(): void {
    this.#pauseMs = reopenMs.first;
  }

  /** For how long it has stood in one call, now that another `elapsedMs` have passed. */
  stuckMs(elapsedMs: number): number {
    const now = Atomics.load(this.#progress, 0);
    const sameCall = this.#isOpen && now % 2 !== 0 && now === this.#seen;
    this.#seen = now;
    this.#stuckMs = sameCall ? this.#stuckMs + elapsedMs : 0;
    return this.#stuckMs;
  }

  #open(): void {
    // Nobody else watches a process that listens and has no client yet.
    this.#timer = setTimeout(() => this.#events.late(), this.#startMs);
    this.#send({ kind: 'open' });
  }

  #send(request: WorkerRequest): void {
    this.#worker.postMessage(request);
  }
}
