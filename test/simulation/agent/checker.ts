import type { AgentEntryJson } from '../../../src/wire/agent.ts';
import type { Served } from '../../../src/agent/workloads.ts';
import type { Given, Process, Stream } from './host.ts';

/** Problems beyond these add nothing. */
const problemsMost = 10;
const second = 1000;
/** After a disturbance an agent is what it should be again within so long: the longest pause, twice, and a bit. */
export const recoveryMs = 150 * second;
/** Of the CRL that lists a certificate, from its publication. */
const crlMs = 5 * second;
/** Calls to the server in a minute: four that back off by themselves, anew after a start; and what each change of an entry may add. */
const attemptsMost = 75;
const attemptsPerChange = 4;

/** An entry as it was for a while; nothing stands for it while it is suspended or gone. */
interface Version {
  entry: AgentEntryJson;
  fromMs: number;
  untilMs: number;
}

/** What the checker is told of the world, each in Unix milliseconds. */
export interface World {
  nowMs: () => number;
  /** Of an issued certificate. */
  entryOf: (serial: string) => string | undefined;
  lifetimeMs: number;
}

/** Holds what workloads are given against what the server had, and when the agent could know. */
export class Checker {
  readonly problems: string[] = [];
  readonly #world: World;
  /** The newest versions of those that are neither suspended nor gone. */
  readonly #standing = new Map<string, Version>();
  readonly #versions = new Map<string, Version[]>();
  readonly #revoked = new Map<string, number>();
  readonly #changes: number[] = [];
  /** Per process and entry: when all was in order for the last time. */
  readonly #inOrder = new WeakMap<Process, Map<string, number>>();
  /** Since when nothing disturbs the agent; undefined: something does. */
  calmSinceMs: number | undefined;
  /** What the server had until then the agent knows. */
  #knownMs = 0;
  #pauses = new Map<number, number>();
  #pauseCount = 0;
  checked = 0;

  constructor(world: World) {
    this.#world = world;
  }

  problem(text: string): void {
    if (this.problems.length < problemsMost && !this.problems.includes(text)) this.problems.push(text);
  }

  /** An entry is another from now on; undefined: it is suspended or gone. */
  changed(entryId: string, entry: AgentEntryJson | undefined): void {
    const nowMs = this.#world.nowMs();
    const versions = this.#versions.get(entryId) ?? [];
    const last = versions.at(-1);
    if (last && last.untilMs > nowMs) last.untilMs = nowMs;
    this.#standing.delete(entryId);
    if (entry) {
      const version = { entry, fromMs: nowMs, untilMs: Number.POSITIVE_INFINITY };
      versions.push(version);
      this.#standing.set(entryId, version);
    }
    this.#versions.set(entryId, versions);
    this.#changes.push(nowMs);
  }

  revoked(serial: string): void {
    this.#revoked.set(serial, this.#world.nowMs());
  }

  /** A stream was given this, or still has it. */
  given(stream: Stream, all: readonly Given[], isNew: boolean): void {
    if (isNew && !stream.process.isAlive)
      this.problem(
        `pid ${stream.pid}: a process that has ended was given ${all.map((one) => one.spiffeId).join(' ')}`,
      );
    for (const one of all) {
      this.checked += 1;
      const why = this.#wrong(stream, one);
      if (why !== undefined)
        this.problem(`${one.spiffeId} ${isNew ? 'given to' : 'left with'} pid ${stream.pid}: ${why}`);
      const entryId = this.#world.entryOf(one.leaf.serial);
      if (isNew && entryId !== undefined) stream.process.held.set(entryId, one);
    }
  }

