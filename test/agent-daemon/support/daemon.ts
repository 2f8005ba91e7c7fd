import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Keyring } from '../../../src/agent/daemon/cache-keys.ts';
import { AgentDaemon } from '../../../src/agent/daemon/daemon.ts';
import { systemSleep } from '../../../src/agent/sleep.ts';
import type { Served } from '../../../src/agent/workloads.ts';
import { type Clock, systemClock } from '../../../src/core/clock.ts';
import { startAuthority, temporaryFolder, writeJoinFile } from '../../agent/support/harness.ts';
import { eventually } from '../../support/running.ts';
import { FakeEntries } from './fake-entries.ts';

/** How a daemon is started in this process. */
export interface DaemonOver {
  clock?: Clock;
  crlPolicy?: 'require' | 'allow-stale';
  joinFile?: string;
  crlRefreshMs?: number;
  keyring?: Keyring;
  dir?: string;
}

/** A daemon of this process, with what it said. */
export class Daemon {
  readonly daemon: AgentDaemon;
  readonly notices: string[] = [];
  readonly changes: Served[] = [];
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;

  constructor(dir: string, joinFile: string, over: DaemonOver = {}) {
    this.daemon = new AgentDaemon(
      { dir, joinFile, crlPolicy: over.crlPolicy ?? 'require', crlRefreshMs: over.crlRefreshMs ?? 100 },
      {
        clock: over.clock ?? systemClock,
        sleep: systemSleep,
        signal: this.#stop.signal,
        notice: (line) => void this.notices.push(line),
        keyring: over.keyring,
      },
    );
    this.daemon.workloads.subscribe((served) => void this.changes.push(served));
    this.#running = this.daemon.run().catch((error: unknown) => error);
  }

  get now(): Served | undefined {
    return this.daemon.workloads.now;
  }

  /** Names that are served, without their trust domain. */
  get names(): string[] {
    return (this.now?.svids ?? []).map(({ spiffeId }) => spiffeId.replace(/^spiffe:\/\/[^/]+\//, ''));
  }

  /** Waits until exactly these are served; fails with all that was said. */
  async serves(...names: string[]): Promise<Served> {
    const wanted = [...names].sort().join(' ');
    return this.until(() => (this.now && [...this.names].sort().join(' ') === wanted ? this.now : undefined));
  }

  async until<T>(look: () => T | undefined | false, timeoutMs = 30_000): Promise<T> {
    return eventually(look, timeoutMs).catch((error: unknown) => {
      throw new Error(`${String(error)}\nserved: ${this.names.join(' ')}\n${this.notices.join('\n')}`);
    });
  }

  /** What it ended with by itself. */
  ended(): Promise<unknown> {
    return this.#running;
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

/** A fake authority with entries, and a folder and join file for an agent. */
export async function startHost() {
  const { authority, server } = await startAuthority();
  server.spiffeId = `spiffe://${authority.trustDomain}/agent/one`;
  const entries = new FakeEntries(server);
  const folder = temporaryFolder();
  const dir = join(folder, 'agent');
  const joinFile = writeJoinFile(folder, server.joinLine());
  const daemons: Daemon[] = [];
  onTestFinished(async () => {
    for (const daemon of daemons) await daemon.end();
    rmSync(folder, { recursive: true, force: true });
  });
  const start = (over: DaemonOver = {}): Daemon => {
    const daemon = new Daemon(over.dir ?? dir, over.joinFile ?? joinFile, over);
    daemons.push(daemon);
    return daemon;
  };
  return { authority, server, entries, folder, dir, joinFile, start };
}

/** What a test has of it. */
export type Host = Awaited<ReturnType<typeof startHost>>;
