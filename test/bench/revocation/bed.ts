import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { callAdmin } from '../../../src/cli/admin-client.ts';
import { crlUrl } from '../../../src/core/publication.ts';
import type { Reason } from '../../../src/core/reasons.ts';
import type { Serial } from '../../../src/core/serial.ts';
import { adminPaths } from '../../../src/wire/admin.ts';
import { Authority, type Made } from '../../kills/authority.ts';
import { enrollAll, type Identity, joinFile } from './identities.ts';
import { seedRevocations } from './seed.ts';

const trustDomain = 'bench.example';
/** A tree of a million leaves is taken up, and CRLs of a million entries that none had before are judged. */
const startMs = 1_200_000;
const project = resolve(import.meta.dirname, '../../..');
export const dist = resolve(project, process.env.VOUCH_DIST ?? 'dist');

/** A process that the bench started, with what it has written. */
export interface Started {
  pid: number;
  output: () => string;
  /** Resolves to what `look` finds in the output. Rejects when the process ends or time is up. */
  until: <T>(look: (output: string) => T | undefined, timeoutMs?: number) => Promise<T>;
  end: () => Promise<void>;
}

/** What the bench reads of the answer to a revocation. */
export interface Revoked {
  /** Null: recorded, not published. */
  crlNumber: number | null;
}

/** An authority that has revoked so many, its server, and what runs beside it. */
export class Bed {
  readonly entries: number;
  readonly #authority: Authority;
  readonly #started: Started[] = [];
  #names = 0;
  #signerPid = 0;
  #serverPid = 0;
  made!: Made;
  operationsUrl = '';
  shardCount = 16;
  startedAfterMs = 0;
  publishedAfterMs = 0;

  constructor(entries: number) {
    this.entries = entries;
    this.#authority = new Authority(dist, { startMs });
  }

  /**
   * The first server takes up all that was seeded and publishes it for the first time, which no server does otherwise. What
   * is measured is the one after it: started on a state as it stands after years.
   */
  async boot(): Promise<void> {
    this.made = await this.#authority.init(trustDomain);
    await seedRevocations(this.#authority.database, this.entries);
    this.publishedAfterMs = await this.#start();
    await this.#authority.stop();
    await this.#start();
  }

  /** Resolves when every CRL is served, with the milliseconds that took. */
  async #start(): Promise<number> {
    const fromMs = performance.now();
    const start = this.#authority.start();
    const ready = await start.ready;
    this.startedAfterMs = performance.now() - fromMs;
    this.operationsUrl = ready.operationsUrl;
    this.#serverPid = start.child.pid ?? 0;
    this.#signerPid = ready.signerPid ?? 0;
    const { publicationUrl, issuerKeyId } = this.made;
    const isThere = async (url: string): Promise<boolean> => (await fetch(url, { method: 'HEAD' })).ok;
    for (let shard = 0; shard < this.shardCount; shard += 1)
      await eventually(() => isThere(crlUrl(publicationUrl, issuerKeyId, String(shard))), startMs);
    await eventually(() => isThere(crlUrl(publicationUrl, issuerKeyId, 'delta')), startMs);
    // Only then: before something is late it is ready.
    await eventually(() => isThere(`${this.operationsUrl}/readyz`), startMs);
    return performance.now() - fromMs;
  }

  get adminSocket(): string {
    return this.#authority.adminSocket;
  }

  /** Peak memory of the measured server and its signer over their whole life, MB. */
  peakRssMb(): number {
    const peakKb = (pid: number): number =>
      Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
    return (peakKb(this.#serverPid) + peakKb(this.#signerPid)) / 1024;
  }

  /** New identities, `what` in their names. */
  enroll(what: string, count: number): Promise<Identity[]> {
    const name = (): string => this.id(`${what}/${++this.#names}`);
    return enrollAll(this.adminSocket, Array.from({ length: count }, name));
  }

  id(name: string): string {
    return `spiffe://${trustDomain}/${name}`;
  }

  /** Sends a revocation; resolves when it is answered. `startMs` is when it was sent. */
  revoke(serial: Serial, reason: Reason = 'superseded'): { startMs: number; answered: Promise<Revoked> } {
    const body = { target: { serial, only: true }, reason };
    const answered = callAdmin<Revoked>(this.adminSocket, 'POST', adminPaths.revocations, body);
    return { startMs: performance.now(), answered };
  }

  /** A folder of its own below the authority's. */
  folder(name: string): string {
    const path = join(this.#authority.folder, `${name}-${++this.#names}`);
    mkdirSync(path);
    return path;
  }

  /** A join file on disk for a service that lets in everybody. */
  async join(name: string): Promise<string> {
    const path = join(this.folder('join'), 'file');
    writeFileSync(path, await joinFile(this.adminSocket, this.id(name), [this.id('*')]), { mode: 0o600 });
    return path;
  }

  /** Starts a command that ends with the bed at the latest. */
  start(command: readonly string[], env: NodeJS.ProcessEnv = {}): Started {
    const [file = '', ...args] = command;
    const child = spawn(file, args, {
      cwd: project,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (part: string) => (output = (output + part).slice(-1_000_000)));
    const exited = new Promise<void>((done) => child.once('exit', () => done()));
    const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
    const started: Started = {
      pid: child.pid ?? 0,
      output: () => output,
      until: (look, timeoutMs = 60_000) =>
        eventually(() => {
          const found = look(output);
          if (found === undefined && hasEnded()) throw new Error(`${file} ended: ${output.slice(-2000)}`);
          return found;
        }, timeoutMs),
      end: async () => {
        if (!hasEnded()) child.kill('SIGTERM');
        const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
        await exited;
        clearTimeout(timer);
      },
    };
    this.#started.push(started);
    return started;
  }

  /** Ends all of it, and takes the folder away. */
  async close(): Promise<void> {
    await Promise.all(this.#started.map((one) => one.end()));
    await this.#authority.stop();
    this.end();
  }

  /** The same at once, for an end that waits for nothing. */
  end(): void {
    this.#authority.endAll();
    this.#authority.remove();
  }

  lastLogLines(): string {
    return this.#authority.lastLogLines();
  }
}

/** Waits until `look` finds something; rejects when time is up. */
export async function eventually<T>(
  look: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs: number,
): Promise<T> {
  for (const deadline = performance.now() + timeoutMs; ; ) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${look.toString()}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}
