import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { type Answer, dial, enroll, problemIn, renewBody, send } from './client.ts';

const inFlightMax = 8;
/** First enrollments may use three quarters; the rest is for who already runs. */
const enrollments = 6;
let authority: Authority;
let url: string;
let orders: Workload;

beforeAll(async () => {
  authority = await bootAuthority({
    configure: ({ enrollment }) => {
      enrollment.inFlightMax = inFlightMax;
    },
  });
  url = authority.server.ready.enrollmentUrl;
  orders = await authority.enroll('orders');
});

/** A request that has begun and does not go on. */
async function stalled(path: string, shown = {}): Promise<TLSSocket> {
  const socket = await dial(url, shown);
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: vouch\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{`,
  );
  return socket;
}

const shown = () => ({ cert: orders.read('svid.pem'), key: orders.read('svid.key') });

async function renew(): Promise<Answer> {
  const socket = await dial(url, shown());
  const body = JSON.stringify(renewBody(socket, new X509Certificate(orders.read('svid.pem'))));
  return send(socket, { path: '/v1/renew', body, headers: { 'content-type': 'application/json' } });
}

async function inFlight(count: number): Promise<void> {
  await eventually(async () => {
    const metrics = await (await fetch(`${authority.server.ready.operationsUrl}/metrics`)).text();
    return metrics.includes(`\nvouch_enrollments_in_flight ${count}\n`);
  });
}

function expectOverload(answer: Answer): void {
  expect(problemIn(answer)).toMatchObject({
    status: 503,
    code: 'unavailable-overloaded',
    detail: expect.stringContaining('try again') as unknown,
  });
  const seconds = Number(answer.headers['retry-after']);
  expect(Number.isInteger(seconds) && seconds >= 1 && seconds <= 5).toBe(true);
  expect(answer.ms).toBeLessThan(200);
}

it('first enrollments are turned away first, renewals last, and all goes on when there is room', async () => {
  const { path } = await authority.join('late');
  const holding = await Promise.all(Array.from({ length: enrollments }, () => stalled('/v1/enroll')));
  await inFlight(enrollments);
  expectOverload(await enroll(url, path));
  expect((await renew()).status).toBe(200);

  // Who shows no certificate may not take the room that is kept for renewals.
  const strangers = await Promise.all(Array.from({ length: 4 }, () => stalled('/v1/renew')));
  await inFlight(enrollments);
  expect((await renew()).status).toBe(200);

  holding.push(
    ...(await Promise.all(
      Array.from({ length: inFlightMax - enrollments }, () => stalled('/v1/renew', shown())),
    )),
  );
  await inFlight(inFlightMax);
  expectOverload(await renew());
  expectOverload(await enroll(url, path));

  for (const socket of [...holding, ...strangers]) socket.destroy();
  await inFlight(0);
  expect((await enroll(url, path)).status).toBe(200);
  expect((await renew()).status).toBe(200);
});

it('the bundle, the CRLs and health are served all the same', async () => {
  const holding = await Promise.all(Array.from({ length: enrollments }, () => stalled('/v1/enroll')));
  await inFlight(enrollments);
  expect((await send(await dial(url), { method: 'GET', path: '/v1/bundle' })).status).toBe(200);
  expect((await fetch(`${authority.server.ready.publicationUrl}/bundle.json`)).status).toBe(200);
  expect((await fetch(`${authority.server.ready.operationsUrl}/readyz`)).status).toBe(200);
  for (const socket of holding) socket.destroy();
  await inFlight(0);
});

it('the agent comes back when it was told to', async () => {
  const { path } = await authority.join('patient');
  const holding = await Promise.all(Array.from({ length: enrollments }, () => stalled('/v1/enroll')));
  await inFlight(enrollments);
  const waiting = authority.vouch(
    'enroll',
    '--join-file',
    path,
    '--out',
    authority.path('out'),
    '--timeout',
    '30',
  );
  await authority.server.until((server) =>
    server.log().some((line) => line.code === 'unavailable-overloaded'),
  );
  for (const socket of holding) socket.destroy();
  expect((await waiting).json()).toMatchObject({ spiffeId: authority.id('patient') });
});
