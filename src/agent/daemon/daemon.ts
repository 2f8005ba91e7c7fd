import { resolve } from 'node:path';
import type { VerifiedCrl } from '../../client/crl.ts';
import { type Clock, rfc3339 } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import type { EntriesAnswer } from '../../wire/agent.ts';
import type { BundleJson } from '../../wire/enrollment.ts';
import { type IdentityOptions, renewOrRejoin } from '../boot.ts';
import { keptBundle } from '../bundle-keeper.ts';
import { type Freshness, freshness } from '../freshness.ts';
import { oneAtATime } from '../one-at-a-time.ts';
import { earlyRenewalDueMs, type Held } from '../held.ts';
import type { Sleep } from '../sleep.ts';
import type { Trust } from '../workloads.ts';
import { svidAsker } from './ask-svids.ts';
import type { Keyring } from './cache-keys.ts';
import { cacheContent, restored } from './cached.ts';
import { EntriesKeeper } from './entries.ts';
import { type AgentEntry, agentEntry } from './entry.ts';
import { ownIdentity } from './identity.ts';
import { JwtSvids } from './jwts.ts';
import { Latest } from './latest.ts';
import { cacheOf, type SealedCache } from './sealed-cache.ts';
import { type AgentServer, agentServer, heardServer } from './server-calls.ts';
import { ServedWorkloads } from './served.ts';
import {
  type AgentStatus,
  entryStatus,
  identityFailure,
  identityStatus,
  type Reachability,
  serverStatus,
  StatusFile,
} from './status.ts';
import { SvidKeeper } from './svids.ts';
import { isSameTrust, trustOf } from './trust.ts';

/** Where an agent gets its identity, keeps what it holds, and how strict it is. */
export interface DaemonOptions extends Omit<IdentityOptions, 'timeoutMs' | 'keyType'> {
  crlRefreshMs: number;
}

/** What an agent is run with. */
export interface DaemonParts {
  clock: Clock;
  sleep: Sleep;
  signal: AbortSignal;
  notice: (line: string) => void;
  /** Where the kernel has one for us. */
  keyring?: Keyring | undefined;
}

/** Where nothing can be served yet, what was just delivered counts as fresh for so long. */
const freshAfterMs = 1000;
/** For workloads that waited to be looked at and answered. */
const handOutMs = 25;
/** After so long workloads are told to wait, whether or not the server can be reached. */
const underWayMs = 250;
/** How often status.json and the cache are written at most. */
const writeEveryMs = 1000;

/**
 * The agent of a host: its own identity, the registration entries that name it as parent, a certificate for each, and whom
 * to trust. What it holds is in `workloads`, for those who serve it.
 */
export class AgentDaemon {
  readonly workloads: ServedWorkloads;
  /** More of status.json, by who says it. */
  readonly statusParts = new Map<string, () => unknown>();
  readonly #options: IdentityOptions & DaemonOptions;
  readonly #parts: DaemonParts & { exclusively: ReturnType<typeof oneAtATime> };
  readonly #server: AgentServer;
  readonly #jwts: JwtSvids;
  readonly #svids: SvidKeeper;
  readonly #entries: EntriesKeeper;
  /** One at a time of those that ask the server and then move what was seen. */
  readonly #asking = oneAtATime();
  readonly #saving: Latest;
  readonly #status: Latest;
  readonly #statusFile: StatusFile;
  readonly #startedAtMs: number;
  readonly #underWay = Promise.withResolvers<void>();
  #held: Held | undefined;
  #identityFailure: AgentStatus['identityFailure'] = null;
  #fresh: Freshness | undefined;
  #bundle: BundleJson | undefined;
  #known: EntriesAnswer | undefined;
  #trust: Trust | undefined;
  #cache: SealedCache | undefined;
  #savedAtMs: number | undefined;
  #reachability: Reachability | undefined;
  #isLive = false;
  #saidRevoked = '';

