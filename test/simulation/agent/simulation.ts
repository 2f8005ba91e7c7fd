import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '../../fakes/clock.ts';
import { Random } from '../../kills/random.ts';
import type { Served } from '../../../src/agent/workloads.ts';
import { Checker, recoveryMs } from './checker.ts';
import { Host, type Process, Stream } from './host.ts';
import { MemoryNetwork } from './memory-network.ts';
import { lifetimeMs, SimulatedServer } from './server.ts';
import { SimulatedAgent } from './simulated-agent.ts';
import { VirtualTime } from './virtual-time.ts';

/** What `npm run test:agent-hours` takes. */
export interface SimulationOptions {
  hours: number;
  seed: number;
  /** Told what happens, and what the agent says. */
  notice?: (line: string) => void;
}

/** What was done, and what is wrong. */
export interface SimulationResult {
  /** Hex SHA-256 of what happened and when: the same for the same seed. */
  trace: string;
  counts: Record<string, number>;
  problems: string[];
}

/** Its files are lost with the machine anyway. */
const memory = '/dev/shm';
const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
/** What is made by chance without the seed: serials and hashes, ports, names of folders. */
const accidents = /[0-9a-f]{12,}|(?<=127\.0\.0\.1:)\d+|(?<=vouch-hours-)\w+/g;
/** Few, so that their numbers are soon given again. */
const pids = [101, 102, 103, 104, 105, 106, 107, 108];
const shapes = { uids: [1000, 1001], paths: ['/app/a', '/app/b'] };
/** How far a wrong clock is off; certificates are taken up to five minutes. */
const clockOffMs = 4 * minute;
/** After a change all of it is in the cache; after a start it is served from there. */
const savedMs = 5 * second;
const restartMs = 10 * second;
/** Longest that a look into /proc takes; there are two to a process. What a stream is told of is to be there within a second. */
const lookMs = 100;
/** Things in memory that an agent at rest has. */
const timersMost = 120;
const connectionsMost = 60;

