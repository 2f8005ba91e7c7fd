import { assert, VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { Connection, ConnectionLost } from './connection.ts';
import { exitCodes } from './exit-codes.ts';
import { decodeHealth } from './health.ts';
import type { HsmHealth } from './hsm.ts';
import type { Launched } from './launch.ts';
import type { JwtClaims } from '../core/jwt-svid.ts';
import type { OcspAnswer } from '../x509/ocsp.ts';
import type {
  AppendBatch,
  AppendResult,
  JwtKey,
  KnownTree,
  OcspKey,
  ResumeState,
  SignLogged,
} from './port.ts';
import {
  decodeAppendResult,
  decodeCheckpoint,
  decodeGreeting,
  encodeRequest,
  type Greeting,
  protocolVersion,
  type Request,
} from './protocol.ts';
import { Uploader } from './uploader.ts';

/** How a life of the signer begins and is watched. */
export interface LinkOptions {
  launched: Launched;
  resume: (known: KnownTree) => ResumeState;
  /** The issuer that it must sign for; undefined: whichever it does. */
  issuerKeyId: string | undefined;
  /** Whether a state without any checkpoint may begin from nothing. */
  genesis: boolean;
  /** Longest wait for any answer while it starts. */
  startMs: number;
  heartbeatMs: number;
  /** A ping without an answer for so long: it hangs. */
  hangMs: number;
  /** Called at each answered ping, with how well the token is where that was told. */
  onAlive: (health: HsmHealth | undefined) => void;
}

const leavesFrameBytes = 1024 * 1024;

/** One life of the signer, from its start to its end: it has taken up the tree and signs. */
export class SignerLink {
  readonly #connection: Connection;
  readonly #options: LinkOptions;
  readonly #uploader = new Uploader((request) => send(this.#connection, request));
  readonly pid: number | undefined;
  /** What answers OCSP in this life. */
  readonly ocspKey: OcspKey | undefined;
  /** What signs JWT-SVIDs in this life. */
  readonly jwtKey: JwtKey | undefined;
  /** Newest checkpoint that this life signed. */
  checkpoint: Checkpoint;
  /** Leaves that the signer has, or will have once it has read what was sent. */
  treeSize: number;
  #heartbeat: NodeJS.Timeout | undefined;
  #pingTimer: NodeJS.Timeout | undefined;

  private constructor(
    options: LinkOptions,
    connection: Connection,
    { pid, ocspKey, jwtKey }: Greeting,
    checkpoint: Checkpoint,
  ) {
    this.#options = options;
    this.#connection = connection;
    this.pid = pid;
    this.ocspKey = ocspKey;
    this.jwtKey = jwtKey;
    this.checkpoint = checkpoint;
    this.treeSize = checkpoint.treeSize;
    this.#heartbeat = setInterval(() => this.#ping(), options.heartbeatMs).unref();
  }

  /**
   * Greets the signer and feeds it the tree. Rejects with what it refused (`integrity-…`, `config-…`), or with
   * `unavailable-signer` where it ended or did not answer; it is killed then.
   */
  static async open(options: LinkOptions): Promise<SignerLink> {
    const connection = new Connection(options.launched.stream);
    try {
      const ask = (request: Request) => withDeadline(send(connection, request), options.startMs);
      const greeting = decodeGreeting(await ask({ op: 'hello', version: protocolVersion }));
      refuseOthers(greeting, options.issuerKeyId);
      const checkpoint = await takeUp(ask, options, greeting);
      return new SignerLink(options, connection, greeting, checkpoint);
    } catch (error) {
      const refused = error instanceof ConnectionLost ? await endOf(options.launched) : error;
      options.launched.kill();
      connection.destroy();
      throw refused;
    }
  }

  /** Resolves when this life is over. */
  get ended(): Promise<void> {
    return this.#connection.ended.then(() => this.#stopWatching());
  }

  /** Why the signer said that this life ends; undefined where it said nothing. */
  get lastWords(): VouchError | undefined {
    return this.#connection.lastWords;
  }

  /** Appends leaves at `treeSize`; sent before this returns. */
  async append(batch: AppendBatch): Promise<AppendResult> {
    assert(batch.firstIndex === this.treeSize, 'appended where the tree ends');
    const items = [...batch.items];
    const answer = this.#send({ op: 'append', firstIndex: batch.firstIndex, items });
    this.treeSize += items.length;
    const result = decodeAppendResult(await answer);
    if (result.checkpoint.treeSize > this.checkpoint.treeSize) this.checkpoint = result.checkpoint;
    return result;
  }

  /** Has a leaf of the tree signed that has no signature yet. */
  signLogged(request: SignLogged): Promise<Buffer> {
    return this.#send({ op: 'signLogged', request: { ...request, path: [...request.path] } });
  }

  /** Sends a CRL; `onPart` is called whenever a part of it was read. */
  upload(chunks: Iterable<Buffer>, onPart: () => void): Promise<void> {
    return this.#uploader.upload(chunks, onPart);
  }

  /** Has an OCSP answer signed. */
  signOcsp(issuerKeyId: string, answer: OcspAnswer): Promise<Buffer> {
    return this.#send({ op: 'ocsp', issuerKeyId, answer });
  }

  /** Has a JWT-SVID signed. */
  signJwt(keyId: string, claims: JwtClaims): Promise<Buffer> {
    return this.#send({ op: 'jwt', keyId, claims });
  }

  /** Has it write its marks; a spawned signer then ends. */
  async stop(): Promise<void> {
    this.#stopWatching();
    await send(this.#connection, { op: 'stop' });
  }

  /** Ends this life at once. */
  kill(): void {
    this.#stopWatching();
    this.#options.launched.kill();
    this.#connection.destroy();
  }

  #send(request: Request): Promise<Buffer> {
    const answer = send(this.#connection, request);
    // A call to a signer that hangs is noticed by this, well before its caller gives up.
    this.#ping();
    return answer;
  }

  /** The signer's own thread answers pings, in order with all else; its token is watched by itself. */
  #ping(): void {
    if (this.#pingTimer || !this.#heartbeat) return;
    this.#pingTimer = setTimeout(() => this.#suspect(), this.#options.hangMs).unref();
    send(this.#connection, { op: 'ping' }).then(
      (health) => {
        clearTimeout(this.#pingTimer);
        this.#pingTimer = undefined;
        this.#options.onAlive(decodeHealth(health));
      },
      () => undefined,
    );
  }

  /** If it was this process that stood still, the answer lies in the socket: read that first. */
  #suspect(): void {
    setImmediate(() => setImmediate(() => this.#pingTimer && this.kill()));
  }

  #stopWatching(): void {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#pingTimer);
    this.#heartbeat = undefined;
    this.#pingTimer = undefined;
  }
}

/** Two signers whose sockets or tokens were mixed up would each refuse all that is asked of it. */
function refuseOthers({ issuerKeyIds }: Greeting, issuerKeyId: string | undefined): void {
  if (issuerKeyId === undefined || issuerKeyIds.includes(issuerKeyId)) return;
  throw new VouchError(
    'config-state',
    `this signer does not sign for the issuer ${issuerKeyId}: is it the other one of first and standby?`,
  );
}

async function takeUp(
  ask: (request: Request) => Promise<Buffer>,
  options: LinkOptions,
  known: KnownTree,
): Promise<Checkpoint> {
  const state = options.resume(known);
  const genesis = options.genesis && state.checkpoint === undefined;
  if (state.checkpoint === undefined && !genesis)
    throw new VouchError(
      'integrity-state',
      'the log has no checkpoint, though it was begun; restore a backup',
    );
  if (state.newLog) await ask({ op: 'openLog', ...state.newLog });
  const { checkpoint = '', peaks, consistency = [] } = state;
  await ask({ op: 'resume', genesis, checkpoint, peaks: [...peaks], consistency: [...consistency] });
  for await (const leaves of state.leaves)
    for (const part of frameSized(leaves)) await ask({ op: 'leaves', leaves: part });
  return decodeCheckpoint(await ask({ op: 'resumed' }));
}

function* frameSized(leaves: readonly Buffer[]): Generator<Buffer[]> {
  let part: Buffer[] = [];
  let bytes = 0;
  for (const leaf of leaves) {
    part.push(leaf);
    bytes += leaf.length;
    if (bytes < leavesFrameBytes) continue;
    yield part;
    part = [];
    bytes = 0;
  }
  if (part.length > 0) yield part;
}

function send(connection: Connection, request: Request): Promise<Buffer> {
  const { kind, payload } = encodeRequest(request);
  return connection.request(kind, payload);
}

/** Why a signer that ended before it answered did so, by its exit code. */
async function endOf(launched: Launched): Promise<VouchError> {
  const exit = launched.exited && (await Promise.race([launched.exited, afterMs(500)]));
  if (exit?.code === exitCodes.pinRefused)
    return new VouchError('config-pin', 'the token refused the PIN; it is not presented again');
  if (exit?.code === exitCodes.integrity)
    return new VouchError('integrity-state', 'the signer refuses to go on; its log says why');
  if (exit?.code === exitCodes.configuration)
    return new VouchError('config-state', 'the signer cannot start; its log says why');
  const how = exit ? ` (${exit.signal ?? `exit code ${exit.code}`})` : '';
  return new VouchError('unavailable-signer', `the signer ended while it started${how}`, {
    retryAfterSeconds: 1,
  });
}

async function withDeadline<Value>(value: Promise<Value>, ms: number): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new VouchError('unavailable-signer', 'the signer does not answer', {
      retryAfterSeconds: 1,
    });
    timer = setTimeout(() => reject(error), ms);
  });
  try {
    return await Promise.race([value, late]);
  } finally {
    clearTimeout(timer);
  }
}

function afterMs(ms: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), ms).unref());
}
