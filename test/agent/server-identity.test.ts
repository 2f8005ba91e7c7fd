import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { chainPem, FakeAuthority, newKey } from './support/fake-authority.ts';
import { FakeServer, serverChain } from './support/fake-server.ts';
import { startAuthority, workload } from './support/harness.ts';
import { isPinned } from '../../src/agent/connection.ts';

const nowSeconds = Math.floor(Date.now() / 1000);

/** A server that shows what it is told to; no request may ever reach it. */
async function impostor(authority: FakeAuthority, chain: { cert: string; key: string }): Promise<FakeServer> {
  const server = await FakeServer.start(authority, chain);
  onTestFinished(() => server.stop());
  return server;
}

async function expectRefused(
  server: FakeServer,
  words: string | RegExp,
  over: Parameters<FakeServer['joinLine']>[0] = {},
): Promise<void> {
  const one = workload(server, over);
  const { code, stderr } = await one.enroll();
  expect(JSON.parse(stderr)).toMatchObject({
    code: 'denied-server',
    detail: expect.stringMatching(words) as string,
  });
  expect(code).toBe(1);
  expect(server.bodies, 'no byte of a request may reach an impostor').toEqual([]);
  expect(server.requests).toEqual([]);
  expect(existsSync(join(one.dir, 'current'))).toBe(false);
}

test('I9: a workload certificate with the host name of the server does not pass for the server', async () => {
  const authority = new FakeAuthority();
  await expectRefused(
    await impostor(authority, serverChain(authority, 'spiffe://example.org/orders')),
    /spiffe:\/\/example.org\/orders, not spiffe:\/\/example.org\/vouch\/server/,
  );
});

test.each(['/vouch/server/x', '/vouch', '/vouch/servers', '/Vouch/server'])(
  'I9: the server is exactly /vouch/server, not %s',
  async (path) => {
    const authority = new FakeAuthority();
    await expectRefused(
      await impostor(authority, serverChain(authority, `spiffe://example.org${path}`)),
      /poses as the server/,
    );
  },
);

test('I9: another authority is refused at the first connection: its root is not the pinned one', async () => {
  const other = new FakeAuthority();
  const server = await impostor(other, serverChain(other));
  await expectRefused(server, /does not show the root that the pin names/, { pin: new FakeAuthority().pin });
  expect(server.connections).toBe(1);
});

test('I9: the pinned root shown beside a chain of another authority does not help', async () => {
  const real = new FakeAuthority();
  const other = new FakeAuthority();
  const key = newKey();
  const leaf = other.issue(key.spki, {
    uris: ['spiffe://example.org/vouch/server'],
    ipAddresses: ['127.0.0.1'],
  });
  const server = await impostor(other, {
    cert: chainPem(leaf, other.issuer.der, other.root.der, real.root.der),
    key: key.pem,
  });
  await expectRefused(server, /root that the pin names|not the server that the pin names/, { pin: real.pin });
});

test('the trust domain counts', async () => {
  const { server } = await startAuthority();
  await expectRefused(server, /does not hold|trust domain/, { trustDomain: 'other.org' as never });
});

test('a certificate for other hosts is refused, and names them', async () => {
  const authority = new FakeAuthority();
  const chain = serverChain(authority, undefined, { ipAddresses: ['127.0.0.2'], dnsNames: ['ca.internal'] });
  await expectRefused(await impostor(authority, chain), /ca\.internal, 127\.0\.0\.2/);
});

test('a server certificate that has expired, or is not valid yet, points at the clock', async () => {
  const authority = new FakeAuthority();
  const past = serverChain(authority, undefined, {
    notBeforeSeconds: nowSeconds - 7200,
    notAfterSeconds: nowSeconds - 3600,
  });
  await expectRefused(await impostor(authority, past), /has expired by this machine's clock, which says 20/);
  const future = serverChain(authority, undefined, {
    notBeforeSeconds: nowSeconds + 3600,
    notAfterSeconds: nowSeconds + 7200,
  });
  await expectRefused(await impostor(authority, future), /not valid yet by this machine's clock/);
});

test('a server certificate under a CA without rights is refused', async () => {
  const authority = new FakeAuthority();
  const workloadKey = newKey();
  const notCa = authority.issue(workloadKey.spki, { uris: ['spiffe://example.org/orders'] });
  const key = newKey();
  const leaf = authority.issue(
    key.spki,
    {
      uris: ['spiffe://example.org/vouch/server'],
      ipAddresses: ['127.0.0.1'],
      issuerName: Buffer.from('3000', 'hex'),
    },
    { ...authority.issuer, key: workloadKey.key, spki: workloadKey.spki },
  );
  const server = await impostor(authority, {
    cert: chainPem(leaf, notCa, authority.issuer.der, authority.root.der),
    key: key.pem,
  });
  await expectRefused(server, /not the server|does not hold|does not show/);
});

test('TLS 1.2 is refused', async () => {
  const authority = new FakeAuthority();
  const server = createTlsServer({ ...serverChain(authority), maxVersion: 'TLSv1.2' });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const fake = await startAuthority(authority);
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const one = workload(fake.server, { server: url });
  const { code, stderr } = await one.enroll();
  expect(code).toBe(1);
  expect(stderr).toMatch(/denied-/);
});

test.each([
  ['is no HTTP', 'HTTP/1.1 garbage\r\n\r\n'],
  ['has too long a header', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`],
])('an answer that %s comes after the token: nothing is said of secrets', async (_what, answer) => {
  const authority = new FakeAuthority();
  let received = '';
  const server = createTlsServer({ ...serverChain(authority), minVersion: 'TLSv1.3' }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1');
      if (received.includes('vjt_')) socket.end(answer);
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const fake = await startAuthority(authority);
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { code, stderr } = await workload(fake.server, { server: url }).enroll();
  expect(code).toBe(1);
  expect(received).toContain('vjt_');
  expect(JSON.parse(stderr)).toMatchObject({
    code: 'denied-server',
    detail: expect.stringMatching(/the answer of https:\S+ cannot be read \(HPE_\w+\)/) as string,
  });
  expect(stderr).not.toMatch(/secret/i);
});

test('who speaks no TLS, says nothing, or is not there is away: exit 75', async () => {
  const { server } = await startAuthority();
  const mute = createServer((socket) => void socket.on('error', () => undefined));
  await new Promise<void>((resolve) => void mute.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void mute.close());
  const dead = workload(server, { server: 'https://127.0.0.1:1' });
  expect(await dead.enroll('--timeout', '1')).toMatchObject({
    code: 75,
    stderr: expect.stringContaining('ECONNREFUSED'),
  });
  const silent = workload(server, { server: `https://127.0.0.1:${(mute.address() as AddressInfo).port}` });
  expect(await silent.enroll('--timeout', '1')).toMatchObject({
    code: 75,
    stderr: expect.stringContaining('did not answer'),
  });
});

test('only a self-signed certificate is a root, whatever the pin says', () => {
  const { root, issuer, pin } = new FakeAuthority();
  const issuerPin = `sha256:${createHash('sha256').update(issuer.spki).digest('hex')}`;
  expect(isPinned(root.der, pin)).toBe(true);
  expect(isPinned(issuer.der, issuerPin)).toBe(false);
  expect(isPinned(root.der, issuerPin)).toBe(false);
  expect(isPinned(Buffer.from('nonsense'), pin)).toBe(false);
});
