import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** A member of any type of a JSON object. */
export type Json = Record<string, unknown>;

/** What a verb left behind. */
export class Ran {
  readonly code: number | string | null;
  readonly stdout: string;
  readonly stderr: string;

  constructor(code: number | string | null, stdout: string, stderr: string) {
    this.code = code;
    this.stdout = stdout;
    this.stderr = stderr;
  }

  /** The one JSON object on stdout; throws with what was said instead. */
  json<T = Json>(): T {
    if (this.code !== 0) throw new Error(`exit ${this.code}: ${this.stderr || this.stdout}`);
    return JSON.parse(this.stdout) as T;
  }

  /** The problem on the last line of stderr. */
  get problem(): { code: string; detail: string } {
    const line = this.stderr.trim().split('\n').at(-1) ?? '';
    try {
      return JSON.parse(line) as { code: string; detail: string };
    } catch {
      throw new Error(`exit ${this.code}, no problem on stderr: ${this.stderr || this.stdout}`);
    }
  }
}

const children = new Set<ChildProcess>();
const folders: string[] = [];

afterAll(async () => {
  await Promise.all([...children].map((child) => gone(child, 'SIGKILL')));
  removeFolders();
});
process.once('exit', () => {
  for (const child of children) killGroup(child, 'SIGKILL');
  removeFolders();
});

function removeFolders(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}

/** A folder that goes with the test file. Its name is short: sockets live there. */
export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vouch-d-'));
  folders.push(folder);
  return folder;
}

/** A process that stays, with what it has written so far. */
export class Running {
  readonly child: ChildProcess;
  #stdout = '';
  #stderr = '';

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (this.#stdout += chunk));
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (this.#stderr += chunk));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** The JSON objects among the lines of stderr: a server's log. */
  log(): Json[] {
    return this.#stderr
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as Json);
  }

  /** Resolves to what `look` finds; rejects with all that was written when the process ends or time is up. */
  async until<T>(look: (running: this) => T | undefined | false | null, timeoutMs = 30_000): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = look(this);
      if (found !== undefined && found !== false && found !== null) return found;
      const over = hasEnded(this.child) ? `it ended with ${this.code}` : 'time is up';
      if (hasEnded(this.child) || performance.now() > deadline)
        throw new Error(`${over}: ${look.toString()}\n${this.#stdout}\n${this.#stderr}`);
      await new Promise((done) => setTimeout(done, 10));
    }
  }

  /** Exit code, or the signal that ended it; undefined while it runs. */
  get code(): number | string | undefined {
    return this.child.exitCode ?? this.child.signalCode ?? undefined;
  }

  /** How it ends by itself. */
  async ended(): Promise<Ran> {
    if (!hasEnded(this.child)) await once(this.child, 'close');
    return new Ran(this.code ?? null, this.#stdout, this.#stderr);
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Ends it, with all that it started, and says how it ended. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string | undefined> {
    if (!hasEnded(this.child)) {
      if (signal === 'SIGKILL') killGroup(this.child, signal);
      else this.child.kill(signal);
      if (!hasEnded(this.child)) await once(this.child, 'exit');
    }
    killGroup(this.child, 'SIGKILL');
    return this.code;
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // It and all it started are gone already.
  }
}

async function gone(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  killGroup(child, signal);
  if (!hasEnded(child)) await once(child, 'exit');
}

/** What a process is started with. */
export interface StartOptions {
  /** Added to the environment of this process. */
  env?: NodeJS.ProcessEnv;
  /** A command that runs the rest of its arguments, as `unshare` does. */
  wrapper?: readonly string[];
  cwd?: string;
}

/** Starts a command in a process group of its own, which ends with the test file at the latest. */
export function start(command: readonly string[], options: StartOptions = {}): Running {
  const [file = '', ...args] = [...(options.wrapper ?? []), ...command];
  const env = { ...process.env, ...options.env };
  const child = spawn(file, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env,
    cwd: options.cwd,
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return new Running(child);
}

/** Waits until `look` finds something; rejects when time is up. */
export async function eventually<T>(
  look: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${look.toString()}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}
