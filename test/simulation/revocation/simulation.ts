import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { shardOf } from '../../../src/core/publication.ts';
import { newSerial } from '../../../src/core/serial.ts';
import type { Reason } from '../../../src/core/reasons.ts';
import { defaultCrlTiming } from '../../../src/revocation/publisher.ts';
import { Random } from '../../kills/random.ts';
import {
  publicationUrl,
  type SoftwareAuthority,
  softwareAuthority,
} from '../../support/software-authority.ts';
import { Checker } from './checker.ts';
import { type Certificate, Model } from './model.ts';
import { SecondReader } from './second-reader.ts';
import { SimulatedServer, storeFailure } from './server.ts';
import { SimulatedTime } from './simulated-time.ts';

/** What `npm run test:revocations` takes. */
export interface SimulationOptions {
  /** Certificates to revoke or put on hold; what follows on that comes on top. */
  revocations: number;
  seed: number;
  /** Told now and then. */
  notice?: (line: string) => void;
}

/** What was done, and what is wrong. */
export interface SimulationResult {
  counts: Record<string, number>;
  /** Published CRLs that are untrue, and whatever else must not be. */
  problems: string[];
  /** What the publisher itself held back, with an alarm. */
  refused: string[];
}

/** A process that dies loses nothing of what it wrote: so it need not be written to a disk. */
const memory = '/dev/shm';
const shardCount = 16;
const second = 1000;
const hour = 3600 * second;
const day = 24 * hour;

/** Alarms about what the simulation itself took away. */
const expectedAlarms = [
  'the signer is away',
  'the fake signer is away',
  'the signer is not usable',
  'nothing can be signed now',
  'nothing was signed in time',
  'the clock is behind the last CRL',
  storeFailure,
];

/** A clock that was set back and believed: a shard waits until the time comes that its entries are dated by. */
const waitsForDates = /^not published: (?:\w+: an entry is dated after thisUpdate(?:; )?)+$/;

const reasons: readonly Reason[] = [
  ...(['unspecified', 'keyCompromise', 'affiliationChanged', 'superseded', 'cessationOfOperation'] as const),
  ...(['privilegeWithdrawn', 'certificateHold', 'certificateHold', 'certificateHold'] as const),
];

/** Problems beyond these add nothing. */
const problemsMost = 20;

