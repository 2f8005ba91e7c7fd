import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Authority, bootAuthority, initAuthority } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';

interface Readiness {
  checks: { name: string; problem?: string }[];
}

async function problemOf(authority: Authority, check: string): Promise<string | undefined> {
  const answer = await fetch(`${authority.server.ready.operationsUrl}/readyz`);
  return ((await answer.json()) as Readiness).checks.find(({ name }) => name === check)?.problem;
}

/** Nothing of its TLS identity is left, as after more than a day away. */
function loseCertificate(authority: Authority): void {
  rmSync(join(authority.state, 'server'), { recursive: true });
}

it('with the clock in doubt the operator is heard, and accepting it brings the certificate', async () => {
  // The clock was two hours ahead, and is right again: behind what was reached.
  const authority = await initAuthority();
  const ahead = new ShiftedClock(authority.path('time'));
  ahead.set('+2h');
  await authority.start({ env: ahead.env });
  // The mark is persisted each second.
  await new Promise((done) => setTimeout(done, 1200));
  await authority.server.end();
  loseCertificate(authority);
  await authority.start();
  expect(await problemOf(authority, 'certificate')).toContain('no TLS certificate');
  expect((await fetch(`${authority.server.ready.publicationUrl}/bundle.json`)).status).toBe(200);
  const { path } = await authority.join('early').catch(() => ({ path: undefined }));
  expect(path, 'no token while the clock is in doubt').toBeUndefined();

  expect((await authority.vouch('doctor', '--accept-clock')).json()).toMatchObject({
    doubt: expect.stringContaining('behind'),
  });
  await eventually(async () => (await problemOf(authority, 'certificate')) === undefined);
}, 60_000);

it('with the token away CRLs are served, and the token brings the certificate back', async () => {
  const authority = await bootAuthority();
  const joining = await authority.join('orders');
  await authority.server.end();
  loseCertificate(authority);
  const tokens = join(authority.folder, 'online/tokens');
  renameSync(tokens, `${tokens}-away`);
  await authority.start();
  const { publicationUrl } = authority.server.ready;
  expect((await fetch(`${publicationUrl}/bundle.json`)).status).toBe(200);
  const { crls } = (await authority.vouch('crl', 'show')).json<{ crls: { url: string }[] }>();
  expect(crls).toHaveLength(18);
  for (const { url } of crls) expect((await fetch(url)).status, url).toBe(200);
  expect(await problemOf(authority, 'signer')).toBeDefined();
  const early = await authority.vouch(
    'enroll',
    '--join-file',
    joining.path,
    '--out',
    authority.path('w'),
    '--timeout',
    '2',
  );
  expect(early.code, 'try again later').not.toBe(0);

  renameSync(`${tokens}-away`, tokens);
  await eventually(async () => (await problemOf(authority, 'certificate')) === undefined);
  const late = await authority.vouch('enroll', '--join-file', joining.path, '--out', authority.path('w'));
  expect(late.json()).toMatchObject({ spiffeId: authority.id('orders') });
}, 60_000);
