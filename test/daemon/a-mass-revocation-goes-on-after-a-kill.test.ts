import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { connect } from '../../src/store/sqlite/connection.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { dial, renewBody, send } from '../edge/client.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';

/** Enough to be in the middle of when the kill comes. */
const count = 1600;

let authority: Authority;
let workload: Workload;

beforeAll(async () => {
  authority = await bootAuthority();
  workload = await authority.enroll('many');
  await Promise.all(Array.from({ length: 4 }, () => renewed(count / 4)));
}, 120_000);

/** Has the same certificate renewed again and again. */
async function renewed(times: number): Promise<void> {
  const tls = { cert: workload.read('svid.pem'), key: workload.read('svid.key') };
  for (let done = 0; done < times; done += 1) {
    const socket = await dial(authority.server.ready.enrollmentUrl, tls);
    const body = JSON.stringify(renewBody(socket, new X509Certificate(tls.cert)));
    const headers = { 'content-type': 'application/json' };
    expect((await send(socket, { path: '/v1/renew', body, headers })).status).toBe(200);
  }
}

const operator = `uid:${process.getuid?.()}`;
const revoke = (...flags: string[]) => authority.vouch('revoke', '--operator', operator, ...flags);

interface Mass {
  event_count: number;
  ended_by: number | null;
}

function stored(): Mass[] {
  const db = connect(join(authority.state, 'vouch.db'), { readonly: true });
  try {
    return db.prepare<[], Mass>('SELECT event_count, ended_by FROM mass_revocations').all();
  } finally {
    db.close();
  }
}

it('shows what it would take, and without a terminal asks for --yes', async () => {
  expect((await revoke('--dry-run')).json()).toMatchObject({
    ...{ certificateCount: count + 1, identities: [authority.id('many')], identityCount: 1 },
    ...{ joinTokenCount: 1, revokesTokenCount: 1, suspendsEntryCount: 0 },
  });
  expect(await revoke()).toMatchObject({ code: 2, problem: { code: 'usage-confirm' } });
  expect(stored()).toEqual([]);
  const image = await authority.vouch('revoke', '--image', 'sha256:00');
  expect(image).toMatchObject({
    code: 2,
    problem: { detail: expect.stringContaining('attestation of images') },
  });
});

it('goes on by itself after the server was killed, and the same command joins it', async () => {
  const cut = revoke('--reason', 'privilegeWithdrawn', '--yes');
  while ((stored()[0]?.event_count ?? 0) === 0) await new Promise(setImmediate);
  authority.server.child.kill('SIGKILL');
  await authority.server.ended();
  expect(await cut).toMatchObject({
    code: 75,
    problem: { detail: expect.stringContaining('goes on by itself') },
  });
  const [left] = stored();
  expect(left).toMatchObject({ ended_by: null });
  expect(left?.event_count).toBeLessThan(count);

  await authority.start();
  const again = await revoke('--reason', 'privilegeWithdrawn', '--yes');
  expect(again.json()).toMatchObject({ published: true });
  expect(stored()[0]).toMatchObject({ event_count: count + 1, ended_by: expect.any(Number) });

  const { publicationUrl } = authority.server.ready;
  const response = await fetch(`${publicationUrl}/crl/${workload.delivery.issuerKeyId}.crl`);
  const crl = parseCrl(Buffer.from(await response.arrayBuffer()));
  expect([...crl.revoked()].filter(({ reason }) => reason === 'privilegeWithdrawn')).toHaveLength(count + 1);
  expect((await authority.vouch('renew', '--dir', workload.dir)).problem.code).toBe('denied-revoked');
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
});

it('holds and releases by the command line', async () => {
  const held = await authority.enroll('held');
  const by = ['--serial', held.serial];
  (await authority.vouch('revoke', ...by, '--reason', 'certificateHold')).json();
  expect((await authority.vouch('renew', '--dir', held.dir)).problem.code).toBe('denied-revoked');
  expect((await authority.vouch('release', ...by)).json()).toMatchObject({
    ...{ released: [{ serial: held.serial }], published: true },
  });
  expect((await authority.vouch('renew', '--dir', held.dir)).code).toBe(0);
  (await authority.vouch('revoke', ...by, '--only', '--reason', 'keyCompromise')).json();
  expect(await authority.vouch('release', ...by)).toMatchObject({
    code: 1,
    problem: { code: 'policy-conflict' },
  });
});
