import { copyFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { bundled, start } from './support/bundle.ts';
import { startAuthority, temporaryFolder, workload } from './support/harness.ts';

describe('the agent’s one file', () => {
  test.each(['agent.mjs', 'vouch-agent.js', 'v'])(
    'runs under the name %s, and through a link',
    async (name) => {
      const file = join(temporaryFolder(), name);
      copyFileSync(await bundled('src/agent.ts', 'vouch-agent.js'), file);
      symlinkSync(file, `${file}-link`);
      for (const path of [file, `${file}-link`]) {
        const running = start(process.execPath, [path, 'nonsense']);
        expect(await running.exited).toBe(2);
        expect(running.stderr()).toContain('usage:');
      }
    },
  );

  test('under a Node that is too old says so in one line', async () => {
    const agent = await bundled('src/agent.ts', 'vouch-agent.js');
    const old = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.2' } })`;
    const running = start(process.execPath, [
      '--import',
      `data:text/javascript,${old}`,
      agent,
      'exec',
      '--help',
    ]);
    expect(await running.exited).toBe(78);
    expect(running.stderr()).toBe('vouch: needs Node 22.19 or newer, this is 20.20.2\n');
    expect(running.stdout()).toBe('');
  });

  test('ends exec with its workload, whatever is still pending', async () => {
    const { server } = await startAuthority();
    const one = workload(server);
    const agent = await bundled('src/agent.ts', 'vouch-agent.js');
    const flags = ['exec', '--join-file', one.joinFile, '--out', one.dir, '--', 'sh', '-c', 'exit 7'];
    const pending = 'data:text/javascript,setInterval(() => {}, 1000)';
    const running = start(process.execPath, ['--import', pending, agent, ...flags]);
    expect(await Promise.race([running.exited, sleep(5000, 'still running')])).toBe(7);
  });
});
