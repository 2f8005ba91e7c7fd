import { parentPort, workerData } from 'node:worker_threads';
import { assert, VouchError } from '../../core/errors.ts';
import { ckrName, hsmFailure, nextStep, type Recovery, recoveryFor } from './errors.ts';
import { readGuardObjects, replaceGuardObject } from './guard-object.ts';
import { TokenKey } from './key.ts';
import {
  exact,
  type GuardRequest,
  type SignJob,
  type WorkerReply,
  type WorkerRequest,
  type WorkerStart,
} from './messages.ts';
import { SharedLogin } from './shared-login.ts';
import { HsmToken } from './token.ts';

/** Between a first attempt to mend that did not help and the next: a token in trouble is not hammered. */
const pauseMs = 25;

/** A thread with one session: its calls block, so they block nothing else. */
class TokenWorker {
  readonly #start: WorkerStart;
  readonly #login: SharedLogin;
  readonly #progress: Int32Array;
  #token: HsmToken | undefined;
  #keys: TokenKey[] = [];

  constructor(start: WorkerStart) {
    this.#start = start;
    this.#progress = new Int32Array(start.progress);
    this.#login = new SharedLogin(start.sharedLogin);
  }

  /** Opens a session and finds the keys; the first time the first worker logs in and proves them. */
  open(): void {
    const { address, first, keys } = this.#start;
    if (this.#keys.length > 0) return this.#mending(() => this.#renew('session', this.#login.count));
    this.#token ??= HsmToken.open(address, { readWrite: true });
    if (first) this.#logIn(this.#login.count);
    const token = this.#token;
    // Structured cloning turned Buffers into plain arrays.
    const found = keys.map(
      (key) => new TokenKey(token, { ...key, publicKeySpki: Buffer.from(key.publicKeySpki) }),
    );
    if (first) for (const key of found) key.prove();
    this.#keys = found;
  }

  /** Does what is asked. Throws what this thread cannot mend. */
  handle(request: Exclude<WorkerRequest, { kind: 'open' }>): WorkerReply {
    if (request.kind === 'probe') return this.#probe();
    if (request.kind !== 'sign') return this.#guards(request);
    const startedMs = performance.now();
    const signatures = request.jobs.map((job) => ({ id: job.id, signature: exact(this.#sign(job)) }));
    return { kind: 'signed', signatures, tookMs: performance.now() - startedMs };
  }

  #probe(): WorkerReply {
    const token = this.#token;
    assert(token, 'an open session');
    this.#mending(() => token.look());
    return { kind: 'probed' };
  }

  #sign(job: SignJob): Buffer {
    const key = this.#keys[job.key];
    assert(key, 'key index of a job');
    const input = Buffer.from(job.input.buffer, job.input.byteOffset, job.input.byteLength);
    return this.#mending(() => key.signPrepared(input));
  }

  /** A guard that cannot be written is not the end of signing: the floor knows how long that may last. */
  #guards(request: GuardRequest): WorkerReply {
    const { id } = request;
    try {
      return { kind: 'guards', id, values: this.#mending(() => this.#guardValues(request)).map(exact) };
    } catch (error) {
      if (recoveryFor(error) === 'operator') throw error;
      const { code, detail } = hsmFailure(guardFailures[request.kind], error);
      return { kind: 'guard-failed', id, code, detail };
    }
  }

  #guardValues(request: GuardRequest): Buffer[] {
    assert(this.#token, 'an open session');
    if (request.kind === 'read-guards') return readGuardObjects(this.#token);
    const obsolete = request.obsolete.map((value) => Buffer.from(value));
    return replaceGuardObject(this.#token, Buffer.from(request.value), obsolete);
  }

  /** Makes a call; where it fails, again after each step that may help, from the cheapest on. */
  #mending<Result>(call: () => Result): Result {
    const logins = this.#login.count;
    let step: Recovery | undefined;
    for (;;) {
      try {
        const taken = step;
        if (taken !== undefined) this.#watched(() => this.#renew(taken, logins));
        return this.#watched(call);
      } catch (error) {
        const next = nextStep(step, error);
        if (next === 'process' || next === 'operator') throw error;
        reply({ kind: 'mended', by: next, problem: problemOf(error) });
        if (step !== undefined) pause(pauseMs);
        step = next;
      }
    }
  }

  /** A new session, after a login where the old one's is gone, and the keys found anew. */
  #renew(step: Recovery, logins: number): void {
    assert(this.#token, 'a token that was open');
    this.#token.renewSession();
    if (step === 'login') this.#logIn(logins);
    for (const key of this.#keys) key.refind();
  }

  #logIn(logins: number): void {
    const { pinFile, refusedFile } = this.#start.login;
    this.#login.since(logins, () => this.#token?.login(pinFile, refusedFile));
  }

  /** Shows the main thread that a call is under way: it cannot ask a thread that hangs. */
  #watched<Result>(call: () => Result): Result {
    Atomics.add(this.#progress, 0, 1);
    try {
      return call();
    } finally {
      Atomics.add(this.#progress, 0, 1);
    }
  }
}

/** What is said of a guard that a token does not take or show, after which comes the return value. */
const guardFailures: Readonly<Record<GuardRequest['kind'], string>> = {
  'read-guards': 'reading the rollback guard in the token',
  'replace-guard':
    'writing the rollback guard into the token (C_CreateObject; one that takes no data objects needs `vouch init --rollback-mark file:PATH`)',
};

const doing: Readonly<Partial<Record<WorkerRequest['kind'], string>>> = {
  sign: 'signing',
  probe: 'asking after a session',
};

function openingOf({ address }: WorkerStart): string {
  return `opening the token ${address.tokenLabel} and proving its keys`;
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function problemOf(error: unknown): string {
  return error instanceof VouchError ? error.detail : (ckrName(error) ?? 'no answer that PKCS#11 knows');
}

function reply(message: WorkerReply): void {
  parentPort?.postMessage(message);
}

function run(): void {
  const worker = new TokenWorker(workerData as WorkerStart);
  parentPort?.on('message', (request: WorkerRequest) => {
    try {
      if (request.kind !== 'open') return reply(worker.handle(request));
      worker.open();
      reply({ kind: 'ready' });
    } catch (error) {
      const what = doing[request.kind] ?? openingOf(workerData as WorkerStart);
      const { code, detail } = hsmFailure(what, error);
      reply({ kind: 'failed', code, detail, recovery: recoveryFor(error) });
    }
  });
}

run();
