import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { signalTo } from '../support/signal.ts';
import { eventually, type Running, start } from './support/bundle.ts';
import { executable, forever } from './support/executable.ts';
import { startAuthority } from './support/harness.ts';

const fromTerminal = ['SIGINT', 'SIGQUIT', 'SIGWINCH', 'SIGCONT'] as const;

const says = `
  for (const name of ${JSON.stringify(fromTerminal)}) process.on(name, () => console.log(name));
  console.log('up ' + process.ppid); ${forever}`;

/** `vouch exec` on a terminal of its own; `as` makes the shell's command of it. */
async function onTerminal(as: (exec: string) => string): Promise<Running & { dir: string }> {
  const { server } = await startAuthority();
  const one = await executable(server);
  const quoted = (words: readonly string[]): string =>
    words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const exec = [process.execPath, one.agent, 'exec', '--join-file', one.joinFile, '--out', one.dir];
  const command = as(quoted([...exec, '--', process.execPath, '-e', says]));
  return { ...start('script', ['-qefc', command, '/dev/null'], { SHELL: '/bin/sh' }), dir: one.dir };
}

/** The process with all of these words on its command line. */
function processWith(...words: string[]): number | undefined {
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const line = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      if (words.every((word) => line.includes(word))) return Number(name);
    } catch {
      continue;
    }
  }
  return undefined;
}

/** As the terminal does it: `leader` is what `script` started, in a session of its own. */
function signalGroup(leader: string, signal: NodeJS.Signals): void {
  if (Number(leader) <= 1) throw new Error('no group');
  process.kill(-Number(leader), signal);
}

describe('on a terminal', () => {
  test('what is sent to a background job reaches the workload: the terminal signals only the foreground', async () => {
    const running = await onTerminal((exec) => `set -m; ${exec} & wait`);
    const [, pid = ''] = await running.seen('stdout', /up (\d+)\r?\n/);
    // The end of its terminal does not end a background job.
    onTestFinished(() => signalGroup(pid, 'SIGKILL'));
    for (const name of fromTerminal) {
      signalTo(Number(pid), name);
      await running.seen('stdout', new RegExp(`${name}\\r?\\n`));
    }
  });

  test('what is sent to PID 1 reaches the workload', async () => {
    const own = process.getuid?.() === 0 ? '' : '--user --map-root-user';
    const running = await onTerminal((exec) => `exec unshare --pid --fork --kill-child ${own} ${exec}`);
    await running.seen('stdout', /up/);
    const init = processWith('vouch-init', running.dir);
    for (const name of fromTerminal) {
      signalTo(init, name);
      await running.seen('stdout', new RegExp(`${name}\\r?\\n`));
    }
  });

  test('what the terminal itself sends reaches the workload once', async () => {
    const running = await onTerminal((exec) => `exec ${exec}`);
    const [, pid = ''] = await running.seen('stdout', /up (\d+)\r?\n/);
    signalGroup(pid, 'SIGINT');
    await running.seen('stdout', /SIGINT\r?\n/);
    // What comes after it comes after a second one, too.
    signalGroup(pid, 'SIGWINCH');
    await eventually(() => (running.stdout().includes('SIGWINCH') ? true : undefined));
    expect(running.stdout().match(/SIGINT/g)).toHaveLength(1);
  });
});
