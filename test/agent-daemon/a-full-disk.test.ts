import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mountOver } from '../support/mount.ts';
import { startHost } from './support/daemon.ts';

/** As a program writes that does not know when to stop. */
function fill(path: string): void {
  try {
    for (;;) writeFileSync(path, Buffer.alloc(4096), { flag: 'a' });
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  }
}

test('what cannot be kept is not asked for again: one answer is lost, what is served stays, and room brings the rest', async () => {
  const { entries, folder, start } = await startHost();
  const keeper = (await mountOver(folder, 'size=1m')).at(-1);
  const mounted = join(`/proc/${keeper}/root`, folder);
  entries.create('web');
  const agent = start({ dir: join(mounted, 'agent') });
  const [web] = (await agent.serves('web')).svids;
  fill(join(mounted, 'filler'));
  for (const name of ['db', 'api', 'mail']) {
    entries.create(name);
    await agent.until(() =>
      agent.daemon.workloads
        .withheld()
        .some(({ spiffeId, why }) => spiffeId.endsWith(name) && why.includes('cannot be written (ENOSPC)')),
    );
  }
  expect(entries.calls.map((requests) => requests.length)).toEqual([1, 1]);
  expect(agent.now?.svids).toEqual([web]);
  expect(agent.notices.filter((line) => line.includes('cannot get'))).toHaveLength(1);
  rmSync(join(mounted, 'filler'));
  const { svids } = await agent.serves('web', 'db', 'api', 'mail');
  expect(svids).toContainEqual(web);
  expect(entries.calls.map((requests) => requests.length)).toEqual([1, 1, 3]);
});
