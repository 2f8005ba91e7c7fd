import { X509Certificate } from 'node:crypto';
import { beforeAll, beforeEach, expect, it } from 'vitest';
import { newJoinToken } from '../../src/attestation/node/join-token/token.ts';
import { type Authority, bootAuthority, joinContent } from '../support/daemon.ts';
import { type Answer, dial, enrollBody, post, problemIn, renewBody, send } from './client.ts';

const limit = 5;
let authority: Authority;
let url: string;
let network = 0;

beforeAll(async () => {
  authority = await bootAuthority({
    configure: ({ enrollment }) => {
      enrollment.failuresPerMinute = limit;
    },
  });
  url = authority.server.ready.enrollmentUrl;
});

// What one test did from its addresses is not held against the next.
beforeEach(() => void (network += 1));

/** A client's address that no other test has. */
const at = (host: number): string => `127.0.${network}.${host}`;

const body = (token: string) => ({
  evidence: { type: 'join_token', data: token },
  csr: 'AAAA',
  binding: { signature: 'AAAA' },
});

/** An attempt with a token that nobody made. */
function fail(localAddress: string, token = newJoinToken()): Promise<Answer> {
  return post(url, '/v1/enroll', body(token), { localAddress });
}

async function honest(joinFile: string, localAddress: string): Promise<Answer> {
  const socket = await dial(url, { localAddress });
  return send(socket, {
    body: JSON.stringify(enrollBody(socket, joinFile)),
    headers: { 'content-type': 'application/json' },
  });
}

function expectLimited(answer: Answer): void {
  expect(problemIn(answer)).toMatchObject({
    status: 429,
    code: 'unavailable-rate-limited',
    detail: expect.stringContaining('wait') as unknown,
  });
  const seconds = Number(answer.headers['retry-after']);
  expect(Number.isInteger(seconds)).toBe(true);
  expect(seconds).toBeGreaterThanOrEqual(1);
  expect(seconds).toBeLessThanOrEqual(60);
}

it(`after ${limit} failures an address is told to wait, and no other one is`, async () => {
  const limited = async (): Promise<number> => {
    const metrics = await (await fetch(`${authority.server.ready.operationsUrl}/metrics`)).text();
    return Number(/^vouch_refusals_total\{code="unavailable-rate-limited"\} (\d+)$/m.exec(metrics)?.[1] ?? 0);
  };
  const before = await limited();
  for (let attempt = 0; attempt < limit; attempt += 1) expect((await fail(at(2))).status).toBe(401);
  expectLimited(await fail(at(2)));
  expect((await fail(at(3))).status).toBe(401);
  expect(await limited()).toBe(before + 1);
});

it('a noisy neighbour behind one address keeps nobody with a live token from enrolling', async () => {
  const { path } = await authority.join('orders');
  for (let attempt = 0; attempt < limit; attempt += 1) await fail(at(2));
  expectLimited(await fail(at(2)));
  expect((await honest(path, at(2))).status).toBe(200);
});

it.each([
  ['is no JSON', '/v1/enroll', '{', {}],
  ['is another type', '/v1/enroll', 'a=b', { 'content-type': 'application/x-www-form-urlencoded' }],
  ['is too large', '/v1/enroll', '{}', { 'content-length': 1_000_000 }],
  ['is no request', '/v1/enroll', '{}', {}],
  ['renews without a certificate', '/v1/renew', '{}', {}],
])('what %s counts as well', async (_name, path, text, headers) => {
  for (let attempt = 0; attempt < limit; attempt += 1) {
    const { status } = await post(url, path, text, { localAddress: at(2), headers });
    expect([400, 401, 413]).toContain(status);
  }
  expectLimited(await post(url, path, text, { localAddress: at(2), headers }));
  expectLimited(await fail(at(2)));
});

it('a used token with ever other keys counts against the token', async () => {
  const { path } = await authority.join('orders');
  expect((await honest(path, at(9))).status).toBe(200);
  for (let attempt = 0; attempt < limit; attempt += 1)
    expect((await honest(path, at(10 + attempt))).status).toBe(409);
  expectLimited(await honest(path, at(99)));
});

it('one token is limited wherever it is tried from', async () => {
  const token = newJoinToken();
  for (let attempt = 0; attempt < limit; attempt += 1)
    expect((await fail(at(10 + attempt), token)).status).toBe(401);
  expectLimited(await fail(at(99), token));
  expect((await fail(at(99))).status).toBe(401);
});

it('success costs nothing', async () => {
  const { path } = await authority.join('orders', '--uses', '20');
  for (let attempt = 0; attempt < 2 * limit; attempt += 1)
    expect((await honest(path, at(2))).status).toBe(200);
});

it('a noisy neighbour behind one address keeps nobody from renewing', async () => {
  const orders = await authority.enroll('orders');
  const shown = { cert: orders.read('svid.pem'), key: orders.read('svid.key') };
  const renew = async () => {
    const socket = await dial(url, { ...shown, localAddress: at(2) });
    const renewal = JSON.stringify(renewBody(socket, new X509Certificate(shown.cert)));
    return send(socket, {
      path: '/v1/renew',
      body: renewal,
      headers: { 'content-type': 'application/json' },
    });
  };
  for (let attempt = 0; attempt <= limit; attempt += 1) await fail(at(2));
  expectLimited(await fail(at(2)));
  expect((await renew()).status).toBe(200);

  // Its own failures are its own.
  for (let attempt = 0; attempt < limit; attempt += 1)
    expect((await post(url, '/v1/renew', {}, { ...shown, localAddress: at(20 + attempt) })).status).toBe(400);
  expectLimited(await renew());
});

it('the agent waits as it is told to, and says so', async () => {
  const { path } = await authority.join('orders');
  for (let attempt = 0; attempt < limit; attempt += 1)
    expect((await post(url, '/v1/enroll', body(joinContent(path).token))).status).toBe(400);
  const ran = await authority.vouch(
    'enroll',
    '--join-file',
    path,
    '--out',
    authority.path('out'),
    '--timeout',
    '2',
  );
  expect(ran.code).toBe(75);
  expect(ran.problem).toMatchObject({
    code: 'unavailable-rate-limited',
    detail: expect.stringMatching(/too many failed attempts.*gave up after one attempt/) as unknown,
  });
});
