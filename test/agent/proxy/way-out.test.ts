import { execFile } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer as createWebServer } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createServer, type TlsOptions } from 'node:tls';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { type Service, service } from '../../client/support.ts';
import { eventually } from '../support/bundle.ts';
import { chainPem, FakeAuthority, newKey, seconds } from '../support/fake-authority.ts';
import { dial, emptied, files, heard, listening, plainServer, proxied } from './support.ts';
import { limitMs } from '../../support/limits.ts';

const run = promisify(execFile);
const db = 'spiffe://example.org/db';
const gateway = 'spiffe://example.org/gateway';

function serverOptions(of: Service): TlsOptions {
  const { cert, key, ca } = files(of);
  return { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(ca), requestCert: true };
}

/** A TLS server that greets and echoes, and all that it heard and from whom. */
async function tlsServer(options: TlsOptions) {
  const said: string[] = [];
  const callers: string[] = [];
  const server = createServer({ ...options, allowHalfOpen: true }, (socket) => {
    callers.push(String(socket.getPeerX509Certificate()?.subjectAltName));
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      said.push(chunk.toString());
      socket.write(chunk);
    });
    socket.on('end', () => socket.end(' and goodbye'));
  });
  server.on('tlsClientError', () => undefined);
  return { port: await listening(server), said, callers };
}

async function parts() {
  const authority = new FakeAuthority();
  return { authority, client: await service(authority, 'gateway'), server: await service(authority, 'db') };
}

describe('a way out', () => {
  test('speaks as this workload, and passes on an end each way', async () => {
    const { client, server } = await parts();
    const { port: to, callers } = await tlsServer(serverOptions(server));
    const { port } = await proxied(client, { to: `127.0.0.1:${to}`, expect: db });
    const caller = dial(port);
    caller.socket.end('select 1');
    expect(await caller.over).toBe('end');
    expect(caller.text()).toBe('select 1 and goodbye');
    expect(callers).toEqual([`URI:${gateway}`]);
  });

  test('lets curl speak plainly to a server that wants mTLS', async () => {
    const { client, server } = await parts();
    const web = createWebServer(
      { ...serverOptions(server), rejectUnauthorized: true },
      (_request, response) => response.end('secret'),
    );
    const to = await listening(web);
    const { port } = await proxied(client, { to: `localhost:${to}`, expect: [gateway, db] });
    expect((await run('curl', ['-sS', `http://127.0.0.1:${port}/`])).stdout).toBe('secret');
    web.closeAllConnections();
  });

  test('from one proxy into another', async () => {
    const { client, server } = await parts();
    const plain = await plainServer();
    const into = await proxied(server, { to: `127.0.0.1:${plain.port}` });
    const out = await proxied(client, { to: `127.0.0.1:${into.port}`, expect: db });
    const caller = dial(out.port);
    caller.socket.end('through both');
    expect(await caller.over).toBe('end');
    expect(caller.text()).toBe('through both');
  });

  test('on a unix socket that only its owner may open; a dead one is replaced, a file is not', async () => {
    const { client, server } = await parts();
    const { port: to } = await tlsServer(serverOptions(server));
    const path = join(client.dir, 'db.sock');
    const first = await proxied(client, { listen: `unix:${path}`, to: `127.0.0.1:${to}`, expect: db });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const caller = heard(connect({ path, allowHalfOpen: true }));
    caller.socket.end('hello');
    expect(await caller.over).toBe('end');
    expect(caller.text()).toBe('hello and goodbye');
    const again = proxied(client, { listen: `unix:${path}`, to: `127.0.0.1:${to}`, expect: db });
    await expect(again).rejects.toMatchObject({ code: 'config-in-use' });
    await first.proxy.close();
    const file = join(client.dir, 'no-socket');
    writeFileSync(file, '');
    const onFile = proxied(client, { listen: `unix:${file}`, to: `127.0.0.1:${to}`, expect: db });
    await expect(onFile).rejects.toMatchObject({ code: 'config-invalid' });
  });
});

