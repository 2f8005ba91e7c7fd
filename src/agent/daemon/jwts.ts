import type { Clock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { Rate } from '../grpc/budget.ts';
import { type Moment, momentOf, msUntil } from '../moment.ts';
import type { MintedJwt } from '../workloads.ts';
import type { AgentServer } from './server-calls.ts';

/** Tokens that are kept at most; past it the oldest goes. */
const keptMax = 4096;
/** New ones of an entry in ten seconds: each is a signature of the token's, and a workload may name any audience. */
const newMax = 50;
const newWindowMs = 10_000;

/** A token, and until when it is given to who asks for the same. */
interface Kept extends MintedJwt {
  freshUntil: Moment;
}

/** JWT-SVIDs that the server signs, each given again until it is past half its life. */
export class JwtSvids {
  readonly #server: Pick<AgentServer, 'jwtSvid'>;
  readonly #clock: Clock;
  readonly #spiffeIdOf: (entryId: string) => string | undefined;
  readonly #kept = new Map<string, Kept>();
  readonly #asked = new Map<string, Promise<Kept>>();
  /** New ones, by entry. */
  readonly #rates = new Map<string, Rate>();

  /** `spiffeIdOf`: of an entry that is served now. */
  constructor(
    server: Pick<AgentServer, 'jwtSvid'>,
    { clock, spiffeIdOf }: { clock: Clock; spiffeIdOf: (entryId: string) => string | undefined },
  ) {
    this.#server = server;
    this.#clock = clock;
    this.#spiffeIdOf = spiffeIdOf;
  }

  /** Rejects with `denied-no-entry` for an entry that is not served, `unavailable-rate-limited`, and as the server's call does. */
  async mint(entryId: string, audience: readonly string[]): Promise<MintedJwt> {
    const spiffeId = this.#spiffeIdOf(entryId);
    if (spiffeId === undefined)
      throw new VouchError('denied-no-entry', `entry ${entryId} is not served by this agent`);
    const key = JSON.stringify([entryId, spiffeId, audience]);
    const kept = this.#kept.get(key);
    if (kept !== undefined && msUntil(kept.freshUntil, this.#clock) > 0) return kept;
    const known = this.#asked.get(key);
    if (known !== undefined) return known;
    const rate = this.#rates.get(entryId) ?? new Rate(newMax, newWindowMs);
    this.#rates.set(entryId, rate);
    if (!rate.take(this.#clock.monotonicMs()))
      throw new VouchError(
        'unavailable-rate-limited',
        `more than ${newMax} new JWT-SVIDs of ${spiffeId} in ${newWindowMs / 1000} s`,
      );
    const asked = this.#ask(key, { entryId, spiffeId, audience }).finally(() => this.#asked.delete(key));
    this.#asked.set(key, asked);
    return asked;
  }

  /** Forgets the tokens of all: an entry is gone, suspended or another. */
  clear(): void {
    this.#kept.clear();
    this.#rates.clear();
  }

  async #ask(
    key: string,
    { entryId, spiffeId, audience }: { entryId: string; spiffeId: string; audience: readonly string[] },
  ): Promise<Kept> {
    const answer = await this.#server.jwtSvid(entryId, audience);
    if (answer.spiffeId !== spiffeId)
      throw new VouchError('denied-server', `the token is for ${answer.spiffeId}, not for ${spiffeId}`);
    const expiresAtMs = Date.parse(answer.expiresAt);
    const kept = {
      ...{ token: answer.token, expiresAtMs },
      freshUntil: momentOf((expiresAtMs - this.#clock.now()) / 2, this.#clock),
    };
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > keptMax && oldest !== undefined) this.#kept.delete(oldest);
    return kept;
  }
}
