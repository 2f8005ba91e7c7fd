import type { Clock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { Rate } from '../grpc/budget.ts';
import type { MintedJwt } from '../workloads.ts';
import type { AgentServer } from './server-calls.ts';

/** Tokens that are kept at most; past it the oldest goes. */
const keptMax = 4096;
/** New tokens of an entry in ten seconds: each is a signature of the token's, and audiences are for workloads to choose. */
const newOfEntryMax = 50;
const newWindowMs = 10_000;

/** A token, and until when it is given to who asks for the same. */
interface Kept extends MintedJwt {
  freshUntilMs: number;
}

/** JWT-SVIDs that the server signs, each given again until it is past half its life. */
export class JwtSvids {
  readonly #server: Pick<AgentServer, 'jwtSvid'>;
  readonly #clock: Clock;
  readonly #spiffeIdOf: (entryId: string) => string | undefined;
  readonly #kept = new Map<string, Kept>();
  readonly #asked = new Map<string, Promise<Kept>>();
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
    if (kept !== undefined && this.#clock.now() < kept.freshUntilMs) return kept;
    const asked = this.#asked.get(key) ?? this.#new(key, { entryId, spiffeId, audience });
    this.#asked.set(key, asked);
    try {
      return await asked;
    } finally {
      this.#asked.delete(key);
    }
  }

  /** Forgets the tokens of all: an entry is gone, suspended or another. */
  clear(): void {
    this.#kept.clear();
    this.#rates.clear();
  }

  #new(
    key: string,
    wanted: { entryId: string; spiffeId: string; audience: readonly string[] },
  ): Promise<Kept> {
    const rate = this.#rates.get(wanted.entryId) ?? new Rate(newOfEntryMax, newWindowMs);
    this.#rates.set(wanted.entryId, rate);
    if (rate.take(this.#clock.monotonicMs())) return this.#ask(key, wanted);
    return Promise.reject(
      new VouchError(
        'unavailable-rate-limited',
        `more than ${newOfEntryMax} new tokens in ${newWindowMs / 1000} s`,
      ),
    );
  }

  async #ask(
    key: string,
    { entryId, spiffeId, audience }: { entryId: string; spiffeId: string; audience: readonly string[] },
  ): Promise<Kept> {
    const askedMs = this.#clock.now();
    const answer = await this.#server.jwtSvid(entryId, audience);
    if (answer.spiffeId !== spiffeId)
      throw new VouchError('denied-server', `the token is for ${answer.spiffeId}, not for ${spiffeId}`);
    const expiresAtMs = Date.parse(answer.expiresAt);
    const kept = {
      ...{ token: answer.token, expiresAtMs },
      freshUntilMs: askedMs + (expiresAtMs - askedMs) / 2,
    };
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > keptMax && oldest !== undefined) this.#kept.delete(oldest);
    return kept;
  }
}
