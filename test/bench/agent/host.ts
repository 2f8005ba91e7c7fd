import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { callAdmin } from '../../../src/cli/admin-client.ts';
import { adminPaths } from '../../../src/wire/admin.ts';
import { Authority, exitOf } from '../../kills/authority.ts';
import { joinFile } from '../revocation/identities.ts';

const trustDomain = 'bench.example';
const project = resolve(import.meta.dirname, '../../..');
const dist = resolve(project, process.env.VOUCH_DIST ?? 'dist');
const readyMs = 120_000;

/** How an agent is started: what stands before its arguments. */
export const programs: Readonly<Record<string, readonly string[]>> = {
  bundle: [join(project, 'scripts/vouch')],
  executable: [join(dist, 'sea/vouch-agent')],
};

/** Whether `scripts/build-sea` has run. */
export const hasExecutable = existsSync(join(dist, 'sea/vouch-agent'));

/** An agent that runs, beside the authority. */
export interface RunningAgent {
  socket: string;
  /** Where its own certificate lies. */
  certificate: string;
  pid: number;
  /** Resolves when its ready line is there: it holds a certificate for each entry. */
  ready: Promise<void>;
  /** By `performance.now()`. */
  startedMs: number;
  end: () => Promise<void>;
}

/** A real authority, the entries of agents of it, and these agents. */
export class Host {
  readonly #authority = new Authority(dist);
  readonly #agents = new Set<ChildProcess>();
  #names = 0;

  static async boot(): Promise<Host> {
    const host = new Host();
    await host.#authority.init(trustDomain);
    await host.#authority.start().ready;
    return host;
  }

  /** An agent's name that has so many entries, all for processes of this user. Oldest first. */
  async parent(entries: number): Promise<{ parentId: string; entryIds: string[] }> {
    const parentId = `spiffe://${trustDomain}/host/${++this.#names}`;
    const entryIds: string[] = [];
    for (let index = 0; index < entries; index++) {
      const body = {
        ...{ spiffeId: `${parentId}/workload/${index}`, parentId },
        selectors: [`unix:uid:${process.getuid?.()}`],
      };
      const made = await this.#admin<{ entryId: string }>(adminPaths.entries, body);
      entryIds.push(made.entryId);
    }
    return { parentId, entryIds };
  }

  /** Resolves when the operator has his answer. */
  async deleteEntry(entryId: string): Promise<void> {
    await this.#admin(adminPaths.entryDelete, { entryId });
  }

  /** Where an agent that enrolls as `parentId` is started from, with nothing in it that an earlier one has left. */
  async prepare(parentId: string): Promise<{ folder: string; args: readonly string[]; socket: string }> {
    const folder = join(this.#authority.folder, `agent-${++this.#names}`);
    mkdirSync(join(folder, 'tmp'), { recursive: true });
    const joinPath = join(folder, 'join');
    writeFileSync(joinPath, await joinFile(this.#authority.adminSocket, parentId), { mode: 0o600 });
    const socket = join(folder, 'agent.sock');
    const args = [
      'agent',
      '--join-file',
      joinPath,
      '--dir',
      join(folder, 'held'),
      '--socket',
      socket,
      '--json',
    ];
    return { folder, args, socket };
  }

  /** Starts an agent that enrolls as `parentId`; `nodeOptions` are those of the environment. */
  async launch(
    parentId: string,
    program: readonly string[] = programs.bundle ?? [],
    nodeOptions?: string,
  ): Promise<RunningAgent> {
    const { folder, args, socket } = await this.prepare(parentId);
    const [command = '', ...first] = program;
    const startedMs = performance.now();
    const child = spawn(command, [...first, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, HOME: folder, TMPDIR: join(folder, 'tmp'), NODE_OPTIONS: nodeOptions },
    });
    this.#agents.add(child);
    const end = async (): Promise<void> => {
      const exited = exitOf(child);
      child.kill('SIGTERM');
      await exited;
      this.#agents.delete(child);
    };
    const certificate = join(folder, 'held/current/svid.pem');
    return { socket, certificate, pid: child.pid ?? 0, ready: firstLine(child), startedMs, end };
  }

  endAll(): void {
    for (const agent of this.#agents) agent.kill('SIGKILL');
    this.#authority.endAll();
  }

  async close(): Promise<void> {
    for (const agent of this.#agents) agent.kill('SIGKILL');
    await this.#authority.stop();
    this.#authority.remove();
  }

  lastLogLines(): string {
    return this.#authority.lastLogLines();
  }

  #admin<T>(path: string, body: object): Promise<T> {
    return callAdmin<T>(this.#authority.adminSocket, 'POST', path, body);
  }
}

/** Of an agent whose garbage `collectedRss` collects. */
export const withCollection = `--expose-gc --import=${join(import.meta.dirname, 'collect-garbage.mjs')}`;

/** `restingRss` of an agent that was started `withCollection`, when its heap has only what is in use. */
export async function collectedRss(pid: number): Promise<number> {
  process.kill(pid, 'SIGUSR2');
  return restingRss(pid);
}

/** Memory of a process that is its own, in bytes: resident, and no larger than that again after what it does by itself. */
export async function restingRss(pid: number): Promise<number> {
  const read = (): number =>
    Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
  let before = read();
  for (;;) {
    // Longer than it waits itself before it gives back what calls have left free.
    await sleep(3000);
    const now = read();
    if (Math.abs(now - before) < 256 * 1024) return now;
    before = now;
  }
}

function firstLine(child: ChildProcess): Promise<void> {
  let said = '';
  child.stderr?.on('data', (part: Buffer) => (said += String(part)));
  return new Promise((done, fail) => {
    child.stdout?.once('data', () => done());
    child.once('exit', (code) => fail(new Error(`the agent ended with ${code}: ${said}`)));
    setTimeout(() => fail(new Error(`the agent is not ready: ${said}`)), readyMs).unref();
  });
}
