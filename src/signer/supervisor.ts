import type { Clock } from '../core/clock.ts';
import { asVouchError, isIntegrityFailure, VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import type { JwtClaims } from '../core/jwt-svid.ts';
import type { OcspAnswer } from '../x509/ocsp.ts';
import { appendTo, OutOfStep } from './catching-up.ts';
import { ConnectionLost } from './connection.ts';
import { FailureCounts } from './health.ts';
import type { HsmHealth } from './hsm.ts';
import { dial, type Launched, launch, type Program } from './launch.ts';
import { SignerLink } from './link.ts';
import type {
  AppendBatch,
  AppendResult,
  KnownTree,
  JwtKey,
  OcspKey,
  ResumeState,
  Signer,
  SignerState,
  SignerStatus,
  SignLogged,
} from './port.ts';
import { Restarts } from './restarts.ts';
import type { SignerLog } from './signer-log.ts';

/** How the server gets its signer. */
export interface SignerOptions {
  /** A program to start and restart, or the socket of one that runs by itself. */
  signer: { spawn: Program } | { connect: string };
  /** Called at each start: the tree as the store has it then, for a signer that knows so much of it. */
  resume: (known: KnownTree) => ResumeState;
  /** The issuer that it must sign for; another's is refused. */
  issuerKeyId?: string;
  clock: Clock;
  log: SignerLog;
  /** For `vouch init` alone: a state without checkpoint begins a new log. */
  genesis?: boolean;
  onState?: (status: SignerStatus) => void;
  /** Called before what was given up is tried again, on an operator's word: forgets that a PIN was refused. */
  onRetry?: () => void;
  /** The checkpoint over the committed tree, after each start. */
  onResumed?: (checkpoint: Checkpoint) => void;
  /** The checkpoint of an answer to a batch whose call had ended by then. Must not throw. */
  onLate?: (checkpoint: Checkpoint) => void;
  limits?: Partial<SignerTimes>;
}

/** Times of the supervision. */
export interface SignerTimes {
  /** Longest that a call waits, restarts included. */
  deadlineMs: number;
  heartbeatMs: number;
  /** Without an answer to a ping it hangs: less than the deadline, so that a new one can still serve the call. */
  hangMs: number;
  /** Longest wait for any answer while it starts: network HSMs take seconds to log in. */
  startMs: number;
  /** Past so many starts a minute there is a second between them. */
  startsPerMinute: number;
  /** Longest that `close` waits for it to write its marks. */
  stopMs: number;
}

/** The reasons stand in docs/defaults.md. */
const signerTimes: SignerTimes = {
  deadlineMs: 3000,
  heartbeatMs: 1000,
  hangMs: 2000,
  startMs: 15_000,
  startsPerMinute: 20,
  stopMs: 2000,
};

/** A signer that is kept alive. */
export interface SupervisedSigner extends Signer {
  /**
   * Resolves with the checkpoint over the committed tree when it signs for the first time. Rejects at the first failure
   * that trying again does not cure by itself (`config-…`, `integrity-…`).
   */
  ready(): Promise<Checkpoint>;
}

/** Starts the signer and keeps it alive; at once, and without waiting for it. */
export function openSigner(options: SignerOptions): SupervisedSigner {
  return new Supervisor(options);
}

interface Call {
  run: (link: SignerLink, goesOn: () => void) => Promise<unknown>;
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
  /** Takes what comes after the call has ended. */
  late: (value: unknown) => void;
  timer: NodeJS.Timeout;
  attempts: number;
}

/** A call that ends the signer each time is given up with this many. */
const attemptsMax = 3;

class Supervisor implements SupervisedSigner {
  readonly #options: SignerOptions;
  readonly #times: SignerTimes;
  readonly #restarts: Restarts;
  /** In the order in which they came: the tree grows in that order. */
  readonly #calls = new Set<Call>();
  readonly #ready = Promise.withResolvers<Checkpoint>();
  #running: Promise<void>;
  #link: SignerLink | undefined;
  #starting: Launched | undefined;
  readonly #counts = new FailureCounts();
  #status: SignerStatus = {
    state: 'probing',
    pid: undefined,
    restarts: 0,
    lastSuccessMs: undefined,
    problem: undefined,
    lastProblem: undefined,
    sessions: undefined,
    failures: { session: 0, login: 0, process: 0, start: 0, late: 0 },
  };
  /** Called at each change of state. */
  readonly #watchers = new Set<() => void>();
  #gaveUp: VouchError | undefined;
  #closing: Promise<void> | undefined;
  #wakeUp: () => void = () => undefined;

  constructor(options: SignerOptions) {
    this.#options = options;
    const deadlineMs = options.limits?.deadlineMs ?? signerTimes.deadlineMs;
    const hangMs = Math.min(signerTimes.hangMs, (deadlineMs * 2) / 3);
    this.#times = { ...signerTimes, hangMs, ...options.limits };
    this.#restarts = new Restarts(this.#times.startsPerMinute);
    this.#ready.promise.catch(() => undefined);
    this.#running = this.#run();
  }

  append(batch: AppendBatch): Promise<AppendResult> {
    return this.#call(
      (link) => appendTo(link, batch),
      ({ checkpoint }) => this.#options.onLate?.(checkpoint),
    );
  }

  /** Its deadline is for each part: a CRL may have many. */
  upload(_issuerKeyId: string, chunks: Iterable<Buffer>): Promise<void> {
    return this.#call((link, goesOn) => link.upload(chunks, goesOn));
  }

  signLogged(request: SignLogged): Promise<Buffer> {
    return this.#call((link) => link.signLogged(request));
  }

  ocspKey(): OcspKey | undefined {
    return this.#link?.ocspKey;
  }

  signOcsp(issuerKeyId: string, answer: OcspAnswer): Promise<Buffer> {
    return this.#call((link) => link.signOcsp(issuerKeyId, answer));
  }

  jwtKey(): JwtKey | undefined {
    return this.#link?.jwtKey;
  }

  signJwt(_issuerKeyId: string, keyId: string, claims: JwtClaims): Promise<Buffer> {
    return this.#call((link) => link.signJwt(keyId, claims));
  }

  status(): SignerStatus {
    return { ...this.#status, failures: { ...this.#status.failures, ...this.#counts.total } };
  }

  async retry(): Promise<SignerStatus> {
    if (this.#gaveUp && !this.#closing) {
      this.#options.log('warn', 'the signer is tried again, as an operator said', {});
      this.#options.onRetry?.();
      this.#gaveUp = undefined;
      this.#restarts.cameUp();
      this.#setState('probing', { pid: undefined, problem: undefined });
      this.#running = this.#run();
    } else this.#wakeUp();
    await this.#decided();
    return this.status();
  }

  ready(): Promise<Checkpoint> {
    return this.#ready.promise;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #call<Value>(
    run: (link: SignerLink, goesOn: () => void) => Promise<Value>,
    late: (value: Value) => void = () => undefined,
  ): Promise<Value> {
    if (this.#closing) return Promise.reject(stopping());
    if (this.#gaveUp) return Promise.reject(givenUp(this.#gaveUp));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#status.failures.late += 1;
        this.#settle(call, () => reject(this.#late()));
      }, this.#times.deadlineMs);
      const call: Call = {
        ...{ run, reject, timer, attempts: 0 },
        resolve: resolve as Call['resolve'],
        late: late as Call['late'],
      };
      this.#calls.add(call);
      if (this.#link) this.#attempt(call, this.#link);
    });
  }

  #attempt(call: Call, link: SignerLink): void {
    call.attempts += 1;
    // Runs to its first wait in this turn, so that calls are sent in their order; what it throws is a rejection.
    const goesOn = () => {
      if (!this.#calls.has(call)) throw this.#late();
      call.timer.refresh();
    };
    const attempt = async () => call.run(link, goesOn);
    attempt().then(
      (value) => {
        this.#succeeded();
        if (this.#calls.has(call)) this.#settle(call, () => call.resolve(value));
        else call.late(value);
      },
      (error: unknown) => {
        // Only what is not known to have happened is tried again, by the next signer.
        const again = error instanceof ConnectionLost && call.attempts < attemptsMax;
        if (error instanceof OutOfStep) link.kill();
        if (!again)
          this.#settle(call, () =>
            call.reject(error instanceof ConnectionLost ? this.#late() : asVouchError(error)),
          );
      },
    );
  }

  #settle(call: Call, how: () => void): void {
    clearTimeout(call.timer);
    if (this.#calls.delete(call)) how();
  }

  async #run(): Promise<void> {
    while (!this.#closing && !this.#gaveUp) {
      await this.#pause(this.#restarts.delayMs(this.#options.clock.monotonicMs()));
      if (this.#closing) return;
      try {
        await this.#live(await this.#open());
      } catch (error) {
        this.#restarts.failed();
        this.#failedToStart(asVouchError(error));
      }
    }
  }

  async #open(): Promise<SignerLink> {
    const { signer, resume, issuerKeyId, log, clock } = this.#options;
    const launched = 'spawn' in signer ? launch(signer.spawn, log) : await dial(signer.connect);
    this.#starting = launched;
    const { heartbeatMs, hangMs, startMs } = this.#times;
    const genesis = this.#options.genesis === true;
    const onAlive = (health: HsmHealth | undefined) => {
      this.#status.lastSuccessMs = clock.now();
      if (!health) return;
      this.#status.sessions = { open: health.sessions, wanted: health.sessionsWanted };
      this.#counts.take(this.#status.pid, health.failures);
    };
    return SignerLink.open({ launched, resume, issuerKeyId, genesis, startMs, heartbeatMs, hangMs, onAlive });
  }

  /** From usable to the end of this life. */
  async #live(link: SignerLink): Promise<void> {
    try {
      this.#begin(link);
      await link.ended;
    } finally {
      this.#link = undefined;
      link.kill();
    }
    if (this.#closing) return;
    const why = link.lastWords ? ` (${link.lastWords.detail})` : '';
    this.#setState('degraded', { pid: undefined, problem: `the signer ended and is started again${why}` });
    this.#status.restarts += 1;
    this.#status.failures.process += 1;
    this.#options.log('warn', 'the signer ended; starting another', { restarts: this.#status.restarts });
  }

  /** It is usable once the server has taken up its checkpoint, and not before. */
  #begin(link: SignerLink): void {
    this.#starting = undefined;
    this.#options.onResumed?.(link.checkpoint);
    this.#restarts.cameUp();
    this.#link = link;
    this.#setState('usable', { pid: link.pid, problem: undefined });
    this.#options.log('info', 'the signer is usable', { pid: link.pid ?? 0, treeSize: link.treeSize });
    this.#ready.resolve(link.checkpoint);
    for (const call of [...this.#calls]) this.#attempt(call, link);
  }

  #failedToStart(error: VouchError): void {
    if (this.#closing) return;
    this.#status.failures.start += 1;
    this.#options.log('error', 'the signer did not start', { code: error.code, problem: error.detail });
    const final = error.code.startsWith('integrity-') || error.code === 'config-pin';
    if (final || error.code.startsWith('config-')) this.#ready.reject(error);
    if (!final) {
      const state = this.#status.state === 'probing' ? 'probing' : 'degraded';
      this.#setState(state, { pid: undefined, problem: error.detail });
      return;
    }
    this.#gaveUp = error;
    const next = error.code === 'config-pin' ? '; then `vouch doctor --retry-signer`' : '';
    this.#setState('unusable', { pid: undefined, problem: `${error.detail}${next}` });
    for (const call of [...this.#calls]) this.#settle(call, () => call.reject(givenUp(error)));
  }

  async #close(): Promise<void> {
    for (const call of [...this.#calls]) this.#settle(call, () => call.reject(stopping()));
    this.#ready.reject(stopping());
    this.#wakeUp();
    const link = this.#link;
    if (link) {
      const timer = setTimeout(() => link.kill(), this.#times.stopMs);
      await link.stop().catch(() => undefined);
      clearTimeout(timer);
      link.kill();
    }
    this.#starting?.kill();
    await this.#running;
  }

  #pause(ms: number): Promise<void> {
    if (ms === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #succeeded(): void {
    this.#status.lastSuccessMs = this.#options.clock.now();
  }

  #setState(state: SignerState, rest: Pick<SignerStatus, 'pid' | 'problem'>): void {
    const lastProblem = rest.problem ?? this.#status.lastProblem;
    const sessions = state === 'usable' ? this.#status.sessions : undefined;
    this.#status = { ...this.#status, ...rest, state, lastProblem, sessions };
    this.#options.onState?.(this.status());
    for (const watcher of this.#watchers) watcher();
  }

  /** Resolves when it signs or has given up, or after as long as a start may take. */
  async #decided(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = () => {
      if (this.#closing || this.#status.state === 'usable' || this.#status.state === 'unusable') resolve();
    };
    const timer = setTimeout(resolve, this.#times.startMs);
    this.#watchers.add(look);
    look();
    await promise;
    clearTimeout(timer);
    this.#watchers.delete(look);
  }

  /** Peers read the detail: what ails the token is for `vouch status` and the log. */
  #late(): VouchError {
    const detail = 'the signer did not sign in time; try again (its operator: `vouch status` says why)';
    return new VouchError('unavailable-signer', detail, {
      retryAfterSeconds: 2,
      cause: this.#status.problem,
    });
  }
}

/** What callers are told: of an integrity failure all of it, since the server has to stop; else that nothing signs. */
function givenUp(error: VouchError): VouchError {
  if (isIntegrityFailure(error)) return error;
  const detail = 'the signer is not usable; its operator must act (`vouch status` says why)';
  return new VouchError('unavailable-signer', detail, { retryAfterSeconds: 30, cause: error });
}

function stopping(): VouchError {
  return new VouchError('unavailable-stopping', 'the server is stopping; try again', {
    retryAfterSeconds: 1,
  });
}
