import type { Attest } from '../../attestation/workload/attest.ts';
import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import { asVouchError, VouchError } from '../../core/errors.ts';
import { type Call, GrpcError, GrpcStatus, type Method } from '../grpc/server.ts';
import { askedBy, explain, lookAt } from '../recognised.ts';
import { Refusals } from '../refusals.ts';
import { type Served, type Svid, svidsFor, type Trust, type Workloads } from '../workloads.ts';
import type { Topic } from './encoded.ts';
import { jwtSvidResponse, readJwtSvidRequest, readValidateRequest, validateResponse } from './messages.ts';
import { noIdentity, Streams } from './streams.ts';

/** Who calls before there is anything to serve waits for it so long. */
const patienceMs = 5_000;
const audiencesMax = 8;
const audienceMaxBytes = 1024;

/** A JWT-SVID that was found good. */
export interface ValidJwt {
  spiffeId: string;
  claims: Readonly<Record<string, unknown>>;
}

interface Parts {
  workloads: Workloads;
  attest: Attest;
  /** Throws for a token that is not good for `audience`. */
  validate(token: string, audience: string, trust: Trust): ValidJwt | Promise<ValidJwt>;
  /** A line for the agent's log. */
  notice(line: string): void;
  patienceMs?: number;
}

/** The SPIFFE Workload API as methods for `serveGrpc`. */
export function createWorkloadApi(parts: Parts): WorkloadApi {
  return new WorkloadApi(parts);
}

/** What a caller is, when it has been looked at. */
interface Caller {
  served: Served;
  selectors: ReadonlySet<string>;
  /** Never empty. */
  svids: readonly Svid[];
}

/** The service `SpiffeWorkloadAPI`, which has no package. */
export class WorkloadApi {
  readonly #parts: Parts;
  readonly #streams: Streams;
  readonly #refusals: Refusals;
  readonly methods: ReadonlyMap<string, Method>;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#refusals = new Refusals(parts.notice);
    this.#streams = new Streams(parts.workloads, (peer) => this.#look(peer));
    const methods: Record<string, Method> = {
      FetchX509SVID: this.#stream('x509-svid'),
      FetchX509Bundles: this.#stream('x509-bundles'),
      FetchJWTSVID: { kind: 'unary', call: (request, call) => this.#fetchJwt(request, call) },
      FetchJWTBundles: this.#stream('jwt-bundles'),
      ValidateJWTSVID: { kind: 'unary', call: (request, call) => this.#validateJwt(request, call) },
      FetchWITSVID: notImplemented,
      FetchWITBundles: notImplemented,
    };
    this.methods = new Map(
      Object.entries(methods).map(([name, method]) => [`/SpiffeWorkloadAPI/${name}`, method]),
    );
  }

  get streams(): number {
    return this.#streams.size;
  }

  close(): void {
    this.#streams.close();
  }

  #stream(topic: Topic): Method {
    return {
      kind: 'stream',
      open: async (_request, call, out) => {
        const { served, selectors } = await this.#caller(call);
        return this.#streams.open({ topic, peer: call.peer, out }, selectors, served);
      },
    };
  }

  async #fetchJwt(request: Buffer, call: Call): Promise<Buffer> {
    demandHeader(call);
    const { audience, spiffeId } = readJwtSvidRequest(request);
    if (audience.length === 0) throw invalid('audience must be specified');
    if (audience.length > audiencesMax) throw invalid(`at most ${audiencesMax} audiences`);
    audience.forEach(demandAudience);
    const { svids } = await this.#caller(call);
    const wanted = svids.filter((svid) => spiffeId === '' || svid.spiffeId === spiffeId);
    if (wanted.length === 0) throw noIdentity();
    const minted = await Promise.all(wanted.map((svid) => this.#mint(svid, audience)));
    const tokens = minted.filter((one) => one !== undefined);
    if (tokens.length === 0 || !call.peer.isAlive()) throw noIdentity();
    return jwtSvidResponse(tokens);
  }

  /** Undefined where the server denies it: the entry is gone or suspended, and the agent will hear of it. */
  async #mint(svid: Svid, audience: readonly string[]): Promise<{ svid: Svid; token: string } | undefined> {
    try {
      const { token } = await this.#parts.workloads.mintJwt(svid.entryId, audience);
      return { svid, token };
    } catch (error) {
      const { code, detail } = asVouchError(error);
      const line = `no JWT-SVID of ${svid.spiffeId}: ${detail}`;
      this.#refusals.say(line, () => line);
      if (code.startsWith('denied-')) return undefined;
      throw new GrpcError(GrpcStatus.unavailable, 'no JWT-SVID can be made now');
    }
  }