  #wrong({ process }: Stream, { spiffeId, leaf, isKeyRight }: Given): string | undefined {
    const entryId = this.#world.entryOf(leaf.serial);
    if (entryId === undefined) return `serial ${leaf.serial} was never issued`;
    if (!isKeyRight) return 'the key is another';
    if (leaf.uris.join(' ') !== spiffeId) return `the certificate is for ${leaf.uris.join(' ')}`;
    if (leaf.dnsNames.length > 0) return `the certificate has ${leaf.dnsNames.join(' ')}, the entry does not`;
    const standing = (this.#versions.get(entryId) ?? []).filter(({ untilMs }) => untilMs > this.#knownMs);
    if (standing.length === 0) return `entry ${entryId} is suspended, or gone`;
    const named = standing.filter(({ entry }) => entry.spiffeId === spiffeId);
    if (named.length === 0) return `entry ${entryId} has another name`;
    const { selectors: shown } = process;
    if (!named.some(({ entry }) => entry.selectors.every((one) => shown.has(one))))
      return `it shows ${[...shown].join(' ')}, not ${named.at(-1)?.entry.selectors.join(' ')}`;
    const revokedMs = this.#revoked.get(leaf.serial);
    if (revokedMs !== undefined && revokedMs < this.#knownMs - crlMs) return 'it is revoked';
    return undefined;
  }

  /** Each second. `tolerance`: how far the agent's clock is off. */
  second(processes: Iterable<Process>, streams: Iterable<Stream>, toleranceMs: number): void {
    const nowMs = this.#world.nowMs();
    if (this.#isCalm(nowMs)) this.#knownMs = nowMs - second;
    for (const stream of streams) if (!stream.isOver) this.given(stream, stream.last, false);
    for (const process of processes) this.#available(process, nowMs, toleranceMs);
  }

  #isCalm(nowMs: number): boolean {
    return this.calmSinceMs !== undefined && this.calmSinceMs <= nowMs - recoveryMs;
  }

  /** Whoever could get a certificate has one that is good for as long as half a life of outage. */
  #available(process: Process, nowMs: number, toleranceMs: number): void {
    const inOrder = this.#inOrder.get(process) ?? new Map<string, number>();
    this.#inOrder.set(process, inOrder);
    const settledMs = nowMs - recoveryMs;
    for (const [entryId, version] of this.#standing) {
      const isMine = version.entry.selectors.every((one) => process.selectors.has(one));
      const held = process.held.get(entryId);
      const revokedMs = held && this.#revoked.get(held.leaf.serial);
      if (!isMine || (revokedMs !== undefined && revokedMs > settledMs)) {
        inOrder.delete(entryId);
        continue;
      }
      const since = Math.max(version.fromMs, process.bornMs);
      if (this.#isCalm(nowMs) && since <= settledMs) inOrder.set(entryId, nowMs);
      const lastMs = inOrder.get(entryId);
      if (lastMs === undefined || lastMs < since || nowMs - lastMs > this.#world.lifetimeMs / 2 - toleranceMs)
        continue;
      const isGood =
        held?.spiffeId === version.entry.spiffeId &&
        nowMs <= held.leaf.notAfterMs + 999 &&
        (revokedMs === undefined || !this.#isCalm(nowMs));
      if (!isGood)
        this.problem(
          `${version.entry.spiffeId} (entry ${entryId}): pid ${process.pid} has no good certificate, ${Math.round((nowMs - lastMs) / second)} s after all was in order (${held ? `held until ${new Date(held.leaf.notAfterMs).toISOString()}` : 'nothing held'})`,
        );
    }
  }

  /** At each change of what an agent serves: who loses a certificate that is good lost its entry, too. */
  dropped(before: Served, after: Served, agentNowMs: number): void {
    for (const { entryId, spiffeId, serial, notBeforeMs, notAfterMs } of before.svids) {
      if (after.svids.some((svid) => svid.entryId === entryId) || agentNowMs > notAfterMs) continue;
      if (notBeforeMs + 60 * second >= this.#standsSince(entryId, spiffeId) && !this.#revoked.has(serial))
        this.problem(`${spiffeId}: a good certificate is served no more`);
    }
  }

  /** A new life of the agent, with its cache: it goes on with what the one before it had, of which this was kept. */
  restarted(kept: Served['svids'], now: Served | undefined, agentNowMs: number): void {
    for (const { entryId, spiffeId, serial, notAfterMs } of kept) {
      const isGood = agentNowMs <= notAfterMs && !this.#revoked.has(serial);
      if (!isGood || this.#standing.get(entryId)?.entry.spiffeId !== spiffeId) continue;
      if (now?.svids.some((svid) => svid.entryId === entryId) !== true)
        this.problem(`${spiffeId}: a restart does not go on with a good certificate`);
    }
  }

  /** Since when an entry has this name without a break; for ever not where it has not. */
  #standsSince(entryId: string, spiffeId: string): number {
    let sinceMs = Number.POSITIVE_INFINITY;
    for (const { entry, fromMs, untilMs } of (this.#versions.get(entryId) ?? []).toReversed()) {
      if (untilMs !== sinceMs || entry.spiffeId !== spiffeId) break;
      sinceMs = fromMs;
    }
    return sinceMs;
  }

  /** The times at which somebody called the server within the last minute. */
  attempts(times: readonly number[]): void {
    const nowMs = this.#world.nowMs();
    while ((this.#changes[0] ?? nowMs) < nowMs - 65 * second) this.#changes.shift();
    const most = attemptsMost + attemptsPerChange * this.#changes.length;
    if (times.length > most) this.problem(`a storm: ${times.length} calls within a minute, ${most} would do`);
  }

  /** A pause between two attempts while the server was away. */
  pause(ms: number): void {
    this.#pauseCount += 1;
    const rounded = Math.round(ms / 10);
    this.#pauses.set(rounded, (this.#pauses.get(rounded) ?? 0) + 1);
  }

  /** Pauses of a fleet that is in step repeat. */
  end(): void {
    const most = Math.max(0, ...this.#pauses.values());
    if (this.#pauseCount > 100 && most > this.#pauseCount / 10)
      this.problem(`no jitter: ${most} of ${this.#pauseCount} pauses while the server was away are the same`);
  }
}
