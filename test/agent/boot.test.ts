import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { executable } from './support/executable.ts';
import { startAuthority } from './support/harness.ts';

/** A folder in which orders has started, and billing's join file instead of its own. */
async function shared() {
  const { server } = await startAuthority();
  const one = await executable(server);
  expect(await one.exec('').exited).toBe(0);
  server.spiffeId = 'spiffe://example.org/billing';
  writeFileSync(one.joinFile, `${server.joinLine()}\n`);
  const identity = () => new X509Certificate(one.read('svid.pem')).subjectAltName;
  return { ...one, server, identity };
}

describe('a certificate that another join token made', () => {
  test('is somebody else’s: the workload enrolls with its own, and it is said why', async () => {
    const one = await shared();
    const running = one.exec('');
    expect(await running.exited).toBe(0);
    expect(one.identity()).toBe('URI:spiffe://example.org/billing');
    expect(running.stderr()).toMatch(
      /holds a certificate of spiffe:\/\/example.org\/orders that another join token made; enrolling/,
    );
    const again = one.exec('');
    expect(await again.exited).toBe(0);
    expect(again.stderr()).toBe('');
    expect(one.server.requests.filter((path) => path === '/v1/renew')).toHaveLength(1);
  });

  test('is not fallen back to: with a spent token exit 78, with the server away exit 75', async () => {
    const one = await shared();
    for (const token of one.server.tokens.keys()) one.server.tokens.set(token, 'somebody');
    const spent = one.exec('console.log("started")');
    expect(await spent.exited).toBe(78);
    expect(spent.stderr()).toMatch(/used with another key.*holds no valid certificate of this join token/);
    await one.server.goAway();
    const alone = one.exec('console.log("started")', '--timeout', '1');
    expect(await alone.exited).toBe(75);
    expect(spent.stdout() + alone.stdout()).toBe('');
    expect(one.identity()).toBe('URI:spiffe://example.org/orders');
  });
});

describe('a restart with the server away', () => {
  test('and a network that swallows packets waits no longer for CRLs than it must', async () => {
    const { authority, server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    await server.stop();
    await swallowingAt(Number(new URL(authority.publicationUrl).port));
    const running = one.exec('console.log("started")');
    await running.seen('stdout', /started\n/, 10_000);
    expect(await running.exited).toBe(0);
    expect(running.stderr()).toMatch(/no newer CRL within 2 s; those in .* are used/);
  });

  test('and a CRL that says it is revoked does not start, --crl allow-stale or not', async () => {
    const { authority, server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    const [der = Buffer.alloc(0)] = decodePem(one.read('svid.pem'), 'CERTIFICATE');
    authority.revoke(parseCertificate(der).serial);
    await server.goAway();
    for (const policy of ['require', 'allow-stale']) {
      const running = one.exec('console.log("started")', '--crl', policy);
      expect(await running.exited).toBe(1);
      expect(running.stderr()).toContain('denied-revoked');
    }
  });
});

/** Takes connections and never answers. */
async function swallowingAt(port: number): Promise<void> {
  const sockets = new Set<Socket>();
  const listener = createServer((socket) => sockets.add(socket.on('error', () => undefined)));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  });
  await new Promise<void>((resolve) => void listener.listen(port, '127.0.0.1', resolve));
}
