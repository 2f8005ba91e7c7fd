import { cpSync, existsSync, renameSync, rmSync } from 'node:fs';
import { beforeAll, beforeEach, expect, it } from 'vitest';
import { type Authority, bootAuthority } from '../support/daemon.ts';

let authority: Authority;
let lastWeek: string;

beforeAll(async () => {
  authority = await bootAuthority();
  await authority.server.end();
});

/** Each test begins with the server stopped and a copy of what is there. */
beforeEach(() => {
  lastWeek = authority.path('last-week');
  cpSync(authority.state, lastWeek, { recursive: true });
});

function putBack(): void {
  rmSync(authority.state, { recursive: true, force: true });
  cpSync(lastWeek, authority.state, { recursive: true });
}

/** A server that refuses it once refuses it again, names what to do, and does not get ready. */
async function expectRefusedAsRewound(): Promise<void> {
  for (const refused of [await authority.refusal(), await authority.refusal()]) {
    expect(refused.code).toBe(1);
    expect(refused.stdout).toBe('');
    expect(refused.problem.code).toBe('integrity-rewind');
    expect(refused.problem.detail).toMatch(/vouch restore/);
  }
}

it('the whole of it; what was refused has changed nothing, and today’s state is still good', async () => {
  await authority.start();
  await authority.enroll('orders');
  await authority.server.end();
  const today = authority.path('today');
  renameSync(authority.state, today);
  putBack();
  await expectRefusedAsRewound();

  rmSync(authority.state, { recursive: true });
  renameSync(today, authority.state);
  await authority.start();
  await authority.enroll('billing');
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
  await authority.server.end();
});

it('put back before anything was done since, it is no rewind', async () => {
  putBack();
  await authority.start();
  await authority.enroll('late');
  await authority.server.end();
});

it('the database alone, after a server that was killed', async () => {
  await authority.start();
  await authority.enroll('shipping');
  // What a floor of one second ago does not know yet is no rewind to it.
  await new Promise((done) => setTimeout(done, 1500));
  await authority.server.end('SIGKILL');
  for (const name of ['vouch.db', 'vouch.db-wal', 'vouch.db-shm']) {
    rmSync(`${authority.state}/${name}`, { force: true });
    if (existsSync(`${lastWeek}/${name}`)) cpSync(`${lastWeek}/${name}`, `${authority.state}/${name}`);
  }
  await expectRefusedAsRewound();
});