describe('not a byte goes to', () => {
  const hour = 3600;
  const cases: Record<string, (p: Awaited<ReturnType<typeof parts>>) => Promise<TlsOptions>> = {
    'a workload of another name': async ({ authority }) => serverOptions(await service(authority, 'other')),
    'a name below the expected one': async ({ authority }) => serverOptions(await service(authority, 'db/x')),
    'a revoked server': async ({ authority, server, client }) => {
      authority.revoke(server.serial());
      await client.rotate();
      return serverOptions(server);
    },
    'an expired one': async ({ server }) => {
      const now = seconds(Date.now());
      await server.rotate({ notBeforeSeconds: now - 2 * hour, notAfterSeconds: now - hour });
      return serverOptions(server);
    },
    'one with two names': async ({ server }) => {
      await server.rotate({ uris: [db, gateway] });
      return serverOptions(server);
    },
    'a stranger who claims the name': async ({ server }) => {
      const stranger = new FakeAuthority();
      const key = newKey();
      const cert = chainPem(stranger.issue(key.spki, { uris: [db] }), stranger.issuer.der);
      return { ...serverOptions(server), cert, key: key.pem };
    },
    'one that has only TLS 1.2': async ({ server }) => ({ ...serverOptions(server), maxVersion: 'TLSv1.2' }),
  };
  for (const [which, optionsOf] of Object.entries(cases))
    test(`a server: ${which}`, async () => {
      const p = await parts();
      const { port: to, said } = await tlsServer(await optionsOf(p));
      const { port, notices, proxy } = await proxied(p.client, { to: `127.0.0.1:${to}`, expect: db });
      const caller = dial(port);
      caller.socket.write('my password');
      expect(await caller.over).toBe('ECONNRESET');
      expect(said).toEqual([]);
      expect(notices.join()).toMatch(/refused 127|cannot reach/);
      expect(proxy.counts.passed).toBe(0);
      expect(await emptied(proxy)).toBe(true);
    });
});

describe('an open connection', () => {
  async function open() {
    const p = await parts();
    const { port: to, said } = await tlsServer(serverOptions(p.server));
    const running = await proxied(p.client, { to: `127.0.0.1:${to}`, expect: db });
    const caller = dial(running.port);
    caller.socket.write('hello');
    expect(await eventually(() => (caller.text() === 'hello' ? true : undefined))).toBe(true);
    return { ...p, ...running, caller, said };
  }

  test('to a server that is revoked is cut within a second', async () => {
    const { authority, server, client, caller } = await open();
    authority.revoke(server.serial());
    const from = performance.now();
    client.publish();
    expect(await caller.over).toBe('ECONNRESET');
    expect(performance.now() - from).toBeLessThan(limitMs(1000));
  });

  test('to a server whose certificate has ended is cut', async () => {
    const { clock, client, caller } = await open();
    await client.rotate({ notAfterSeconds: seconds(Date.now()) + 10 * 3600 });
    clock.ahead = 66 * 60_000;
    expect(await caller.over).toBe('ECONNRESET');
  });
});

test('a server that is away, or says nothing: the local program is told by a reset', async () => {
  const { client } = await parts();
  const away = await proxied(client, { to: '127.0.0.1:1', expect: db });
  expect(await dial(away.port).over).toBe('ECONNRESET');
  expect(away.notices.join()).toContain('cannot reach 127.0.0.1:1: ECONNREFUSED');
  const mute = await plainServer(() => undefined);
  const late = await proxied(client, { to: `127.0.0.1:${mute.port}`, expect: db, limits: { connect: '1s' } });
  expect(await dial(late.port).over).toBe('ECONNRESET');
  expect(late.notices.join()).toContain('no answer within 1 s');
  expect(await emptied(late.proxy)).toBe(true);
});

test('a server that leaves in the middle of the handshake is not waited for', async () => {
  const { client } = await parts();
  const leaves = await plainServer((socket) => void socket.end());
  const { port, notices } = await proxied(client, {
    to: `127.0.0.1:${leaves.port}`,
    expect: db,
    limits: { connect: '1m' },
  });
  expect(await dial(port).over).toBe('ECONNRESET');
  expect(notices.join()).toContain('cannot reach');
});

test('a local program that goes away while its way out is being dialled leaves nothing behind', async () => {
  const { client } = await parts();
  const mute = await plainServer(() => undefined);
  const { port, proxy } = await proxied(client, { to: `127.0.0.1:${mute.port}`, expect: db });
  const caller = dial(port);
  await eventually(() => mute.taken[0]);
  caller.socket.resetAndDestroy();
  expect(await emptied(proxy)).toBe(true);
  expect(await eventually(() => (mute.taken[0]?.closed ? true : undefined), 2000)).toBe(true);
});
