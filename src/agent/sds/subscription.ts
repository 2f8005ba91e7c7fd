import { asVouchError } from '../../core/errors.ts';
import { Rate } from '../grpc/budget.ts';
import { GrpcError, GrpcStatus } from '../grpc/status.ts';
import type { Call, Conversation, Out } from '../grpc/method.ts';
import { askedBy, type Recognised } from '../recognised.ts';
import type { Refusals } from '../refusals.ts';
import type { Served, Withheld } from '../workloads.ts';
import { type DiscoveryRequest, readRequest } from './messages.ts';
import type { Answer, Secrets } from './secrets.ts';

/** Of one stream: Envoy answers each response, of which there are a few a second where CRLs come fast. */
const requestsMax = { most: 300, inMs: 10_000 };

/** What all streams have in common. */
export interface Source {
  /** Undefined until there is something to serve. */
  readonly now: Served | undefined;
  secretsOf(served: Served): Secrets;
  /** What is not served, and why. */
  withheld(): readonly Withheld[];
  readonly refusals: Refusals;
  /** Tells it of no more changes. */
  forget(subscription: Subscription): void;
}

/**
 * One stream of the state-of-the-world protocol of xDS: what it names is sent at once and when its content changes.
 * A response that was acknowledged, or refused, is not sent again. The nonce is the version: both are of the content.
 */
export class Subscription implements Conversation {
  readonly #source: Source;
  readonly #workload: Recognised;
  readonly #pid: number;
  readonly #budget: Call['budget'];
  readonly #out: Out;
  readonly #requests = new Rate(requestsMax.most, requestsMax.inMs);
  /** Undefined before the first request. */
  #names: readonly string[] | undefined;
  #nodeId = '';
  /** Names nothing from its first request on: is given all. */
  #isWildcard = false;
  #sent = '';
  #isPumping = false;
  #isStale = false;
  #hasEnded = false;

  constructor(
    source: Source,
    workload: Recognised,
    { peer, budget }: Pick<Call, 'peer' | 'budget'>,
    out: Out,
  ) {
    this.#source = source;
    this.#workload = workload;
    this.#pid = peer.pid;
    this.#budget = budget;
    this.#out = out;
  }

  /** A DiscoveryRequest of the caller. */
  message(bytes: Buffer): void {
    if (this.#hasEnded) return;
    try {
      if (!this.#requests.take(performance.now()))
        throw new GrpcError(GrpcStatus.resourceExhausted, 'too many requests on one stream');
      this.#take(readRequest(bytes));
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Something else is served. */
  changed(): void {
    if (this.#names !== undefined) void this.#pump();
  }

  closed(): void {
    this.#hasEnded = true;
    this.#source.forget(this);
  }

  #take(request: DiscoveryRequest): void {
    // Answers what we sent before our last response: its sender will answer that one, too.
    if (this.#names !== undefined && request.nonce !== this.#sent) return;
    if (request.nodeId !== '') this.#nodeId = request.nodeId;
    if (request.refusal !== undefined) this.#noticeRefusal(request);
    if (this.#names === undefined) this.#isWildcard = request.names.length === 0;
    else if (request.names.length > 0) this.#isWildcard = false;
    const isSame = this.#names?.join('\n') === request.names.join('\n');
    const isFirst = this.#names === undefined;
    this.#names = request.names;
    if (isSame) return;
    // Its process is looked at anew.
    if (!isFirst && !this.#budget.call(performance.now()))
      throw new GrpcError(GrpcStatus.resourceExhausted, 'too many requests of one user');
    this.#workload.forget();
    void this.#pump();
  }

  /** One at a time: what changes meanwhile is looked at afterwards. */
  async #pump(): Promise<void> {
    this.#isStale = true;
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      while (this.#isStale && !this.#hasEnded) {
        this.#isStale = false;
        await this.#send();
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#isPumping = false;
    }
  }

  async #send(): Promise<void> {
    const names = this.#names ?? [];
    const answer = await answerFor(this.#source, this.#workload, this.#isWildcard ? undefined : names);
    if (answer === undefined) {
      // Later on it is told nothing of a name that is not its own, or that it had.
      if (this.#sent === '')
        throw new GrpcError(GrpcStatus.invalidArgument, 'none of these secrets is yours');
      return;
    }
    // A request that came meanwhile is looked at before anything is sent for the one before it.
    if (this.#isStale || this.#hasEnded || answer.version === this.#sent) return;
    this.#sent = answer.version;
    this.#out.send(answer.frame);
  }

  #noticeRefusal({ refusal = '', nonce }: DiscoveryRequest): void {
    const node = this.#nodeId && ` (${printable(this.#nodeId)})`;
    const why = `refuses the secrets of version ${nonce}: ${printable(refusal)}`;
    this.#source.refusals.say(`${node} ${why}`, () => `pid ${this.#pid}${node} ${why}`);
  }

  #fail(error: unknown): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#out.end(error instanceof GrpcError ? error : failureOf(error, this.#source));
  }
}

/** What a caller is answered now; names undefined: all that it may have. Throws a GrpcError where it may have nothing. */
export async function answerFor(
  source: Source,
  workload: Recognised,
  names: readonly string[] | undefined,
): Promise<Answer | undefined> {
  const served = source.now;
  if (served === undefined) throw new GrpcError(GrpcStatus.unavailable, 'nothing is served yet');
  const svids = await workload.svids(served);
  const why = () => workload.explain(served, source.withheld());
  if (svids.length === 0) {
    const line = () => `no identity for a caller of secret discovery: ${why()}`;
    source.refusals.say(workload.shows, line, askedBy(served));
    throw new GrpcError(GrpcStatus.permissionDenied, 'no identity issued');
  }
  const secrets = source.secretsOf(served);
  const answer = await secrets.answer(svids, names ?? secrets.namesOf(svids));
  if (answer === undefined) {
    const secretNames = printable((names ?? []).join(' '));
    const line = () => `secrets ${secretNames} are not for this caller: ${why()}`;
    source.refusals.say(`${secretNames} ${workload.shows}`, line, askedBy(served));
  }
  return answer;
}

/** As `no identity issued`: a caller learns nothing of why. */
export function failureOf(error: unknown, source: Source): GrpcError {
  if (error instanceof GrpcError) return error;
  const failure = asVouchError(error);
  const cause = failure.cause instanceof Error ? `: ${failure.cause.message}` : '';
  const line = `secret discovery failed: ${failure.detail}${cause}`;
  source.refusals.say(line, () => line);
  return failure.code === 'denied-workload'
    ? new GrpcError(GrpcStatus.permissionDenied, 'no identity issued')
    : new GrpcError(GrpcStatus.internal, 'internal error');
}

/** What a caller wrote, in a line of the log. */
function printable(text: string): string {
  return text.slice(0, 500).replace(/[^\x20-\x7e]/g, '?');
}
