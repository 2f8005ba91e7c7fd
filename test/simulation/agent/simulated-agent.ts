import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Keyring } from '../../../src/agent/daemon/cache-keys.ts';
import { AgentDaemon } from '../../../src/agent/daemon/daemon.ts';
import type { WorkloadApi } from '../../../src/agent/workload-api/service.ts';
import type { Served } from '../../../src/agent/workloads.ts';
import type { Host } from './host.ts';
import type { VirtualTime } from './virtual-time.ts';

/** Older files of the cache that are kept, to be put back. */
const olderKept = 6;

/** How a life of the agent ends. */
export interface Death {
  /** The kernel's keyring is empty, as after a reboot. */
  losesKeyring: boolean;
  /** Somebody puts an older file of the cache back. */
  olderCache: boolean;
}

/** One agent on a host, in as many lives as it takes; its folder and the kernel's keyring outlive each. */
export class SimulatedAgent {
  readonly folder: string;
  readonly joinFile: string;
  readonly #time: VirtualTime;
  readonly #host: Host;
  readonly #keyring = new Map<string, Buffer>();
  readonly #older: Buffer[] = [];
  #life:
    | { daemon: AgentDaemon; api: WorkloadApi; stop: AbortController; running: Promise<unknown> }
    | undefined;
  #ending: Promise<unknown> = Promise.resolve();
  #served: Served | undefined;
  /** It asked for a new join file, and has not been given one. */
  isLost = false;
  /** It says something. */
  said: (line: string) => void = () => undefined;
  /** It ended though nobody told it to. */
  ended: (why: string) => void = () => undefined;
  /** What is served is another now. */
  changed: (before: Served | undefined, after: Served) => void = () => undefined;

  constructor(folder: string, parts: { time: VirtualTime; host: Host }) {
    this.folder = folder;
    this.joinFile = join(folder, 'join');
    this.#time = parts.time;
    this.#host = parts.host;
    mkdirSync(folder, { recursive: true });
  }

  get #dir(): string {
    return join(this.folder, 'agent');
  }

  get #kept(): string {
    return join(this.folder, 'kept');
  }

  get api(): WorkloadApi | undefined {
    return this.#life?.api;
  }

  get isLive(): boolean {
    return this.#life?.daemon.isLive === true;
  }

  get served(): Served | undefined {
    return this.#life?.daemon.workloads.now;
  }

  join(line: string): void {
    this.isLost = false;
    rmSync(this.joinFile, { force: true });
    writeFileSync(this.joinFile, `${line}\n`, { mode: 0o600 });
  }

  start(): void {
    const stop = new AbortController();
    const { clock, sleep } = this.#time;
    const { signal } = stop;
    const keyring: Keyring = {
      read: (name) => this.#keyring.get(name),
      write: (name, value) => void (signal.aborted || this.#keyring.set(name, value)),
    };
    const daemon = new AgentDaemon(
      { dir: this.#dir, joinFile: this.joinFile, crlPolicy: 'require', crlRefreshMs: 1000 },
      { clock, sleep, signal, keyring, notice: (line) => this.#notice(line) },
    );
    this.#served = undefined;
    daemon.workloads.subscribe((served) => {
      if (signal.aborted) return;
      this.changed(this.#served, served);
      this.#served = served;
      this.#keepCache();
    });
    const running = daemon.run().then(
      () => void (signal.aborted || this.ended('of itself')),
      (error: unknown) => this.ended(String(error)),
    );
    this.#life = { daemon, api: this.#host.serve(daemon.workloads), stop, running };
  }

  #notice(line: string): void {
    this.said(line);
    if (/make a new join file|has expired: peers/.test(line)) this.isLost = true;
  }

  #keepCache(): void {
    const path = join(this.#dir, 'cache.sealed');
    if (!existsSync(path)) return;
    const now = readFileSync(path);
    if (this.#older.at(-1)?.equals(now)) return;
    this.#older.push(now);
    this.#older.splice(0, this.#older.length - olderKept);
  }

  get isDead(): boolean {
    return this.#life === undefined;
  }

  /** Its life ends here and now: of its folder what stands there at this moment outlives it. */
  kill(): void {
    const life = this.#life;
    if (life === undefined) return;
    this.#life = undefined;
    this.#copy();
    life.stop.abort();
    life.api.close();
    this.#ending = life.running;
  }

  /** What a killed one had begun comes to its end; then its folder is as it was. */
  async bury({ losesKeyring, olderCache }: Death): Promise<{ isOlder: boolean }> {
    let hasEnded = false;
    void this.#ending.then(() => (hasEnded = true));
    await this.#time.settle();
    if (!hasEnded) await this.#time.pass(60_000);
    if (!hasEnded) throw new Error('an agent that was told to does not end');
    rmSync(this.#dir, { recursive: true, force: true });
    if (existsSync(this.#kept)) renameSync(this.#kept, this.#dir);
    if (losesKeyring) this.#keyring.clear();
    const [oldest] = this.#older;
    const isOlder = olderCache && oldest !== undefined && this.#older.length === olderKept;
    if (isOlder) writeFileSync(join(this.#dir, 'cache.sealed'), oldest, { mode: 0o600 });
    return { isOlder };
  }

  #copy(): void {
    rmSync(this.#kept, { recursive: true, force: true });
    if (!existsSync(this.#dir)) return;
    cpSync(this.#dir, this.#kept, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  }
}