  constructor(options: DaemonOptions, parts: DaemonParts) {
    const { clock, signal, sleep, notice } = parts;
    this.#options = { ...options, dir: resolve(options.dir), keyType: undefined, timeoutMs: 0 };
    this.#parts = { ...parts, exclusively: oneAtATime() };
    this.#startedAtMs = clock.now();
    this.#server = heardServer(
      agentServer(() => this.#identity, parts),
      (error) => this.#reached(error),
    );
    this.#jwts = new JwtSvids(this.#server, {
      clock,
      spiffeIdOf: (entryId) => this.workloads.now?.svids.find((svid) => svid.entryId === entryId)?.spiffeId,
    });
    this.workloads = new ServedWorkloads(
      (entryId, audience) => this.#jwts.mint(entryId, audience),
      () => this.#svids.withheld,
    );
    const ask = svidAsker({
      ...{ clock, notice, server: this.#server, dir: this.#options.dir },
      exclusively: this.#parts.exclusively,
      bundle: (bundle) => this.#tookBundle(bundle),
    });
    this.#svids = new SvidKeeper({
      ...{ clock, signal, sleep, notice },
      ask: async (asks) => {
        const outcomes = await this.#asking(() => ask(asks));
        // Its CRL, and its certificate for peers, come with our own next certificate.
        if (outcomes.some((one) => !(one instanceof VouchError) && !this.#isIssuerKnown(one.issuerKeyId)))
          this.#fresh?.renewSoon();
        return outcomes;
      },
      isRevoked: (issuerKeyId, serial) => this.#fresh?.keeper.isListed(issuerKeyId, serial) ?? false,
      changed: () => this.#publish(),
      stale: () => this.#entries.askNow(),
    });
    this.#entries = new EntriesKeeper({
      ...{ clock, signal, sleep, notice },
      ask: (known) => this.#server.entries(known),
      took: (answer) => this.#tookEntries(answer),
      accepted: () => {
        this.#identityFailure = null;
        this.#svids.retryNow();
      },
    });
    this.#saving = new Latest(writeEveryMs, () => this.#save(), parts);
    this.#statusFile = new StatusFile(this.#options.dir, notice);
    this.#status = new Latest(writeEveryMs, () => this.#writeStatus(), parts);
  }

  /** Resolves to the SPIFFE ID and the number of entries when there is something to serve. */
  ready(): Promise<{ spiffeId: string; entries: number }> {
    const { promise, resolve: done } = Promise.withResolvers<{ spiffeId: string; entries: number }>();
    const end = this.workloads.subscribe(() => {
      end();
      done({ spiffeId: this.#identity.delivered.spiffeId, entries: this.#svids.slots.length });
    });
    return promise;
  }

  /** Resolves when the first request is on its way or none is needed, and soon in any case. */
  get underWay(): Promise<void> {
    return this.#underWay.promise;
  }

  /** Until the signal aborts. Throws where there is no identity to begin with and the operator has to set something right. */
  async run(): Promise<void> {
    const { signal, sleep } = this.#parts;
    const awaiting = this.#underWay.resolve;
    void sleep(underWayMs, signal).then(awaiting);
    try {
      const held = await this.#firstIdentity(awaiting);
      awaiting();
      this.#held = held;
      this.#identityFailure = null;
      const fresh = this.#keepFresh(held);
      this.#fresh = fresh;
      this.#restore(held);
      this.#status.want();
      await Promise.all([this.#runWhenServing(fresh), this.#entries.run(), this.#svids.run()]);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      await Promise.all([this.#saving.done(), this.#status.done()]);
    }
  }

  /** While it is waited for, status.json says so. */
  async #firstIdentity(awaiting: () => void): Promise<Held> {
    const { signal, sleep } = this.#parts;
    const had = new AbortController();
    const waits = AbortSignal.any([signal, had.signal]);
    void sleep(writeEveryMs, waits).then(() => waits.aborted || this.#status.want());
    try {
      return await ownIdentity(this.#options, {
        ...this.#parts,
        awaiting,
        failed: (error) => this.#identityFailed(error),
      });
    } finally {
      had.abort();
    }
  }

  #identityFailed(error: unknown): void {
    this.#identityFailure = identityFailure(error, this.#options.joinFile, this.#parts.clock.now());
    this.#reached(error);
  }

  /** Workloads that wait for their first certificates do not wait for this, too. */
  async #runWhenServing(fresh: Freshness): Promise<void> {
    const { signal, sleep } = this.#parts;
    if (this.workloads.now === undefined) {
      const serving = new AbortController();
      void this.ready().then(() => serving.abort());
      await sleep(freshAfterMs, AbortSignal.any([signal, serving.signal]));
      await sleep(handOutMs, signal);
    }
    await fresh.run();
  }

  /** Somebody's part of the status is another. */
  statusChanged(): void {
    this.#status.want();
  }

  /** All that name this agent as parent, served or not; the same array while they are the same. */
  get entries(): readonly AgentEntry[] {
    return this.#svids.entries;
  }

  /** A CRL that is served, as it was verified. */
  knownCrl(der: Buffer): VerifiedCrl | undefined {
    return [...(this.#fresh?.keeper.crls.values() ?? [])].find((crl) => crl.der === der);
  }

  /** Whether the server tells of changes by itself. */
  get isLive(): boolean {
    return this.#isLive;
  }

  get #identity(): Held {
    if (this.#held === undefined)
      throw new VouchError('unavailable-server', 'this agent has no identity yet');
    return this.#held;
  }

  #keepFresh(held: Held): Freshness {
    const { notice } = this.#parts;
    return freshness(held, this.#options, {
      ...this.#parts,
      attempt: () => this.#asking(() => renewOrRejoin(this.#options, this.#parts)),
      failed: (error) => this.#identityFailed(error),
      renewed: (renewed) => this.#renewed(renewed),
      dueMs: earlyRenewalDueMs,
      revoked: (detail) => {
        if (detail !== this.#saidRevoked) notice(`REVOKED: the agent's own identity: ${detail}`);
        this.#saidRevoked = detail;
      },
      // A renewal brings CRLs, too.
      changed: () => this.#judge(),
      crlKnown: () => this.#judge(),
      bundle: (bundle) => this.#tookBundle(bundle),
      bundleSequence: () => this.#bundle?.spiffe_sequence ?? -1,
      entries: (sequence) => this.#entries.told(sequence),
      renewWorkloads: (order) => this.#svids.renew(order),
      live: (isLive) => {
        this.#isLive = isLive;
        this.#entries.live(isLive);
        this.#status.want();
      },
    });
  }

  #judge(): void {
    this.#svids.judge();
    this.#publish();
  }

  #renewed(held: Held): void {
    const before = this.#identity.delivered.spiffeId;
    const now = held.delivered.spiffeId;
    this.#held = held;
    this.#identityFailure = null;
    this.#reached();
    this.#saidRevoked = '';
    if (before !== now) {
      this.#parts.notice(`this agent is ${now} now, it was ${before}: its entries are others`);
      this.#cache = undefined;
      this.#bundle = undefined;
      this.#svids.take([]);
      this.#entries.forget();
    }
    this.#svids.retryNow();
    if (this.#entries.failure !== undefined || before !== now) this.#entries.askNow();
    if (held.state.bundle !== undefined) this.#tookBundle(held.state.bundle);
    this.#publish();
    this.#status.want();
  }

  #tookEntries(answer: EntriesAnswer): void {
    this.#known = answer;
    this.#jwts.clear();
    const { trustDomain } = this.#identity.state;
    const entries = answer.entries.flatMap((json) => {
      try {
        return [agentEntry(json, trustDomain)];
      } catch (error) {
        this.#parts.notice(`an entry is passed over: ${String(error)}`);
        return [];
      }
    });
    this.#svids.take(entries);
  }

  #tookBundle(bundle: BundleJson): void {
    const before = this.#bundle;
    if (before !== undefined && bundle.spiffe_sequence <= before.spiffe_sequence) return;
    this.#bundle = bundle;
    // Another statement may tell of another log, where the sequence that is known stands for other entries.
    if (before !== undefined && before.vouch_statement !== bundle.vouch_statement) this.#entries.forget();
    this.#publish();
  }

  #isIssuerKnown(issuerKeyId: string): boolean {
    return this.#identity.chain.some(({ keyId }) => keyId === issuerKeyId);
  }

  /** Makes what is held now what is served; nothing before the first entries and their certificates are there. */
  #publish(): void {
    this.#status.want();
    const [held, bundle, fresh] = [this.#held, this.#bundle, this.#fresh];
    if (!held || !bundle || !fresh || this.#known === undefined) return;
    if (this.workloads.now === undefined && !this.#svids.isComplete) return;
    const trust = trustOf(held, bundle, fresh.keeper);
    if (this.#trust === undefined || !isSameTrust(this.#trust, trust)) this.#trust = trust;
    // Who is told that we are ready finds that in the status; it is kept once it was handed out.
    this.#status.want({ atOnce: this.workloads.now === undefined });
    if (this.workloads.publish(this.#svids.svids, this.#trust)) setImmediate(() => this.#saving.want());
  }

  /** Goes on with the bundle that was seen last and what the cache has, where they hold. */
  #restore(held: Held): void {
    const { clock, notice } = this.#parts;
    const cache = cacheOf(held, this.#options.dir, this.#parts.keyring);
    this.#cache = cache;
    try {
      this.#bundle = keptBundle(held.state, clock.now());
      const content = cache.read();
      if (content === undefined) return;
      const { entries, svids, problems } = restored(content, held.state, clock.now());
      const [problem] = problems;
      if (problem !== undefined)
        notice(`the sealed cache: ${problems.length} of what it holds cannot be used, the first: ${problem}`);
      this.#tookEntries(entries);
      this.#svids.restore(svids);
      this.#entries.restored(entries.sequence);
      this.#publish();
    } catch (error) {
      notice(error instanceof Error ? error.message : String(error));
    }
  }

  async #save(): Promise<void> {
    const known = this.#known;
    if (known === undefined) return;
    const { clock, notice } = this.#parts;
    try {
      this.#cache ??= cacheOf(this.#identity, this.#options.dir, this.#parts.keyring);
      await this.#cache.save(cacheContent(known, this.#svids.slots, clock.now()));
      this.#savedAtMs = clock.now();
      this.#status.want();
    } catch (error) {
      notice(`what is held cannot be kept for a restart: ${String(error)}`);
    }
  }

  #reached(error?: unknown): void {
    const isReachable = !(error instanceof VouchError && error.code.startsWith('unavailable-'));
    const before = this.#reachability;
    const sinceMs = before?.isReachable === isReachable ? before.sinceMs : this.#parts.clock.now();
    const failure = error instanceof Error ? { failure: error.message } : {};
    this.#reachability = { isReachable, sinceMs, ...failure };
    this.#status.want();
  }

  async #writeStatus(): Promise<void> {
    const { clock } = this.#parts;
    const nowMs = clock.now();
    const held = this.#held;
    const status: AgentStatus = {
      pid: process.pid,
      startedAt: rfc3339(this.#startedAtMs),
      writtenAt: rfc3339(nowMs),
      identity: held === undefined ? null : identityStatus(held, nowMs),
      identityFailure: this.#identityFailure,
      server: serverStatus(held, this.#reachability),
      stream: this.#isLive,
      cache: {
        keyIn: this.#cache?.keysIn ?? 'file',
        savedAt: this.#savedAtMs === undefined ? null : rfc3339(this.#savedAtMs),
      },
      entries: this.#svids.slots.map((slot) => entryStatus(slot, clock)),
      parts: Object.fromEntries([...this.statusParts].map(([name, say]) => [name, say()])),
    };
    await this.#statusFile.write(status);
  }
}
