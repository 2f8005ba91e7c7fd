import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The script of the children's roles. */
const childScript = fileURLToPath(new URL('child.ts', import.meta.url));

/** Children of the running test that may still live. */
const running = new Set<ChildProcess>();

/** For the end of a test, however it ended. */
export function killChildren(): void {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
}

/** A child in one of its roles, with what it says line by line. */
export interface Child {
  process: ChildProcess;
  /** Every JSON line said so far. */
  said: Record<string, unknown>[];
  /** The next line that was not waited for yet; rejects at the child's end. */
  next(): Promise<Record<string, unknown>>;
  /** Until all it said was read; its exit code or signal. */
  end(): Promise<number | NodeJS.Signals | null>;
}

/** Starts `child.ts` in a role; `command` may wrap it (`unshare`, `prlimit`) and gets its words appended. */
export function startChild(
  role: string,
  directory: string,
  options: { command?: string[]; env?: Record<string, string> } = {},
): Child {
  const [program, ...wrapped] = options.command ?? [];
  const words = [childScript, role, directory];
  const child = spawn(
    program ?? process.execPath,
    program ? [...wrapped, process.execPath, ...words] : words,
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...options.env },
    },
  );
  running.add(child);
  const said: Record<string, unknown>[] = [];
  let read = 0;
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => said.push(JSON.parse(line) as Record<string, unknown>));
  let ended = false;
  const closed = once(lines, 'close').then(() => {
    ended = true;
  });
  const exited = once(child, 'exit');
  return {
    process: child,
    said,
    next: async () => {
      while (said.length <= read && !ended) await Promise.race([once(lines, 'line'), closed]);
      const line = said[read];
      if (line === undefined) throw new Error(`child ${role} ended`);
      read += 1;
      return line;
    },
    end: async () => {
      const [code, signal] = (await exited) as [number | null, NodeJS.Signals | null];
      await closed;
      return code ?? signal;
    },
  };
}