  async #validateJwt(request: Buffer, call: Call): Promise<Buffer> {
    demandHeader(call);
    const { audience, token } = readValidateRequest(request);
    demandAudience(audience);
    if (token === '') throw invalid('svid must be specified');
    const { served } = await this.#caller(call);
    try {
      const { spiffeId, claims } = await this.#parts.validate(token, audience, served.trust);
      return validateResponse(spiffeId, claims);
    } catch (error) {
      if (!(error instanceof VouchError)) throw error;
      throw invalid(`the JWT-SVID is not valid: ${error.detail}`);
    }
  }

  /** Throws InvalidArgument, Unavailable or PermissionDenied. */
  async #caller(call: Call): Promise<Caller> {
    demandHeader(call);
    await this.#served();
    const { selectors, served } = await this.#lookAtPresent(call.peer);
    const svids = svidsFor(served, selectors);
    if (svids.length > 0 && call.peer.isAlive()) return { served, selectors, svids };
    const { workloads } = this.#parts;
    this.#refusals.say(
      [...selectors].join(' '),
      () => `no identity: ${explain(call.peer, selectors, served, workloads.withheld())}`,
      askedBy(served),
    );
    throw noIdentity();
  }

  /** What the look saw is held against the entries that decided what it looks at. */
  async #lookAtPresent(peer: WorkloadPeer): Promise<{ selectors: ReadonlySet<string>; served: Served }> {
    const { workloads } = this.#parts;
    for (let before = workloads.now; before !== undefined; before = workloads.now) {
      const selectors = await this.#look(peer);
      const served = workloads.now;
      if (served !== undefined && askedBy(served) === askedBy(before)) return { selectors, served };
    }
    throw notReady();
  }

  async #look(peer: WorkloadPeer): Promise<ReadonlySet<string>> {
    const { attest, workloads } = this.#parts;
    if (workloads.now === undefined) throw notReady();
    try {
      return await lookAt(peer, attest, askedBy(workloads.now)).selectors;
    } catch (error) {
      const { code, detail } = asVouchError(error);
      this.#refusals.say(`uid ${peer.uid}: ${detail}`, () => `pid ${peer.pid}, uid ${peer.uid}: ${detail}`);
      if (code.startsWith('denied-')) throw noIdentity();
      throw new GrpcError(GrpcStatus.unavailable, 'workload attestation failed');
    }
  }

  /** Resolves when there is something to serve. */
  async #served(): Promise<void> {
    const { workloads } = this.#parts;
    if (workloads.now !== undefined) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        unsubscribe();
        reject(notReady());
      }, this.#parts.patienceMs ?? patienceMs);
      const unsubscribe = workloads.subscribe(() => {
        clearTimeout(timer);
        unsubscribe();
        resolve();
      });
    });
  }
}

const notImplemented: Method = {
  kind: 'stream',
  open: async (_request, call) => {
    demandHeader(call);
    throw new GrpcError(GrpcStatus.unimplemented, 'WIT-SVIDs are not served');
  },
};

/** Exactly once, exactly `true` (Workload Endpoint §3): Node joins what comes twice with a comma. */
function demandHeader({ headers }: Call): void {
  if (headers['workload.spiffe.io'] !== 'true') throw invalid('security header missing from request');
}

function demandAudience(audience: string): void {
  if (audience === '') throw invalid('audience must be specified');
  if (Buffer.byteLength(audience) > audienceMaxBytes)
    throw invalid(`an audience has at most ${audienceMaxBytes} bytes`);
}

function invalid(message: string): GrpcError {
  return new GrpcError(GrpcStatus.invalidArgument, message);
}

function notReady(): GrpcError {
  return new GrpcError(GrpcStatus.unavailable, 'the agent has nothing to serve yet');
}
