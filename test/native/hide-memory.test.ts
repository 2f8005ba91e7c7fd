import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { newFolder } from '../support/running.ts';
import { Stage, unusedUids } from '../support/users.ts';

const addon = resolve(import.meta.dirname, '../../dist/native/linux.node');
const [uid = 0] = unusedUids(1);
const user = { uid, groups: [] };

const program = (first: string) => `
  const linux = require(process.env.ADDON);
  ${first}
  process.stdout.write(process.pid + '\\n');
  setInterval(() => {}, 1000);`;
const hiding = 'linux.hideMemory();';

it.runIf(process.getuid?.() === 0).each([
  ['nobody of its own user reads the memory of who hides it', hiding, /Permission denied/],
  ['who does not hide it is read', '', /^$/],
])('%s', async (_what, first, said) => {
  const stage = new Stage(newFolder());
  const [node = '', vouch = ''] = stage.vouch();
  const env = { ADDON: vouch.replace(/vouch\.js$/, 'native/linux.node') };
  const running = stage.as(user, [node, '-e', program(first)], { env });
  await running.until(({ stdout }) => /^\d+\n/.test(stdout));
  const pid = running.stdout.trim();
  // What needs the same permission as /proc/<pid>/mem does, but no tracing.
  const { stderr } = await stage.run(user, ['head', '-c', '0', `/proc/${pid}/environ`]);
  expect(stderr).toMatch(said);
  await running.end('SIGKILL');
});

// Where a core file would be left beside the process.
it.runIf(readFileSync('/proc/sys/kernel/core_pattern', 'utf8').trim() === 'core')(
  'who hides its memory leaves no core, whatever the limit',
  async () => {
    const coresOf = async (first: string): Promise<string[]> => {
      const cwd = newFolder();
      const script = 'ulimit -c unlimited; exec "$0" -e "$1"';
      const command = ['-c', script, process.execPath, `${program(first)} process.abort();`];
      const [, signal] = await once(spawn('sh', command, { env: { ADDON: addon }, cwd }), 'exit');
      expect(signal).toBe('SIGABRT');
      return readdirSync(cwd);
    };
    expect(await coresOf('')).toHaveLength(1);
    expect(await coresOf(hiding)).toEqual([]);
  },
);