/** Runs one simulation; the same choices for the same seed. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { seed } = options;
  const time = new VirtualTime(new FakeClock());
  time.install(new Random(seed, 2));
  const folder = mkdtempSync(join(existsSync(memory) ? memory : tmpdir(), 'vouch-hours-'));
  try {
    const random = new Random(seed, 1);
    const { promise: checker, resolve } = Promise.withResolvers<Checker>();
    const server = await SimulatedServer.start(random, (own) => {
      const made = new Checker({
        nowMs: () => time.nowMs,
        entryOf: (serial) => own().entries.issued.get(serial),
        lifetimeMs,
      });
      resolve(made);
      return made;
    });
    const { authority, listeners } = server.fake;
    const network = new MemoryNetwork({ ...listeners, root: authority.root.der, nowMs: () => time.nowMs });
    network.install();
    try {
      const parts = { time, server, network, checker: await checker, folder };
      return await new Simulation(options, parts).run();
    } finally {
      network.restore();
      await server.fake.stop();
    }
  } finally {
    time.restore();
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Parts {
  time: VirtualTime;
  server: SimulatedServer;
  network: MemoryNetwork;
  checker: Checker;
  folder: string;
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #random: Random;
  readonly #time: VirtualTime;
  readonly #server: SimulatedServer;
  readonly #network: MemoryNetwork;
  readonly #checker: Checker;
  readonly #host: Host;
  readonly #agent: SimulatedAgent;
  readonly #streams = new Set<Stream>();
  readonly #counts: Record<string, number> = {};
  readonly #trace = createHash('sha256');
  readonly #startMs: number;
  /** What is wrong with the server or the way to it, and until when. */
  #trouble: { what: string; untilMs: number } | undefined;
  /** By the steps of time. */
  #diesAtStep: number | undefined;
  /** Nothing is sure to have been renewed since. */
  #troubleSinceMs: number | undefined;
  #startsAtMs: number | undefined;
  #joinsAtMs: number | undefined;
  /** The agent has nothing to go on with: its cache does not open. */
  #isWithoutCache = false;
  #lastAttemptMs: number | undefined;
  #changedAtMs = 0;
  /** What the next life has to go on with, and from when on. */
  #kept: { svids: Served['svids']; fromMs: number } | undefined;

  constructor(options: SimulationOptions, { time, server, network, checker, folder }: Parts) {
    this.#options = options;
    this.#random = new Random(options.seed, 0);
    this.#time = time;
    this.#server = server;
    this.#network = network;
    this.#checker = checker;
    this.#startMs = time.nowMs;
    this.#host = new Host(() => time.sleep(this.#random.chance(0.7) ? 1 : this.#random.between(0, lookMs)));
    this.#agent = new SimulatedAgent(folder, { time, host: this.#host });
    this.#agent.ended = (why) => checker.problem(`the agent ended: ${why}`);
    this.#agent.changed = (before, after) => {
      this.#changedAtMs = time.nowMs;
      if (before !== undefined) checker.dropped(before, after, time.clock.now());
    };
    this.#agent.said = (line) => this.#say(`agent: ${line}`);
    time.turned = () => this.#turned();
  }

  async run(): Promise<SimulationResult> {
    const { hours } = this.#options;
    this.#agent.join(this.#server.fake.joinLine());
    for (let at = 0; at < 4; at += 1) this.#server.changeEntry(shapes);
    this.#agent.start();
    this.#checker.calmSinceMs = this.#time.nowMs;
    const endMs = this.#startMs + hours * hour;
    while (this.#time.nowMs < endMs && this.#checker.problems.length === 0) {
      await this.#time.pass(second - (this.#time.nowMs % second));
      await this.#happen();
      await this.#time.settle();
      if (this.#agent.isDead) await this.#betweenLives();
      this.#check();
    }
    this.#checker.end();
    this.#agent.kill();
    await this.#agent.bury({ losesKeyring: false, olderCache: false });
    const trace = this.#trace.digest('hex');
    return {
      trace,
      counts: { ...this.#counts, checked: this.#checker.checked },
      problems: this.#checker.problems,
    };
  }

  #count(what: string): void {
    this.#counts[what] = (this.#counts[what] ?? 0) + 1;
    this.#say(what);
  }

  #say(line: string): void {
    const elapsed = new Date(this.#time.nowMs - this.#startMs);
    const hours = Math.floor(elapsed.getTime() / hour);
    const text = `${hours}:${elapsed.toISOString().slice(14, 19)} ${line}`;
    this.#trace.update(text.replaceAll(accidents, ''));
    this.#options.notice?.(text);
  }

  /** Once in so long, on average. */
  #each(ms: number): boolean {
    return this.#random.chance(second / ms);
  }

  /** What may happen in one second. */
  async #happen(): Promise<void> {
    const { nowMs } = this.#time;
    if (nowMs % (5 * second) < second) this.#server.heartbeat();
    if (nowMs % (10 * minute) < second) await this.#server.publish();
    if (nowMs % minute < second) this.#server.forget();
    if (this.#trouble === undefined ? this.#each(40 * minute) : nowMs >= this.#trouble.untilMs)
      this.#turnTrouble();
    if (this.#each(8 * minute)) this.#changeEntry();
    if (this.#each(40 * minute)) await this.#revoke();
    if (this.#each(6 * hour)) await this.#server.turnBundle();
    if (this.#each(2 * hour)) this.#stepClock();
    if (this.#diesAtStep === undefined && this.#each(this.#isAway ? 20 * minute : 90 * minute))
      this.#armDeath();
    for (const pid of pids) {
      if (this.#each(20 * minute)) this.#host.end(pid);
      if (!this.#host.processes.has(pid) && this.#each(30 * second)) this.#start(pid);
    }
    for (const process of this.#host.processes.values()) this.#connect(process);
    for (const stream of this.#streams) this.#disconnect(stream);
    this.#operate();
  }

  get #isAway(): boolean {
    return this.#network.outage !== undefined;
  }

  #changeEntry(): void {
    this.#server.changeEntry(shapes);
    this.#count('changes of entries');
  }

  async #revoke(): Promise<void> {
    const svid = this.#random.pick(this.#agent.served?.svids ?? []);
    if (svid === undefined) return;
    await this.#server.revoke(svid.serial);
    this.#count('revocations');
  }

  #turnTrouble(): void {
    const { nowMs } = this.#time;
    this.#network.heal();
    this.#network.losesAnswer = () => false;
    this.#server.behave();
    if (this.#trouble !== undefined) {
      this.#trouble = undefined;
      this.#checker.calmSinceMs = nowMs;
      return;
    }
    const what = this.#random.pick([
      'refused',
      'refused',
      'silent',
      'cut',
      'lossy',
      'busy',
      'refusing',
      'bent',
    ])!;
    const lifetimes = this.#random.chance(0.1) ? 1.3 : this.#random.unit() ** 2 * 0.9;
    this.#trouble = { what, untilMs: nowMs + 2 * second + lifetimes * lifetimeMs };
    this.#troubleSinceMs ??= nowMs;
    this.#checker.calmSinceMs = undefined;
    this.#count(`trouble: ${what}`);
    this.#begin(what);
  }

  #begin(what: string): void {
    if (what === 'refused' || what === 'cut') this.#network.cut();
    if (what === 'refused' || what === 'silent') this.#network.outage = what;
    if (what === 'lossy') this.#network.losesAnswer = () => this.#random.chance(0.5);
    if (what === 'busy') this.#server.beBusy();
    if (what === 'refusing') this.#server.refuseSome();
    if (what === 'bent') this.#server.bendAnswers();
  }

  #stepClock(): void {
    const { clock, nowMs } = this.#time;
    clock.step(nowMs + Math.round(this.#random.between(-clockOffMs, clockOffMs)) - clock.now());
    this.#count('steps of the clock');
  }

  /** Somewhere in what comes next; half of the time something has it do much at once. */
  #armDeath(): void {
    this.#diesAtStep = this.#time.steps + Math.floor(this.#random.between(0, 5) ** 3);
    if (this.#random.chance(0.5)) this.#changeEntry();
  }

  #turned(): void {
    if (this.#diesAtStep === undefined || this.#agent.isDead || this.#time.steps < this.#diesAtStep) return;
    this.#diesAtStep = undefined;
    const isKept = this.#changedAtMs < this.#time.nowMs - savedMs;
    this.#kept = isKept
      ? { svids: this.#agent.served?.svids ?? [], fromMs: Number.POSITIVE_INFINITY }
      : undefined;
    this.#agent.kill();
    for (const stream of this.#streams) stream.close();
  }

  /** After some seconds, or a few minutes, the next one starts. */
  async #betweenLives(): Promise<void> {
    const { nowMs } = this.#time;
    if (this.#startsAtMs === undefined) {
      this.#startsAtMs =
        nowMs + (this.#random.chance(0.7) ? 2 * second : this.#random.between(0, 5 * minute));
      this.#network.cut();
      this.#count('deaths');
    }
    if (nowMs < this.#startsAtMs) return;
    this.#startsAtMs = undefined;
    const losesKeyring = this.#random.chance(0.15);
    // Whoever puts an older cache back does it while nobody contradicts.
    const olderCache = this.#random.chance(this.#isAway ? 0.4 : 0.1);
    const { isOlder } = await this.#agent.bury({ losesKeyring, olderCache });
    if (isOlder) this.#count('older caches put back');
    if (losesKeyring) this.#count('keyrings lost');
    this.#isWithoutCache = isOlder || losesKeyring;
    if (this.#isWithoutCache || this.#isIdentityOld) this.#kept = undefined;
    if (this.#kept !== undefined) this.#kept.fromMs = this.#time.nowMs + restartMs;
    this.#agent.start();
    if (this.#trouble === undefined) this.#checker.calmSinceMs = this.#time.nowMs;
  }

  /** The agent's own certificate may be over. */
  get #isIdentityOld(): boolean {
    const { nowMs, clock } = this.#time;
    const sinceMs = this.#troubleSinceMs ?? nowMs;
    return nowMs - sinceMs > lifetimeMs / 2 - Math.abs(clock.now() - nowMs) - recoveryMs;
  }

  #start(pid: number): void {
    const uid = this.#random.pick(shapes.uids)!;
    const path = this.#random.pick(shapes.paths)!;
    this.#host.start({ pid, uid, path, bornMs: this.#time.nowMs });
    this.#count('processes');
  }

  #connect(process: Process): void {
    const { api } = this.#agent;
    const has = [...this.#streams].some((stream) => stream.process === process);
    if (api === undefined || has || !this.#random.chance(0.3)) return;
    const stream = new Stream(process, (own, given) => {
      this.#trace.update(`${this.#time.nowMs} ${own.pid} ${given.map((one) => one.spiffeId).join(' ')}\n`);
      this.#checker.given(own, given, true);
    });
    this.#streams.add(stream);
    void stream.open(api);
    // Who ends in the middle of it leaves the connection to somebody else, and its number.
    if (!this.#random.chance(0.03)) return;
    const { pid } = process;
    setTimeout(() => this.#start(pid), this.#random.between(1, 2 * lookMs));
  }

  /** The connection of a process that has ended may be held by others for a while. */
  #disconnect(stream: Stream): void {
    if (!stream.isOver && !stream.process.isAlive && this.#random.chance(0.05)) stream.close();
    if (stream.isOver) this.#streams.delete(stream);
  }

  /** Gives a new join file to an agent that has lost its identity. */
  #operate(): void {
    const { nowMs } = this.#time;
    if (this.#joinsAtMs === undefined) {
      if (this.#agent.isLost && this.#trouble === undefined)
        this.#joinsAtMs = nowMs + this.#random.between(5, 120) * second;
      return;
    }
    if (nowMs < this.#joinsAtMs) return;
    this.#joinsAtMs = undefined;
    this.#agent.join(this.#server.fake.joinLine());
    this.#count('join files');
    if (this.#trouble === undefined) this.#checker.calmSinceMs = nowMs;
  }

  #check(): void {
    const { nowMs, clock } = this.#time;
    const toleranceMs = Math.abs(clock.now() - nowMs);
    if (this.#agent.isDead || this.#joinsAtMs !== undefined) this.#checker.calmSinceMs &&= nowMs;
    this.#checker.second(this.#host.processes.values(), this.#streams, toleranceMs);
    const { calmSinceMs = nowMs } = this.#checker;
    if (nowMs - calmSinceMs > recoveryMs) this.#troubleSinceMs = undefined;
    if (this.#kept !== undefined && nowMs >= this.#kept.fromMs) {
      this.#checker.restarted(this.#kept.svids, this.#agent.served, clock.now());
      this.#kept = undefined;
    }
    const { attempts } = this.#network;
    while ((attempts[0] ?? nowMs) <= nowMs - minute) attempts.shift();
    this.#checker.attempts(attempts);
    this.#watchPauses(attempts);
    if (this.#isWithoutCache && this.#isAway && this.#agent.served !== undefined)
      this.#checker.problem('an agent whose cache was put back, or lost its key, serves from it');
    if (!this.#isAway) this.#isWithoutCache = false;
    this.#bounds();
  }

  #watchPauses(attempts: readonly number[]): void {
    const last = attempts.at(-1);
    if (last === undefined || last === this.#lastAttemptMs) return;
    const before = this.#lastAttemptMs;
    this.#lastAttemptMs = last;
    this.#trace.update(`${last}\n`);
    if (this.#network.outage === 'refused' && before !== undefined && last - before > 50)
      this.#checker.pause(last - before);
  }

  #bounds(): void {
    const [timers, { connections }] = [this.#time.timers.size, this.#network];
    this.#counts['most timers'] = Math.max(this.#counts['most timers'] ?? 0, timers);
    this.#counts['most connections'] = Math.max(this.#counts['most connections'] ?? 0, connections);
    if (timers > timersMost) this.#checker.problem(`${timers} timers wait`);
    if (connections > connectionsMost) this.#checker.problem(`${connections} connections are open`);
    if ((this.#agent.api?.streams ?? 0) > this.#streams.size)
      this.#checker.problem('streams that have ended are kept');
  }
}
