import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { beforeEach, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { askJwtSvid, createEntry } from '../support/jwt.ts';
import { eventually } from '../support/running.ts';
import { signalTo } from '../support/signal.ts';
import { type Answer, dial, type DialOptions, enroll, problemIn, renewBody, send } from './client.ts';
import { limitMs } from '../support/limits.ts';

const inFlightMax = 8;
/** First enrollments may use three quarters; the rest is for who already runs. */
const enrollments = 6;
let authority: Authority;
let url: string;
let orders: Workload;

beforeEach(async () => {
  authority = await bootAuthority({
    configure: ({ enrollment }) => {
      enrollment.inFlightMax = inFlightMax;
    },
  });
  url = authority.server.ready.enrollmentUrl;
  orders = await authority.enroll('orders');
});

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

/** Honest enrollments that wait for a signer that stands still; it is replaced after two seconds. */
async function waitingForSigner(): Promise<Promise<Answer>[]> {
  const joins = await Promise.all(Array.from({ length: enrollments }, (_, at) => authority.join(`w${at}`)));
  signalTo(authority.server.ready.signerPid, 'SIGSTOP');
  const waiting = joins.map(({ path }) => enroll(url, path));
  await inFlight(enrollments);
  return waiting;
}

function expectOverload(answer: Answer): void {
  expect(problemIn(answer)).toMatchObject({
    status: 503,
    code: 'unavailable-overloaded',
    detail: expect.stringContaining('try again') as unknown,
  });
  const seconds = Number(answer.headers['retry-after']);
  expect(Number.isInteger(seconds) && seconds >= 1 && seconds <= 5).toBe(true);
  expect(answer.ms).toBeLessThan(limitMs(200));
}

it('first enrollments are turned away first, renewals last, what is signed is served, and all goes on when there is room', async () => {
  const { path } = await authority.join('late');
  const waiting = await waitingForSigner();
  expectOverload(await enroll(url, path));
  const renewals = Array.from({ length: inFlightMax - enrollments }, () => renew());
  await inFlight(inFlightMax);
  expectOverload(await renew());
  expectOverload(await enroll(url, path));
  expect((await send(await dial(url), { method: 'GET', path: '/v1/bundle' })).status).toBe(200);
  expect((await fetch(`${authority.server.ready.publicationUrl}/bundle.json`)).status).toBe(200);
  expect((await fetch(`${authority.server.ready.operationsUrl}/livez`)).status).toBe(200);

  for (const answer of await Promise.all([...waiting, ...renewals])) expect(answer.status).toBe(200);
  await inFlight(0);
  expect((await enroll(url, path)).status).toBe(200);
  expect((await renew()).status).toBe(200);
});

it('JWT-SVIDs take no room from certificates, and two agents that ask for many leave some to a third', async () => {
  const names = ['web', 'db', 'cache'] as const;
  const [web, db, cache] = await Promise.all(
    names.map((name) => createEntry(authority, name, `host-${name}`)),
  );
  const [greedy, too, third] = await Promise.all(names.map((name) => authority.enroll(`host-${name}`)));
  const { path } = await authority.join('meanwhile');
  signalTo(authority.server.ready.signerPid, 'SIGSTOP');
  const answered: Answer[] = [];
  const ask = async (agent = orders, entryId = '', audience = 'a') => {
    const answer = await askJwtSvid(authority, agent, { entryId, audience: [audience] });
    answered.push(answer);
    return answer;
  };
  const asking = Array.from({ length: inFlightMax * 3 }, (_, at) =>
    at % 2 === 0 ? ask(greedy, web, `a${at}`) : ask(too, db, `a${at}`),
  );
  // As many are at the signer as wait.
  await eventually(() => Promise.resolve(answered.length === inFlightMax));
  for (const answer of answered) expectOverload(answer);
  const others = [enroll(url, path), renew(), ask(third, cache)];
  for (const answer of await Promise.all(others)) expect(answer.status).toBe(200);
  // Who has most waiting made room for the third.
  expect((await Promise.all(asking)).filter(({ status }) => status === 503)).toHaveLength(inFlightMax + 1);
});

it('the agent comes back when it was told to', async () => {
  const { path } = await authority.join('patient');
  const waiting = await waitingForSigner();
  const out = authority.path('out');
  const patient = authority.vouch('enroll', '--join-file', path, '--out', out, '--timeout', '30');
  await authority.server.until((server) =>
    server.log().some((line) => line.code === 'unavailable-overloaded'),
  );
  await Promise.all(waiting);
  expect((await patient).json()).toMatchObject({ spiffeId: authority.id('patient') });
});

/** A connection on which a request has begun that does not go on. */
async function stalled(path: string, options: DialOptions): Promise<TLSSocket> {
  const socket = await dial(url, options);
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: vouch\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{`,
  );
  return socket;
}

it.each([
  ['enrollments', () => stalled('/v1/enroll', {})],
  ['renewals', () => stalled('/v1/renew', shown())],
])('%s whose bodies do not come take no room', async (_name, begin) => {
  const { path } = await authority.join('honest');
  const holding = await Promise.all(Array.from({ length: 2 * inFlightMax }, begin));
  for (let look = 0; look < 5; look += 1) expect((await renew()).status).toBe(200);
  expect((await enroll(url, path)).status).toBe(200);
  for (const socket of holding) socket.destroy();
});
