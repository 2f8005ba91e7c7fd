import { parentPort, workerData } from 'node:worker_threads';
import { assert, VouchError } from '../../core/errors.ts';
import { hsmFailure, recoveryFor } from './errors.ts';
import { readGuardObjects, replaceGuardObject } from './guard-object.ts';
import { TokenKey } from './key.ts';
import { exact, type SignJob, type WorkerReply, type WorkerRequest, type WorkerStart } from './messages.ts';
import { HsmToken } from './token.ts';

/** A thread with one session: its calls block, so they block nothing else. */
class TokenWorker {
  readonly #token: HsmToken;
  readonly #keys: TokenKey[];
  readonly #progress: Int32Array;

  constructor(start: WorkerStart) {
    this.#progress = new Int32Array(start.progress);
    this.#token = HsmToken.open(start.address, { readWrite: start.login !== undefined });
    if (start.login) this.#token.login(start.login.pinFile, start.login.refusedFile);
    // Structured cloning turned Buffers into plain arrays.
    const keys = start.keys.map((key) => ({ ...key, publicKeySpki: Buffer.from(key.publicKeySpki) }));
    this.#keys = keys.map((key) => new TokenKey(this.#token, key));
    if (start.login) for (const key of this.#keys) key.prove();
  }

  /** Does what is asked. Throws what a new process has to cure. */
  handle(request: WorkerRequest): WorkerReply {
    if (request.kind === 'sign') {
      const signatures = request.jobs.map((job) => ({ id: job.id, signature: exact(this.#sign(job)) }));
      return { kind: 'signed', signatures };
    }
    return this.#watched(() => {
      if (request.kind === 'read-guards')
        return { kind: 'guards', values: readGuardObjects(this.#token).map(exact) };
      const obsolete = request.obsolete.map((value) => Buffer.from(value));
      replaceGuardObject(this.#token, Buffer.from(request.value), obsolete);
      return { kind: 'guard-replaced' };
    });
  }

  #sign(job: SignJob): Buffer {
    const key = this.#keys[job.key];
    assert(key, 'key index of a job');
    const input = Buffer.from(job.input.buffer, job.input.byteOffset, job.input.byteLength);
    return this.#watched(() => {
      try {
        return key.signPrepared(input);
      } catch (error) {
        if (recoveryFor(error) !== 'session') throw error;
        // Once: a session that is lost again at once is a token in trouble.
        this.#token.renewSession();
        for (const known of this.#keys) known.refind();
        return key.signPrepared(input);
      }
    });
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

function reply(message: WorkerReply): void {
  parentPort?.postMessage(message);
}

function fail(what: string, error: unknown): void {
  const { code, detail } = error instanceof VouchError ? error : hsmFailure(what, error);
  reply({ kind: 'failed', code, detail, recovery: recoveryFor(error) });
}

function run(): void {
  let worker: TokenWorker;
  try {
    worker = new TokenWorker(workerData as WorkerStart);
  } catch (error) {
    fail('opening the token', error);
    return;
  }
  parentPort?.on('message', (request: WorkerRequest) => {
    try {
      reply(worker.handle(request));
    } catch (error) {
      fail(request.kind, error);
    }
  });
  reply({ kind: 'ready' });
}

run();
