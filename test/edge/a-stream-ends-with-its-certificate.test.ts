import { once } from 'node:events';
import { X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { applyPatch } from '../../src/x509/crl-patch.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { parseSerial } from '../../src/core/serial.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { dial, problemIn, renewBody, send } from './client.ts';
import { crlsHeard, watch } from './watcher.ts';

let ours: Authority;
let theirs: Authority;
let url: string;

beforeAll(async () => {
  const generous = {
    configure: ({ enrollment }: { enrollment: Record<string, unknown> }) =>
      void (enrollment.failuresPerMinute = 10_000),
  };
  [ours, theirs] = await Promise.all([bootAuthority(generous), bootAuthority(generous)]);
  url = ours.server.ready.enrollmentUrl;
});

const shownBy = (workload: Workload) => ({ cert: workload.read('svid.pem'), key: workload.read('svid.key') });

const refused = async (shown: object) =>
  problemIn(await send(await dial(url, shown), { method: 'GET', path: '/v1/watch' }));

describe('nobody watches', () => {
  it('without a certificate, or with one of another authority', async () => {
    expect(await refused({})).toMatchObject({ status: 401, code: 'denied-certificate' });
    const stranger = shownBy(await theirs.enroll('orders'));
    expect(await refused(stranger)).toMatchObject({ status: 401, code: 'denied-certificate' });
  });

  it('with one that is revoked, or whose identity is suspended', async () => {
    const revoked = await ours.enroll('revoked');
    (await ours.vouch('revoke', '--serial', revoked.serial, '--reason', 'keyCompromise')).json();
    expect(await refused(shownBy(revoked))).toMatchObject({ status: 403, code: 'denied-revoked' });
  });
});

describe('a watcher hears', () => {
  it('what is served now, then a patch that makes the next CRL of it byte for byte', async () => {
    const [watching, other] = await Promise.all([ours.enroll('watching'), ours.enroll('other')]);
    const stream = await watch(url, shownBy(watching));
    expect(stream.status).toBe(200);
    await stream.until(({ event }) => event === 'bundle');
    const [before] = crlsHeard(stream.heard);
    if (!before) throw new Error(stream.text());
    expect(before).toMatchObject({ scope: 'full', from: null });
    const der = Buffer.from(await (await fetch(before.url)).arrayBuffer());
    expect(Number(parseCrl(der).crlNumber)).toBe(before.crlNumber);

    const { crlNumber } = (
      await ours.vouch('revoke', '--serial', other.serial, '--reason', 'superseded')
    ).json<{ crlNumber: number }>();
    await stream.until(({ data }) => data.crlNumber === crlNumber && data.scope === 'full');
    const patched = crlsHeard(stream.heard).find((event) => event.crlNumber === crlNumber);
    if (!patched?.patch) throw new Error(stream.text());
    expect(patched.from).toBe(before.crlNumber);
    const rebuilt = await applyPatch(der, patched.patch);
    expect(rebuilt.equals(Buffer.from(await (await fetch(before.url)).arrayBuffer()))).toBe(true);
    expect(parseCrl(rebuilt).has(parseSerial(other.serial))).toBe(true);
  });

  it('heartbeats, and is not cut for its silence', async () => {
    const stream = await watch(url, shownBy(await ours.enroll('silent')));
    const started = performance.now();
    const beats = () => stream.text().match(/^:$/gm)?.length ?? 0;
    while (beats() < 3) {
      expect(stream.socket.destroyed).toBe(false);
      await new Promise((done) => setTimeout(done, 100));
    }
    expect(performance.now() - started, 'past the silence of the listener').toBeGreaterThan(10_000);
  }, 30_000);
});

describe('at a revocation', () => {
  it('its stream and its other connections are closed at once, and nobody else is', async () => {
    const [ending, staying] = await Promise.all([ours.enroll('ending'), ours.enroll('staying')]);
    const shown = shownBy(ending);
    const [stream, others, idle] = await Promise.all([
      watch(url, shown),
      watch(url, shownBy(staying)),
      dial(url, shown),
    ]);
    const closed = Promise.all([stream.closed, once(idle, 'close')]);
    idle.resume();
    const revoking = ours.vouch('revoke', '--serial', ending.serial, '--reason', 'keyCompromise');
    await closed;
    const { crlNumber } = (await revoking).json<{ crlNumber: number }>();
    await others.until(({ data }) => data.crlNumber === crlNumber);
    expect(others.socket.destroyed).toBe(false);
    expect(await refused(shown)).toMatchObject({ code: 'denied-revoked' });
    const socket = await dial(url, shown);
    const body = JSON.stringify(renewBody(socket, new X509Certificate(shown.cert)));
    const answer = await send(socket, {
      path: '/v1/renew',
      body,
      headers: { 'content-type': 'application/json' },
    });
    expect(problemIn(answer), 'its renewals are refused at once').toMatchObject({ code: 'denied-revoked' });
  });

  it('its TLS session gets nobody past it', async () => {
    const resuming = await ours.enroll('resuming');
    const shown = shownBy(resuming);
    const socket = await dial(url, shown);
    const session = once(socket, 'session') as Promise<[Buffer]>;
    await send(socket, { method: 'GET', path: '/v1/bundle' });
    (await ours.vouch('revoke', '--serial', resuming.serial, '--reason', 'keyCompromise')).json();
    const again = await dial(url, { ...shown, session: (await session)[0] });
    expect(again.isSessionReused()).toBe(false);
    const answer = await send(again, { method: 'GET', path: '/v1/watch' });
    expect(problemIn(answer)).toMatchObject({ code: 'denied-revoked' });
  });
});

it('a suspended identity has no stream, and may come again when it is resumed', async () => {
  const workload = await ours.enroll('suspended');
  const stream = await watch(url, shownBy(workload));
  (await ours.vouch('revoke', '--id', ours.id('suspended'), '--reason', 'superseded', '--yes')).json();
  await stream.closed;
  (await ours.vouch('entry', 'resume', '--id', ours.id('suspended'))).json();
  expect((await watch(url, shownBy(await ours.enroll('suspended')))).status).toBe(200);
});

describe('an order to renew', () => {
  it('reaches the holders of older certificates, now or when they come, and nobody else', async () => {
    const [mine, others] = await Promise.all([ours.enroll('mine'), ours.enroll('others')]);
    const [stream, other] = await Promise.all([watch(url, shownBy(mine)), watch(url, shownBy(others))]);
    const told = (await ours.vouch('cert', 'renew-now', '--id', ours.id('mine'))).json<{
      told: number;
      logIndex: number;
    }>();
    expect(told.told).toBe(1);
    expect(await stream.until(({ event }) => event === 'renew')).toMatchObject({
      id: String(told.logIndex),
      data: { reason: 'operator' },
    });
    expect((await watch(url, shownBy(mine))).text()).toBeDefined();
    const late = await watch(url, shownBy(mine));
    await late.until(({ event }) => event === 'renew');
    const fresh = await watch(url, shownBy(await ours.enroll('mine')));
    await fresh.until(({ event }) => event === 'bundle');
    expect(fresh.heard.map(({ event }) => event)).not.toContain('renew');
    expect(other.heard.map(({ event }) => event)).not.toContain('renew');
    const { records } = (await ours.vouch('audit', '--after', String(told.logIndex - 1))).json<{
      records: Record<string, unknown>[];
    }>();
    expect(records[0]).toMatchObject({
      verb: 'renew-now',
      id: ours.id('mine'),
      operator: expect.stringContaining('uid:') as unknown,
    });
  });

  it('names one thing', async () => {
    expect((await ours.vouch('cert', 'renew-now')).problem).toMatchObject({ code: 'usage-invalid' });
  });
});
