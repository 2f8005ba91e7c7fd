import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { assembleSigned } from '../../src/x509/certificate-tbs.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';
import { type Answer, dial, newKey, post, problemIn, renewBody, send } from './client.ts';

let ours: Authority;
let theirs: Authority;
let orders: Workload;
let url: string;

beforeAll(async () => {
  const generous = {
    configure: ({ enrollment }: { enrollment: Record<string, unknown> }) =>
      void (enrollment.failuresPerMinute = 10_000),
  };
  [ours, theirs] = await Promise.all([bootAuthority(generous), bootAuthority(generous)]);
  url = ours.server.ready.enrollmentUrl;
  orders = await ours.enroll('orders');
});

interface Shown {
  cert: string;
  key: string;
}

const shownBy = (workload: Workload): Shown => ({
  cert: workload.read('svid.pem'),
  key: workload.read('svid.key'),
});

/** An honest renewal over a connection on which this certificate was shown. */
async function renew(shown: Shown, key = newKey(), csr?: Buffer): Promise<Answer> {
  const socket = await dial(url, shown);
  const body = renewBody(socket, new X509Certificate(shown.cert), key);
  const sent = csr ? { ...body, csr: csr.toString('base64') } : body;
  return send(socket, {
    path: '/v1/renew',
    body: JSON.stringify(sent),
    headers: { 'content-type': 'application/json' },
  });
}

it('with one that counts there is another: fresh serial, same names, the first as its predecessor', async () => {
  const answer = await renew(shownBy(orders));
  expect(answer.status).toBe(200);
  const { chain } = JSON.parse(answer.text) as { chain: string[] };
  const renewed = new X509Certificate(Buffer.from(chain[0] ?? '', 'base64'));
  expect(renewed.subjectAltName).toBe(`URI:${ours.id('orders')}`);
  const serial = renewed.serialNumber.toLowerCase();
  expect((await ours.vouch('cert', 'show', serial)).json()).toMatchObject({
    predecessor: orders.serial,
    lineage: orders.serial,
  });
});

it('without any', async () => {
  const socket = await dial(url);
  const body = JSON.stringify(renewBody(socket, new X509Certificate(orders.read('svid.pem'))));
  const answer = await send(socket, {
    path: '/v1/renew',
    body,
    headers: { 'content-type': 'application/json' },
  });
  expect(problemIn(answer)).toMatchObject({
    status: 401,
    code: 'denied-certificate',
    detail: expect.stringMatching(/needs a client certificate/) as unknown,
  });
});

it('with one of another authority of the same name', async () => {
  const answer = await renew(shownBy(await theirs.enroll('orders')));
  expect(problemIn(answer)).toMatchObject({ status: 401, code: 'denied-certificate' });
});

it('with its own names, issuer and serial, signed by itself', async () => {
  const key = newKey();
  const { tbs } = parseCertificate(new X509Certificate(orders.read('svid.pem')).raw);
  const forged = encodePem(
    'CERTIFICATE',
    assembleSigned(tbs, 'ecdsa-sha256', Buffer.from('3006020101020101', 'hex')),
  );
  // The key of the copied certificate is not ours to show: TLS itself refuses such a pair.
  await expect(
    renew({ cert: forged, key: key.export({ type: 'pkcs8', format: 'pem' }).toString() }),
  ).rejects.toBeInstanceOf(Error);
  const answer = await renew({
    cert: forged + (orders.read('svid.pem').split(/(?<=-----END CERTIFICATE-----\n)/)[1] ?? ''),
    key: orders.read('svid.key'),
  });
  expect(problemIn(answer)).toMatchObject({ status: 401, code: 'denied-certificate' });
});

it('with the certificate of the server itself', async () => {
  const read = (name: string) => readFileSync(`${ours.state}/server/${name}`, 'utf8');
  expect(problemIn(await renew({ cert: read('svid.pem'), key: read('svid.key') }))).toMatchObject({
    code: 'denied-certificate',
  });
});

it('with one that is revoked', async () => {
  const revoked = await ours.enroll('revoked');
  expect((await renew(shownBy(revoked))).status).toBe(200);
  (await ours.vouch('revoke', '--serial', revoked.serial, '--reason', 'keyCompromise')).json();
  expect(problemIn(await renew(shownBy(revoked)))).toMatchObject({ status: 403, code: 'denied-revoked' });
});