/** Runs one simulation from nothing to an empty CRL; the same choices for the same seed. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const authority = await softwareAuthority(existsSync(memory) ? { parent: memory } : {});
  await authority.sequencer.close();
  await authority.store.close();
  const time = new SimulatedTime(authority.clock);
  time.install();
  try {
    return await new Simulation(authority, time, options).run();
  } finally {
    time.restore();
    await authority.close();
  }
}

class Simulation {
  readonly #authority: SoftwareAuthority;
  readonly #time: SimulatedTime;
  readonly #options: SimulationOptions;
  readonly #random: Random;
  readonly #model = new Model();
  readonly #checker: Checker;
  readonly #timing = { ...defaultCrlTiming };
  readonly #problems: string[] = [];
  readonly #refused: string[] = [];
  readonly #certificates: Certificate[] = [];
  readonly #counts: Record<string, number> = {};
  #server: SimulatedServer;
  #serials = 0;
  #boots = 0;

  constructor(authority: SoftwareAuthority, time: SimulatedTime, options: SimulationOptions) {
    const { seed } = options;
    this.#authority = authority;
    this.#time = time;
    this.#options = options;
    this.#random = new Random(seed, 0);
    const { issuer } = authority;
    const secondReader = new SecondReader(new Random(seed, 1));
    this.#timing.batchMs = this.#random.chance(0.5) ? 0 : 200;
    this.#checker = new Checker({
      ...{ model: this.#model, issuer, publicationUrl, ...this.#timing },
      secondReader: (crl, serials) => secondReader.read(crl, serials),
    });
    this.#server = this.#newServer();
  }

  async run(): Promise<SimulationResult> {
    await this.#start();
    while ((this.#counts.revoked ?? 0) < this.#options.revocations && this.#mayGoOn) await this.#step();
    if (this.#mayGoOn) await this.#untilCaughtUp();
    if (this.#mayGoOn) await this.#untilAllHaveLeft();
    await this.#end();
    const { published, entriesRead } = this.#checker;
    return {
      counts: { ...this.#counts, published, entriesRead },
      problems: this.#allProblems,
      refused: this.#refused,
    };
  }

  get #allProblems(): string[] {
    return [...this.#checker.problems, ...this.#problems];
  }

  get #mayGoOn(): boolean {
    return this.#allProblems.length === 0 && this.#refused.length < problemsMost;
  }

  /** One thing happens, or a few at once; then it is let run for a while, or not at all. */
  async #step(): Promise<void> {
    await this.#oneOf([
      [30, () => this.#burst()],
      [34, () => this.#passTime()],
      [3, () => this.#server.does(() => this.#server.publisher.publishAll(this.#random.chance(0.5)))],
      [2, () => this.#server.does(() => this.#server.publisher.publishNow(5000))],
      [4, () => this.#toggleSigner()],
      [3, () => this.#spoilSignature()],
      [4, () => this.#failStore()],
      [4, () => this.#setClock()],
      [2, () => this.#server.does(() => this.#server.accept())],
      [6, () => this.#server.mortal.dieAfter(Math.floor(this.#random.between(0, 4) ** 3))],
      [1, () => this.#untilCaughtUp()],
    ]);
    if (this.#random.chance(0.6)) await this.#time.settle();
    else for (let turns = this.#random.between(0, 6); turns > 1; turns -= 1) await this.#time.turn();
    if (this.#server.mortal.isDead) await this.#restart();
  }

  async #oneOf(choices: readonly [weight: number, act: () => unknown][]): Promise<void> {
    let at = this.#random.between(
      0,
      choices.reduce((sum, [weight]) => sum + weight, 0),
    );
    for (const [weight, act] of choices) {
      at -= weight;
      if (at < 0) {
        await act();
        return;
      }
    }
  }

  /** Revocations in random order, some of them of what was revoked before. */
  #burst(): void {
    const most = Math.min(120, Math.max(3, this.#options.revocations / 60));
    for (let left = this.#random.between(1, most); left > 0; left -= 1)
      if (this.#random.chance(0.7)) this.#revokeOne();
      else this.#goOnWith(this.#random.pick(this.#certificates));
  }

  #revokeOne(): void {
    const serial = newSerial(0x2a, (size) => this.#bytes(size));
    const certificate = this.#model.certificate(serial, shardOf(serial, shardCount), this.#expiry());
    this.#certificates.push(certificate);
    this.#count('revoked');
    this.#record(certificate, this.#random.pick(reasons) ?? 'unspecified');
    if (this.#counts.revoked === undefined || this.#counts.revoked % 10_000 > 0) return;
    this.#options.notice?.(
      `${this.#counts.revoked} revoked, ${this.#checker.entries('full')} on the full CRL`,
    );
  }

  /** Released, for a worse reason, on hold again, or what the store has to refuse. */
  #goOnWith(certificate: Certificate | undefined): void {
    if (!certificate) return;
    const stands = certificate.last;
    const isHeld = stands?.date !== undefined && stands.reason === 'certificateHold';
    this.#count('followed');
    this.#record(
      certificate,
      isHeld && this.#random.chance(0.7) ? 'removeFromCRL' : (this.#random.pick(reasons) ?? 'unspecified'),
    );
  }

  #record({ serial, shard, notAfterMs }: Certificate, reason: Reason): void {
    const revokedAtMs = this.#server.guard.revocationTimeMs();
    const hasInvalidity = reason !== 'removeFromCRL' && this.#random.chance(0.2);
    this.#server.record({
      ...{ issuerKeyId: this.#authority.issuer.keyId, serial, shard: Number(shard), notAfterMs, reason },
      ...{ revokedAtMs, operator: 'uid:0', salt: this.#bytes(16) },
      ...(hasInvalidity && {
        invalidityDateSeconds: Math.floor(revokedAtMs / second - this.#random.between(0, 1e6)),
      }),
    });
  }

  /** Some are over already, most within a day, some in a week. */
  #expiry(): number {
    const lifeMs = this.#random.chance(0.4)
      ? this.#random.between(-60 * second, hour)
      : this.#random.chance(0.6)
        ? this.#random.between(0, day)
        : this.#random.between(0, 8 * day);
    return Math.floor((this.#authority.clock.now() + lifeMs) / second) * second;
  }

  /** A large run comes to a large CRL first: little time passes in it. */
  async #passTime(): Promise<void> {
    const isGrowing =
      this.#options.revocations > 20_000 && (this.#counts.revoked ?? 0) < this.#options.revocations / 2;
    const longest = isGrowing ? 60 * second : this.#random.chance(0.15) ? 12 * hour : 20 * 60 * second;
    await this.#pass(
      this.#random.chance(0.5) ? this.#random.between(0, 3 * second) : this.#random.between(0, longest),
    );
  }

  async #pass(wantedMs: number): Promise<void> {
    // Each second that the signer is away is asked for.
    const ms = this.#authority.signer.state === 'usable' ? wantedMs : Math.min(wantedMs, 30 * second);
    const steps = Math.ceil(this.#random.between(0, 3));
    for (let step = 0; step < steps && !this.#server.mortal.isDead; step += 1) {
      await this.#time.pass(ms / steps);
      if (!this.#server.mortal.isDead) this.#server.tick();
      await this.#time.settle();
    }
  }

  async #toggleSigner(): Promise<void> {
    const { signer } = this.#authority;
    // What is on its way to a signer that is away is refused by it, not lost between two.
    if (signer.state !== 'usable') await this.#time.settle();
    signer.state = signer.state === 'usable' ? 'degraded' : 'usable';
    if (signer.state !== 'usable' && this.#random.chance(0.5)) signer.uploads.clear();
    this.#count('signerAway');
  }

  /** The next one, once: a token that does so twice for the same leaf halts signing. */
  async #spoilSignature(): Promise<void> {
    await this.#time.settle();
    const { signer } = this.#authority;
    signer.corrupt = (signature) => {
      signer.corrupt = undefined;
      return Buffer.from(signature).fill(0, signature.length - 4);
    };
    this.#count('wrongSignatures');
  }

  #failStore(): void {
    this.#server.failsToStore = true;
    this.#count('failedWrites');
  }

  /** Within what I12 takes, or beyond. */
  #setClock(): void {
    const { clock } = this.#authority;
    const ms = this.#random.chance(0.4)
      ? this.#random.between(-5 * second, 5 * second)
      : this.#random.chance(0.6)
        ? this.#random.between(-10 * 60 * second, 10 * 60 * second)
        : this.#random.between(-6 * hour, 12 * hour);
    this.#server.noteTime();
    clock.step(Math.round(ms));
    this.#model.earliest(this.#server.earliestSeconds);
    this.#count('clockSteps');
  }

  #newServer(): SimulatedServer {
    const isSmall = this.#random.chance(0.6);
    return new SimulatedServer({
      ...{ authority: this.#authority, model: this.#model, random: this.#random, timing: this.#timing },
      bounds: isSmall
        ? {
            smallBytes: Math.floor(this.#random.between(0, 20_000)),
            deltaMaxEntries: Math.floor(this.#random.between(2, 300)),
          }
        : { smallBytes: 1024 * 1024, deltaMaxEntries: 10_000 },
      bootId: `boot-${this.#boots}`,
      publish: (crl) => this.#checker.publish(crl),
      alarm: (problem) => {
        this.#count('alarms');
        if (!expectedAlarms.some((one) => problem.includes(one)) && !waitsForDates.test(problem))
          this.#refused.push(problem);
      },
      problem: (what) => this.#problems.push(what),
    });
  }

  async #start(): Promise<void> {
    let hasStarted = false;
    this.#server.does(async () => {
      await this.#server.publisher.start();
      hasStarted = true;
    });
    while (!hasStarted && !this.#server.mortal.isDead && this.#mayGoOn) await this.#time.turn();
    if (hasStarted) this.#checker.checkServed();
  }

  /** The process is dead: what it was about to do is never done, and another one opens the file. */
  async #restart(): Promise<void> {
    const dead = this.#server;
    dead.mortal.die();
    await this.#time.settle();
    this.#time.forgetTimers();
    this.#count('crashes');
    if (this.#random.chance(0.1)) this.#boots += 1;
    this.#checker.restarted();
    this.#server = this.#newServer();
    await dead.abandon();
    if (this.#random.chance(0.1)) this.#server.mortal.dieAfter(Math.floor(this.#random.between(0, 200)));
    await this.#start();
    if (this.#server.mortal.isDead && this.#mayGoOn) await this.#restart();
  }

  /** Everything works again: then each CRL covers its newest event in no time. */
  async #untilCaughtUp(): Promise<void> {
    const { signer, clock } = this.#authority;
    signer.state = 'usable';
    signer.corrupt = undefined;
    this.#server.mortal.dieAfter(undefined);
    if (this.#server.mortal.isDead) await this.#restart();
    this.#server.mortal.dieAfter(undefined);
    this.#server.failsToStore = false;
    await this.#time.settle();
    // A doubt that ends by itself sets the time back that CRLs are dated by, so that is looked at again.
    for (let attempts = 0; attempts < 5 && this.#behind().length > 0; attempts += 1) {
      const behindMs = this.#checker.newestThisUpdateSeconds() * second - this.#server.guard.steadyTimeMs();
      if (behindMs > 0) await this.#time.pass(behindMs + 2 * second);
      const untilMs = clock.elapsedMs + 150 * second;
      while (this.#behind().length > 0 && clock.elapsedMs < untilMs && this.#mayGoOn) {
        await this.#time.pass(10 * second);
        this.#server.tick();
        await this.#time.settle();
      }
    }
    this.#count('caughtUp');
    const behind = this.#behind();
    if (behind.length === 0) return;
    const why = [...this.#server.publisher.problems(), this.#server.guard.doubt() ?? ''].join('; ');
    this.#problems.push(`CRL ${behind.join(' ')} does not catch up: ${why}`);
  }

  #behind(): string[] {
    return [...this.#model.newest].flatMap(([scope, { certificate, leafIndex }]) =>
      this.#checker.covers(scope) > leafIndex || certificate.hasStood ? [] : [scope],
    );
  }

  /** Every certificate has expired: with the schedule every entry leaves. */
  async #untilAllHaveLeft(): Promise<void> {
    this.#server.accept();
    await this.#time.settle();
    const scopes = ['full', 'delta', ...Array.from({ length: shardCount }, (_, shard) => String(shard))];
    for (
      let days = 0;
      days < 20 && this.#mayGoOn && scopes.some((scope) => this.#checker.entries(scope) > 0);
    )
      for (days += 1; this.#random.chance(0.7); ) await this.#pass(9 * hour);
    for (const scope of scopes)
      if (this.#checker.entries(scope) > 0 && this.#mayGoOn)
        this.#problems.push(`CRL ${scope} still lists ${this.#checker.entries(scope)} that expired days ago`);
  }

  async #end(): Promise<void> {
    this.#server.mortal.die();
    await this.#time.settle();
    this.#time.forgetTimers();
    await this.#server.abandon();
  }

  #bytes(size: number): Buffer {
    this.#serials += 1;
    return createHash('sha256').update(`${this.#options.seed} ${this.#serials}`).digest().subarray(0, size);
  }

  #count(what: string): void {
    this.#counts[what] = (this.#counts[what] ?? 0) + 1;
  }
}
