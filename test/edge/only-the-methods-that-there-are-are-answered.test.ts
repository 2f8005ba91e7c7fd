import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { dial, problemIn, send } from './client.ts';

let authority: Authority;
let url: string;

beforeAll(async () => {
  authority = await bootAuthority();
  url = authority.server.ready.enrollmentUrl;
});

async function ask(method: string, path: string) {
  return send(await dial(url), { method, path });
}

it.each([
  ['/v1/enroll', 'POST', ['GET', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']],
  ['/v1/renew', 'POST', ['GET', 'PUT', 'OPTIONS']],
  ['/v1/challenge', 'POST', ['GET', 'DELETE']],
  ['/v1/bundle', 'GET, HEAD', ['POST', 'PUT', 'DELETE', 'OPTIONS']],
])('%s takes %s, and says so to any other', async (path, allow, others) => {
  for (const method of others) {
    const answer = await ask(method, path);
    expect(problemIn(answer)).toMatchObject({
      status: 405,
      code: 'request-method',
      detail: expect.stringContaining(allow) as unknown,
    });
    expect(answer.headers.allow).toBe(allow);
    expect(answer.headers['access-control-allow-origin']).toBeUndefined();
  }
  expect((await ask('HEAD', path)).status).toBe(path === '/v1/bundle' ? 200 : 405);
});

it.each([
  '/',
  '/v1',
  '/v1/enroll/',
  '/v1/enroll/x',
  '/v2/enroll',
  '/V1/ENROLL/',
  '/admin',
  '/metrics',
  '/livez',
  '/crl/x.crl',
  '/v1/status',
  '/v1/tokens',
  '/../v1/enroll',
  '/%2e%2e/etc/passwd',
  '//v1/enroll',
  '/v1/enroll%00',
  '/__proto__',
  '/constructor',
])('there is nothing at %s', async (path) => {
  for (const method of ['GET', 'POST']) expect([404, 405]).toContain((await ask(method, path)).status);
});

it('a bundle comes as JSON, without cookies and without caching', async () => {
  const answer = await ask('GET', '/v1/bundle');
  expect(answer.status).toBe(200);
  expect(answer.headers).toMatchObject({
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
  });
  expect(answer.headers['set-cookie']).toBeUndefined();
  expect(JSON.parse(answer.text)).toMatchObject({
    keys: [{ use: 'x509-svid' }, { use: 'jwt-svid' }],
    spiffe_sequence: 2,
  });
});

it('CONNECT and an upgrade to another protocol lead nowhere', async () => {
  const socket = await dial(url);
  socket.write('CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: vouch\r\n\r\n');
  await new Promise((closed) => socket.once('close', closed));
  const upgrade = await send(await dial(url), {
    method: 'GET',
    path: '/v1/bundle',
    headers: { connection: 'upgrade', upgrade: 'h2c' },
  });
  expect(upgrade.status).toBe(200);
});