it('on a connection that was opened before the revocation', async () => {
  const revoked = await ours.enroll('revoked');
  const shown = shownBy(revoked);
  const socket = await dial(url, shown);
  const ask = () => {
    const body = JSON.stringify(renewBody(socket, new X509Certificate(shown.cert)));
    return send(socket, { path: '/v1/renew', body, headers: { 'content-type': 'application/json' } }, true);
  };
  expect((await ask()).status).toBe(200);
  (await ours.vouch('revoke', '--serial', revoked.serial, '--reason', 'keyCompromise')).json();
  if (!socket.destroyed) await once(socket.resume(), 'close');
  expect(problemIn(await renew(shown))).toMatchObject({ status: 403, code: 'denied-revoked' });
});

it('with one of an identity that is suspended; resumed, it needs a new join file', async () => {
  const suspended = ours.id('suspended');
  const workload = await ours.enroll('suspended');
  (await ours.vouch('revoke', '--id', suspended, '--reason', 'superseded', '--yes')).json();
  expect(problemIn(await renew(shownBy(workload)))).toMatchObject({ status: 403, code: 'denied-revoked' });
  const creating = await ours.vouch('token', 'create', '--id', suspended, '--out', ours.path('join'));
  expect(creating.problem).toMatchObject({ code: 'denied-suspended' });
  expect((await ours.vouch('entry', 'resume', '--id', suspended)).json()).toMatchObject({
    resumed: [expect.any(String)],
  });
  expect(problemIn(await renew(shownBy(workload)))).toMatchObject({ code: 'denied-revoked' });
  expect((await renew(shownBy(await ours.enroll('suspended')))).status).toBe(200);
});

it('to the names of somebody else', async () => {
  const key = newKey();
  for (const names of [
    { uris: [ours.id('admin')] },
    { dnsNames: ['admin.test.example'] },
    { ipAddresses: ['10.0.0.1'] },
  ])
    expect(problemIn(await renew(shownBy(orders), key, buildCsr(key, names)))).toMatchObject({
      status: 403,
      code: 'policy-names',
    });
});

it('for the key that it has already', async () => {
  const key = createPrivateKey(orders.read('svid.key'));
  expect(problemIn(await renew(shownBy(orders), key))).toMatchObject({
    status: 400,
    code: 'request-key',
    detail: expect.stringContaining('fresh key') as unknown,
  });
});

describe('the binding', () => {
  it('of one connection is worth nothing on another', async () => {
    const shown = shownBy(orders);
    const first = await dial(url, shown);
    const body = renewBody(first, new X509Certificate(shown.cert));
    const answer = await post(url, '/v1/renew', body, shown);
    expect(problemIn(answer)).toMatchObject({ status: 400, code: 'request-binding' });
    first.destroy();
  });

  it('of one certificate is worth nothing for another', async () => {
    const other = await ours.enroll('other');
    const socket = await dial(url, shownBy(orders));
    const body = JSON.stringify(renewBody(socket, new X509Certificate(other.read('svid.pem'))));
    const answer = await send(socket, {
      path: '/v1/renew',
      body,
      headers: { 'content-type': 'application/json' },
    });
    expect(problemIn(answer)).toMatchObject({ status: 400, code: 'request-binding' });
  });
});

it('after all of it the one that counts is still good', async () => {
  expect((await renew(shownBy(orders))).status).toBe(200);
  expect(ours.server.log().filter((line) => line.level === 'error')).toEqual([]);
});

it('with one that has expired: it says so, and to enroll again', async () => {
  const authority = await bootAuthority();
  const clock = new ShiftedClock(authority.path('time'));
  await authority.server.end();
  await authority.start({ env: clock.env });
  const workload = await authority.enroll('brief', '--lifetime', '2m');
  // An operator's word makes it the time that counts.
  clock.set('+10m');
  (await authority.vouch('doctor', '--accept-clock')).json();
  const ran = await authority.vouch('renew', '--dir', workload.dir, '--timeout', '1');
  expect(ran.code).toBe(1);
  expect(ran.problem).toMatchObject({
    code: 'denied-certificate',
    detail: expect.stringMatching(/has expired; enroll again/) as unknown,
  });
});
