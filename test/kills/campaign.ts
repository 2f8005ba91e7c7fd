import { setTimeout as sleep } from 'node:timers/promises';
import type { Auditor } from './auditor.ts';
import { type Authority, exitOf, type Made, type Start } from './authority.ts';
import type { ClientsProcess } from './clients-process.ts';
import { type Plan, planKill } from './plan.ts';
import { History } from './history.ts';
import { ended, kill, processesOf } from './processes.ts';
import { Random } from './random.ts';
import { Reader } from './reader.ts';
import { percentile, type Result } from './result.ts';
import type { Verdicts } from './verdicts.ts';

/** The trust domain of the authority under test. */
export const trustDomain = 'kills.test';

const clients = 8;
const auditEvery = 10;
/** Until an event that a kill is aimed at; then it comes all the same. */
const aimMs = 1500;
/** A signer that lost its server ends by itself. */
const orphanMs = 5000;
const usableMs = 15_000;
/** At signers that may be killed. */
const looksMost = 3;
const drainMs = 60_000;

interface Parts {
  options: { kills: number; seed: number };
  authority: Authority;
  users: ClientsProcess;
  auditor: Auditor;
  verdicts: Verdicts;
  notice: (line: string) => void;
}

/** One authority under its clients, killed and started again, and looked at in between and at the end. */
export class Campaign {
  readonly #parts: Parts;
  readonly #random: Random;
  readonly #recoveriesMs: number[] = [];
  readonly #orphans = new Set<Promise<void>>();
  readonly #history: History;
  readonly #reading = new AbortController();
  #reader: Reader | undefined;
  #reads: Promise<void> | undefined;
  #start: Start | undefined;
  /** What the last kill took, and when. */
  #broken: { victim: 'server' | 'signer'; atMs: number } | undefined;
  #signerPid: number | undefined;
  #kills = 0;
  /** Signers that had ended by the time they were to be killed. */
  #replaced = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#random = new Random(parts.options.seed, 0);
    this.#history = new History((event) => parts.auditor.take(event));
  }

  /** A campaign that cannot go on ends early, with the reason among its faults. */
  async run(made: Made): Promise<Result> {
    const { users, auditor, verdicts } = this.#parts;
    users.onEvent = (event) => auditor.take(event);
    try {
      await this.#begin(made);
      await this.#killAll();
      await this.#finish();
    } catch (error) {
      verdicts.add('faults', error instanceof Error ? error.message : String(error));
      await this.#stopReading();
      // What cannot be started again can still be looked at.
      await auditor.audit('stopped');
    }
    return this.#result();
  }

  async #begin(made: Made): Promise<void> {
    const { options, authority, users, notice } = this.#parts;
    const { seed } = options;
    this.#start = authority.start();
    this.#signerPid = (await this.#start.ready).signerPid;
    notice(`seed ${seed}: ${clients} clients at ${made.enrollmentUrl}, state in ${authority.folder}`);
    this.#reader = new Reader({
      ...made,
      history: this.#history,
      random: new Random(seed, 1),
      stopping: this.#reading.signal,
    });
    this.#reads = this.#reader.run();
    users.begin({
      seed,
      clients,
      trustDomain,
      adminSocket: authority.adminSocket,
      folder: authority.folder,
    });
  }

  async #killAll(): Promise<void> {
    const { options, users, auditor, notice } = this.#parts;
    while (this.#kills < options.kills) {
      if (!users.isAlive) throw new Error('without clients there is nothing to test');
      await this.#killOne();
      if (this.#kills % auditEvery !== 0 || this.#kills === options.kills) continue;
      await this.#recover();
      await auditor.audit('running');
      notice(this.#progress());
    }
  }

  async #killOne(): Promise<void> {
    const plan = planKill(this.#random, this.#broken?.victim === 'server');
    if (plan.after !== 'start') {
      await this.#recover();
      if (plan.after !== 'ready') await this.#parts.users.next(plan.after, aimMs);
    }
    await sleep(plan.delayMs);
    // One that is ready by now is killed as such, and its time counts.
    if (this.#start?.isReady === true) await this.#recover();
    await this.#strike(plan);
  }

  async #strike(plan: Plan): Promise<void> {
    const start = this.#start;
    if (start === undefined) throw new Error('a kill before any start');
    if (plan.victim === 'signer' && (await this.#strikeSigner())) return;
    const signers = this.#signers();
    this.#kills += 1;
    const exited = exitOf(start.child);
    if (plan.victim === 'both') for (const pid of signers) kill(pid);
    this.#broken = { victim: 'server', atMs: performance.now() };
    start.child.kill('SIGKILL');
    await exited;
    this.#history.record({ kind: 'killed' });
    for (const pid of signers) this.#expectEnd(pid);
    // As a supervisor does it: at once, whether the old signer is gone or not.
    this.#start = this.#parts.authority.start();
  }

  /** False where there is none, as while a server starts. One that is gone before it is killed is looked for again. */
  async #strikeSigner(): Promise<boolean> {
    const { authority, verdicts, options } = this.#parts;
    const isAtRest = this.#broken === undefined;
    for (let looks = 0; looks < looksMost; looks += 1) {
      const atMs = performance.now();
      if (this.#signers().filter(kill).length > 0) {
        this.#broken = { victim: isAtRest ? 'signer' : 'server', atMs };
        this.#kills += 1;
        return true;
      }
      if (!isAtRest) return false;
      // A server under load takes a signer that does not answer in time for one that hangs, and starts another.
      this.#replaced += 1;
      if (this.#replaced > 1 + options.kills / 20)
        verdicts.add('faults', `${this.#replaced} signers had ended before they were killed`);
      this.#signerPid = await authority.signerOtherThan(this.#signerPid, usableMs);
    }
    verdicts.add('faults', 'no signer stays long enough to be killed');
    return false;
  }

  /** While a server starts, what is there: the last one's, its own, both or none. Looking takes too long for an aim. */
  #signers(): number[] {
    if (this.#broken === undefined) return this.#signerPid === undefined ? [] : [this.#signerPid];
    const found = processesOf(this.#parts.authority.folder);
    return found.filter(({ role }) => role === 'signer').map(({ pid }) => pid);
  }

  /** Waits until what the last kill took is back, and takes the time. */
  async #recover(): Promise<void> {
    const { authority, auditor } = this.#parts;
    const broken = this.#broken;
    if (broken === undefined) return;
    this.#broken = undefined;
    if (broken.victim === 'signer') {
      this.#signerPid = await authority.signerOtherThan(this.#signerPid, usableMs);
      this.#recoveriesMs.push(performance.now() - broken.atMs);
    } else {
      const ready = await this.#start?.ready;
      this.#signerPid = ready?.signerPid;
      this.#recoveriesMs.push((ready?.atMs ?? performance.now()) - broken.atMs);
      this.#history.record({ kind: 'ready' });
    }
    // Not before: whoever opens the database first mends it, and that must be the server.
    auditor.glance();
  }

  #expectEnd(pid: number): void {
    const watch = ended(pid, this.#parts.authority.folder, orphanMs).then((afterMs) => {
      this.#orphans.delete(watch);
      if (afterMs !== undefined) return;
      this.#parts.verdicts.add('faults', `the signer ${pid} outlived its server by ${orphanMs} ms`);
    });
    this.#orphans.add(watch);
  }

  async #finish(): Promise<void> {
    const { auditor } = this.#parts;
    await this.#recover();
    this.#parts.users.tell({ command: 'drain' });
    if (!(await this.#parts.users.next('drained', drainMs)))
      this.#parts.verdicts.add('faults', `clients or operator were not answered within ${drainMs} ms`);
    await this.#stopReading();
    await this.#reader?.readAll();
    auditor.finish();
    await auditor.audit('ending');
    const code = await this.#parts.authority.stop();
    if (code !== 0) this.#parts.verdicts.add('faults', `the server did not stop when asked (exit ${code})`);
    await Promise.all(this.#orphans);
    this.#parts.users.end();
    await this.#expectNoProcess();
    await auditor.audit('stopped');
  }

  async #stopReading(): Promise<void> {
    this.#reading.abort();
    await this.#reads;
  }

  async #expectNoProcess(): Promise<void> {
    const { authority, verdicts } = this.#parts;
    const left = processesOf(authority.folder).map(async ({ pid, role }) => {
      if ((await ended(pid, authority.folder, orphanMs)) === undefined)
        verdicts.add('faults', `a process stays: ${role} ${pid}`);
    });
    await Promise.all(left);
  }

  #result(): Result {
    const { auditor } = this.#parts;
    const count = (verdict: Parameters<Verdicts['count']>[0]): number => this.#parts.verdicts.count(verdict);
    const recoverMsP99 = Math.round(percentile(this.#recoveriesMs, 0.99));
    const limitMs = process.env.CI === 'true' ? 6000 : 2000;
    const { acked, revoked } = auditor;
    const problems: string[] = [];
    if (!this.#parts.verdicts.isClean) problems.push('something is wrong, see above');
    if (recoverMsP99 >= limitMs)
      problems.push(`ready again in ${recoverMsP99} ms (p99), ${limitMs} is the limit`);
    if (acked === 0) problems.push('no client got a certificate');
    return {
      counts: {
        kills: this.#kills,
        acked,
        lost: count('lost'),
        duplicates: count('duplicates'),
        orphans: count('orphans'),
        regressions: count('regressions'),
        recoverMsP99,
      },
      revoked,
      faults: count('faults'),
      recoverMsMedian: Math.round(percentile(this.#recoveriesMs, 0.5)),
      problems,
    };
  }

  #progress(): string {
    const { acked, revoked } = this.#parts.auditor;
    const p99 = Math.round(percentile(this.#recoveriesMs, 0.99));
    return `${this.#kills}/${this.#parts.options.kills} kills, ${acked} certificates, ${revoked} revocations, back within ${p99} ms (p99)`;
  }
}
