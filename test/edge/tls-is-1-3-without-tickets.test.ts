import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { dial, send } from './client.ts';

let authority: Authority;
let url: string;
let orders: Workload;

beforeAll(async () => {
  authority = await bootAuthority();
  url = authority.server.ready.enrollmentUrl;
  orders = await authority.enroll('orders');
});

it.each(['TLSv1', 'TLSv1.1', 'TLSv1.2'] as const)('%s is refused in the handshake', async (version) => {
  await expect(
    dial(url, { minVersion: version, maxVersion: version, ciphers: 'ALL:@SECLEVEL=0' }),
  ).rejects.toBeInstanceOf(Error);
});

it('TLS 1.3 it is', async () => {
  const socket = await dial(url);
  expect(socket.getProtocol()).toBe('TLSv1.3');
  expect(['TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256', 'TLS_AES_128_GCM_SHA256']).toContain(
    socket.getCipher().name,
  );
  socket.destroy();
});

it('no session can be taken up again: each connection is a handshake with certificates', async () => {
  const { hostname, port } = new URL(url);
  const shown = { cert: orders.read('svid.pem'), key: orders.read('svid.key') };
  const options = {
    host: hostname,
    port: Number(port),
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    ...shown,
  } as const;
  const sessions: Buffer[] = [];
  const first = tls.connect(options);
  first.on('session', (session) => sessions.push(session));
  await once(first, 'secureConnect');
  // Tickets come after the handshake; an answered request is later than any.
  expect((await send(first, { method: 'GET', path: '/v1/bundle' })).status).toBe(200);
  // OpenSSL sends names of sessions that it does not keep, where tickets are off.
  for (const session of [...sessions, first.getSession()]) {
    if (session === undefined) continue;
    const second = tls.connect({ ...options, session });
    await once(second, 'secureConnect');
    expect(second.isSessionReused()).toBe(false);
    second.destroy();
  }
});

it('a client certificate is asked for, by our root alone', async () => {
  const { hostname, port } = new URL(url);
  const seen = spawnSync('openssl', ['s_client', '-connect', `${hostname}:${port}`, '-tls1_3'], {
    input: '',
    encoding: 'utf8',
    timeout: 10_000,
  });
  expect(seen.stdout).toMatch(
    /Acceptable client certificate CA names\nO = test\.example, CN = Vouch root [0-9a-f]{16}\n(?!O =)/,
  );
  expect(seen.stdout).toMatch(/Verification error|Verify return code: 19/);
});

it('HTTP/2 is not spoken, and what is no TLS is cut', async () => {
  await expect(dial(url, { ALPNProtocols: ['h2'] })).rejects.toBeInstanceOf(Error);
  const { hostname, port } = new URL(url);
  await expect(
    new Promise((resolve, reject) =>
      http.get({ host: hostname, port, path: '/v1/bundle' }, resolve).on('error', reject),
    ),
  ).rejects.toBeInstanceOf(Error);
  const garbage = net.connect(Number(port), hostname);
  garbage.on('error', () => undefined);
  garbage.end(Buffer.alloc(10_000, 0x16));
  await once(garbage, 'close');
  expect((await send(await dial(url), { method: 'GET', path: '/v1/bundle' })).status).toBe(200);
});

it('the chain that it shows ends in the pinned root, and names the server', async () => {
  const socket = await dial(url);
  const leaf = socket.getPeerX509Certificate();
  expect(leaf?.subjectAltName).toContain(`URI:spiffe://${authority.trustDomain}/vouch/server`);
  const { hostname } = new URL(url);
  expect(leaf?.checkIP(hostname)).toBe(hostname);
  const root = leaf?.issuerCertificate?.issuerCertificate;
  expect(root?.subject).toMatch(/CN=Vouch root/);
  socket.destroy();
});
