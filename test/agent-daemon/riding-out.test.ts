import { describe, expect, test } from 'vitest';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Serial } from '../../src/core/serial.ts';
import { problem } from '../agent/support/fake-server.ts';
import { writeJoinFile } from '../agent/support/harness.ts';
import { eventually } from '../support/running.ts';
import { startHost } from './support/daemon.ts';

/** As long as it takes. */
const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

describe('while the server is away', () => {
  test('what is held is served until it ends, and not longer; then the server is back and all of it comes in one call', async () => {
    const { entries, server, start } = await startHost();
    entries.lifetimeMs = 6000;
    entries.renewal = { earliestSeconds: 1, latestSeconds: 2 };
    entries.create('web');
    entries.create('db');
    const agent = start();
    await agent.serves('web', 'db');
    const back = await server.goAway();
    const ends = agent.now!.svids.map(({ notAfterMs }) => notAfterMs);
    while (Date.now() < Math.min(...ends) - 300) {
      expect(agent.names).toHaveLength(2);
      await wait(100);
    }
    await agent.serves();
    expect(Date.now()).toBeGreaterThan(Math.min(...ends));
    const calls = entries.calls.length;
    entries.lifetimeMs = 60_000;
    entries.renewal = { earliestSeconds: 50, latestSeconds: 55 };
    await back();
    await agent.serves('web', 'db');
    expect(entries.calls.length - calls).toBe(1);
    // Each failure is said once.
    expect(agent.notices.filter((line) => line.includes('cannot get'))).toHaveLength(1);
    expect(agent.notices.join('\n')).toContain('certificates can be had again');
  });

  test('a first start goes on trying, and says so', async () => {
    const { entries, server, start } = await startHost();
    entries.create('web');
    const back = await server.goAway();
    const agent = start();
    await agent.until(() => agent.notices.some((line) => line.startsWith('no identity yet: ')));
    expect(agent.now).toBeUndefined();
    await back();
    await agent.serves('web');
  });
});

describe('where the agent’s own identity', () => {
  test('has expired, a new token in its join file is all it takes', async () => {
    const { entries, server, joinFile, folder, start } = await startHost();
    server.lifetimeMs = 2000;
    entries.lifetimeMs = 2000;
    entries.create('web');
    const first = start();
    await first.serves('web');
    await first.end();
    await wait(2500);
    const agent = start();
    // The used token belongs to another key.
    await agent.until(() => agent.notices.some((line) => line.includes('make a new join file')));
    expect(agent.notices.join('\n')).toMatch(/its last one ended at .*, and this machine's clock says /);
    server.lifetimeMs = 3_600_000;
    entries.lifetimeMs = 3_600_000;
    // Neither one that is away for a moment nor a part of one is a reason to end.
    rmSync(joinFile);
    writeFileSync(joinFile, 'half', { mode: 0o600 });
    await agent.until(() => agent.notices.some((line) => line.includes('does not start with vouch1.')));
    writeFileSync(joinFile, readFileSync(writeJoinFile(folder, server.joinLine())));
    await agent.serves('web');
  });

  test('cannot be had for a join file that others can read, the start fails', async () => {
    const { folder, server, start } = await startHost();
    const agent = start({ joinFile: writeJoinFile(folder, server.joinLine(), 0o644) });
    expect(await agent.ended()).toMatchObject({ code: 'config-secret-readable' });
  });

  test('is another by a new join file, what the one before it held is gone at once', async () => {
    const { authority, entries, server, joinFile, folder, start } = await startHost();
    server.renewal = { earliestSeconds: 1, latestSeconds: 2 };
    const web = entries.create('web');
    const agent = start();
    await agent.serves('web');
    // The same sequence, of another parent.
    entries.entries.splice(0, 1, {
      ...web,
      entryId: 'e_00000000000000ff',
      spiffeId: 'spiffe://example.org/db',
    });
    server.intercept = (kind) =>
      kind === 'renew' ? problem(403, 'denied-suspended', 'suspended') : undefined;
    server.spiffeId = `spiffe://${authority.trustDomain}/agent/two`;
    writeFileSync(joinFile, readFileSync(writeJoinFile(folder, server.joinLine())));
    await agent.serves('db');
    const served = agent.changes.map(({ svids }) => svids.map(({ spiffeId }) => spiffeId.slice(-3)).join());
    expect(served).toEqual(['web', '', '/db']);
    expect(agent.notices.join('\n')).toContain('this agent is spiffe://example.org/agent/two now');
  });
});

test('a revocation that our own renewal brought the CRL of counts at once', async () => {
  const { authority, entries, server, start } = await startHost();
  server.renewal = { earliestSeconds: 1, latestSeconds: 2 };
  entries.create('web');
  const agent = start({ crlRefreshMs: 3_600_000 });
  const [before] = (await agent.serves('web')).svids;
  authority.revoke(before!.serial as Serial);
  await agent.until(() => agent.now?.svids.some(({ serial }) => serial !== before!.serial));
  expect(agent.notices.join('\n')).toContain(`serial ${before!.serial}); no longer served`);
});

describe('a server that is there', () => {
  test('and refuses everybody is not stormed', async () => {
    const { entries, start } = await startHost();
    for (let at = 0; at < 30; at += 1) entries.create(`w${at}`);
    entries.away = problem(503, 'unavailable-overloaded', 'busy', { 'retry-after': '1' });
    const agent = start();
    await agent.until(() => agent.notices.some((line) => line.includes('busy')));
    entries.away = undefined;
    await agent.until(() => agent.names.length === 30, 20_000);
    expect(entries.calls).toHaveLength(1);
  });

  test('says how wrong this machine’s clock is', async () => {
    const { entries, server, start } = await startHost();
    server.clockOffsetMs = -120_000;
    entries.create('web');
    const agent = start();
    await agent.serves('web');
    expect(
      agent.notices.filter((line) => /clock is (119|120|121|2 min).* ahead of the server's/.test(line)),
    ).not.toHaveLength(0);
    const off = await eventually(() => agent.notices.filter((line) => line.includes('ahead of the server')));
    expect(off.length).toBeLessThanOrEqual(2);
  });
});

test('600 entries are had in two calls, and each by itself is renewed at its own moment', async () => {
  const { entries, start } = await startHost();
  for (let at = 0; at < 600; at += 1) entries.create(`w${at}`);
  const agent = start();
  await agent.until(() => agent.names.length === 600, 25_000);
  expect(entries.calls.map(({ length }) => length)).toEqual([512, 88]);
  // First nothing, then all of it: nobody is told that there is nothing for it meanwhile.
  expect(agent.changes[0]?.svids).toHaveLength(600);
});
