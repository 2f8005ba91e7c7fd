import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { onTestFinished } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'vouch-bundle-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

const made = new Map<string, Promise<string>>();

/** Bundles an entry as a release does, once, into a folder that goes with this process. Returns the file. */
export function bundled(entry: string, name: string): Promise<string> {
  const file = made.get(name) ?? bundle(entry, name);
  made.set(name, file);
  return file;
}

async function bundle(entry: string, name: string): Promise<string> {
  const outfile = join(folder, name);
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node22',
    format: 'esm',
    logLevel: 'error',
    define: {
      __VOUCH_WITHOUT__: JSON.stringify(process.env.VOUCH_WITHOUT ?? ''),
      __VOUCH_VERSION__: '"0.0.0"',
    },
  });
  return outfile;
}

/** A spawned program with what it has written so far. */
export interface Running {
  child: ChildProcess;
  stdout: () => string;
  stderr: () => string;
  /** Exit code, or the signal that ended it. */
  exited: Promise<number | string>;
  /** Resolves when what it has written so far passes; rejects after `timeoutMs`. */
  seen: (where: 'stdout' | 'stderr', what: RegExp, timeoutMs?: number) => Promise<RegExpExecArray>;
}

/** Starts a program in a process group of its own, which is killed at the end of the test at the latest. */
export function start(file: string, args: readonly string[], env: Record<string, string> = {}): Running {
  const child = spawn(file, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, ...env },
  });
  const text = { stdout: '', stderr: '' };
  for (const where of ['stdout', 'stderr'] as const)
    child[where].setEncoding('utf8').on('data', (chunk: string) => {
      text[where] += chunk;
    });
  const exited = new Promise<number | string>((resolve) => {
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  onTestFinished(() => killGroup(child));
  const seen: Running['seen'] = async (where, what, timeoutMs = 30_000) => {
    const found = await eventually(() => what.exec(text[where]) ?? undefined, timeoutMs);
    if (found === undefined)
      throw new Error(`${what.source} not seen in ${where}:\n${text.stdout}\n${text.stderr}`);
    return found;
  };
  return { child, stdout: () => text.stdout, stderr: () => text.stderr, exited, seen };
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It and all it started are gone already.
  }
}

/** True until a process has ended, whether anybody has waited for it or not. */
export function isRunning(pid: number | string): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Waits until `look` finds something that is not false; undefined where it does not in time. */
export async function eventually<T>(
  look: () => T | undefined | false,
  timeoutMs = 30_000,
): Promise<T | undefined> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) return undefined;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
