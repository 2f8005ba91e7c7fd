import { constants } from 'node:crypto';
import { createServer } from 'node:https';
import { connect, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Peer, Vouch } from '../../src/client/main.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { chainPem, FakeAuthority, newKey, seconds } from '../agent/support/fake-authority.ts';
import { eventually } from '../agent/support/bundle.ts';
import { cutOff, get, listening, service } from './support.ts';

const orders = 'spiffe://example.org/orders';
const billing = 'spiffe://example.org/billing';

/** An https server of `vouch` that tells its callers who they are. */
async function serve(vouch: Vouch): Promise<{ port: number; callers: (Peer | undefined)[] }> {
  const callers: (Peer | undefined)[] = [];
  const server = createServer(vouch.serverOptions(), (request, response) => {
    const peer = vouch.peerOf(request.socket);
    callers.push(peer);
    response.end(peer?.spiffeId ?? 'nobody');
  });
  vouch.secure(server);
  return { port: await listening(server), callers };
}

/** Billing serves, orders calls. */
async function pair(allowedClients = [orders]) {
  const authority = new FakeAuthority();
  const server = await service(authority, 'billing', allowedClients);
  const client = await service(authority, 'orders');
  const there = await server.open();
  const here = await client.open();
  const { port, callers } = await serve(there.vouch);
  const call = (choice: Parameters<Vouch['clientOptions']>[0] = { serverId: billing }) =>
    get(port, here.vouch.clientOptions(choice));
  return { authority, server, client, there, here, port, callers, call };
}

/** A raw client with its own key and certificate: what an attacker brings. */
function rawClient(port: number, cert: string, key: string, more: object = {}): TLSSocket {
  const socket = connect({ host: '127.0.0.1', port, cert, key, rejectUnauthorized: false, ...more });
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** Sends a request at once and says what comes back before the connection ends. */
function ask(socket: TLSSocket): Promise<string> {
  socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return new Promise((resolve) => void socket.once('close', () => resolve(text)));
}

test('two services talk, and each knows the other', async () => {
  const { call, callers, client, here } = await pair();
  expect(await call()).toBe(orders);
  expect(callers[0]).toMatchObject({ spiffeId: orders, serial: client.serial() });
  expect(here.vouch.spiffeId).toBe(orders);
  expect(await call({ allowed: ['spiffe://example.org/*'] })).toBe(orders);
});

describe('the server refuses', () => {
  test('a peer that peers.json does not list, and takes one of a prefix', async () => {
    const refused = await pair(['spiffe://example.org/ordersX', 'spiffe://example.org/orders/*']);
    await expect(refused.call()).rejects.toThrow(cutOff);
    expect(refused.callers).toEqual([]);
    expect(refused.there.events).toContainEqual({
      type: 'refused',
      code: 'denied-certificate',
      reason: expect.stringContaining('not among the peers') as string,
    });
    expect(await (await pair(['spiffe://example.org/*'])).call()).toBe(orders);
    await expect((await pair([])).call()).rejects.toThrow(cutOff);
  });

  test.each([
    ['no certificate', undefined],
    ['no SPIFFE ID', { uris: [], dnsNames: ['orders.example.org'] }],
    ['two URIs', { uris: [orders, 'spiffe://example.org/admin'] }],
    ['another trust domain', { uris: ['spiffe://evil.org/orders'] }],
    ['a URI that is no SPIFFE ID', { uris: ['spiffe://example.org/a/../orders'] }],
    ['a name that hides in a DNS name', { uris: ['spiffe://example.org/x'], dnsNames: ['uri.orders'] }],
    [
      'an expired certificate',
      { notBeforeSeconds: seconds(Date.now()) - 7200, notAfterSeconds: seconds(Date.now()) - 3600 },
    ],
  ])('%s', async (_name, over) => {
    const { authority, port, callers } = await pair();
    const key = newKey();
    const leaf = over === undefined ? undefined : authority.issue(key.spki, { uris: [orders], ...over });
    const socket =
      leaf === undefined
        ? connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
        : rawClient(port, chainPem(leaf, authority.issuer.der), key.pem);
    socket.on('error', () => undefined);
    expect(await ask(socket)).toBe('');
    expect(callers).toEqual([]);
  });

  test('who TLS itself would not let in, where a server was made to let in everybody', async () => {
    const { there, here } = await pair();
    const lax = createServer(
      {
        ...there.vouch.serverOptions(),
        rejectUnauthorized: false,
        ca: chainPem(new FakeAuthority().root.der),
      },
      (_request, response) => void response.end('served'),
    );
    const port = await listening(there.vouch.secure(lax));
    await expect(get(port, here.vouch.clientOptions({ serverId: billing }))).rejects.toThrow(cutOff);
    expect(there.events).toContainEqual(
      expect.objectContaining({ type: 'refused', reason: 'the peer is not authorized by TLS' }),
    );
  });

  test('to give out session tickets', async () => {
    const { there, here, port } = await pair();
    expect((there.vouch.serverOptions().secureOptions ?? 0) & constants.SSL_OP_NO_TICKET).toBe(
      constants.SSL_OP_NO_TICKET,
    );
    const open = async (session?: Buffer): Promise<{ ticket: Buffer | undefined; reused: boolean }> => {
      const socket = connect({
        host: '127.0.0.1',
        port,
        ...here.vouch.clientOptions({ serverId: billing }),
        session,
      });
      let ticket: Buffer | undefined;
      socket.on('session', (fresh: Buffer) => {
        ticket = fresh;
      });
      let reused = false;
      socket.on('secureConnect', () => {
        reused = socket.isSessionReused();
      });
      await ask(socket);
      return { ticket, reused };
    };
    const first = await open();
    expect((await open(first.ticket)).reused).toBe(false);
  });

  test('a certificate of another authority, and one signed by a workload', async () => {
    const { authority, port, callers } = await pair();
    const other = new FakeAuthority();
    const key = newKey();
    const foreign = other.issue(key.spki, { uris: [orders] });
    expect(await ask(rawClient(port, chainPem(foreign, other.issuer.der), key.pem))).toBe('');
    const mid = newKey();
    const workload = authority.issue(mid.spki, { uris: [orders] });
    const below = authority.issue(
      key.spki,
      { uris: [orders] },
      { ...authority.issuer, key: mid.key, spki: mid.spki },
    );
    expect(await ask(rawClient(port, chainPem(below, workload, authority.issuer.der), key.pem))).toBe('');
    expect(callers).toEqual([]);
  });
});

describe('the client refuses', () => {
  test('a server of another name', async () => {
    const { call, callers } = await pair();
    await expect(call({ serverId: 'spiffe://example.org/vault' })).rejects.toMatchObject({
      code: 'denied-certificate',
    });
    await expect(call({ allowed: [] })).rejects.toMatchObject({ code: 'denied-certificate' });
    expect(callers, 'nothing was sent').toEqual([]);
  });

  test('a server that is revoked, before a byte is sent', async () => {
    const { authority, server, client, here, call, callers } = await pair();
    authority.revoke(server.serial());
    client.publish();
    await eventually(() => here.events.find((event) => event.type === 'crl'));
    await expect(call()).rejects.toMatchObject({ code: 'denied-revoked' });
    expect(callers).toEqual([]);
  });

  test('a wish that is no SPIFFE ID', async () => {
    const { here } = await pair();
    expect(() => here.vouch.clientOptions({ serverId: 'billing.example.org' })).toThrow(/SPIFFE IDs/);
    expect(() => here.vouch.clientOptions({ allowed: ['*'] })).toThrow(/SPIFFE IDs/);
  });

  test('a session offered for resumption that nobody checked', async () => {
    const { here, authority } = await pair();
    const key = newKey();
    const leaf = authority.issue(key.spki, { uris: ['spiffe://example.org/vault'] });
    const tickets = createTlsServer({ cert: chainPem(leaf, authority.issuer.der), key: key.pem }, (socket) =>
      socket.end('hello'),
    );
    const port = await listening(tickets);
    const open = (session?: Buffer) =>
      new Promise<{ session: Buffer | undefined; reused: boolean; error: unknown }>((resolve) => {
        let ticket: Buffer | undefined;
        let reused = false;
        const base = here.vouch.clientOptions({ serverId: billing });
        const options =
          session === undefined ? { ...base, checkServerIdentity: () => undefined } : { ...base, session };
        const socket = connect({ host: '127.0.0.1', port, ...options });
        if (session !== undefined) here.vouch.secure(socket, { serverId: billing });
        socket.on('session', (fresh: Buffer) => {
          ticket = fresh;
        });
        socket.on('secureConnect', () => {
          reused = socket.isSessionReused();
        });
        let failure: unknown;
        socket.on('error', (error) => {
          failure = error;
        });
        socket.on('data', () => undefined);
        socket.on('close', () => resolve({ session: ticket, reused, error: failure }));
      });
    const first = await open();
    expect(first.session).toBeDefined();
    const second = await open(first.session);
    expect(second.error).toMatchObject({ code: 'denied-certificate' });
  });
});

describe('revocation reaches', () => {
  test('new connections, resumed sessions and open ones', async () => {
    const { authority, server, client, there, here, port, call, callers } = await pair();
    let session: Buffer | undefined;
    const held = connect({ host: '127.0.0.1', port, ...here.vouch.clientOptions({ serverId: billing }) });
    held.on('session', (ticket: Buffer) => {
      session = ticket;
    });
    held.on('error', () => undefined);
    await new Promise((resolve) => void held.once('secureConnect', resolve));
    expect(await call()).toBe(orders);
    const resumed = (more: object) =>
      ask(
        rawClient(
          port,
          here.vouch.clientOptions({ serverId: billing }).cert as string,
          here.vouch.clientOptions({ serverId: billing }).key as string,
          more,
        ),
      );
    expect(await resumed({ session })).toContain(orders);
    const closed = new Promise<number>(
      (resolve) => void held.once('close', () => resolve(performance.now())),
    );
    const before = callers.length;

    const revokedAt = performance.now();
    authority.revoke(client.serial());
    server.publish();
    expect((await closed) - revokedAt).toBeLessThan(1000);
    expect(there.events).toContainEqual({
      type: 'cut',
      peer: expect.objectContaining({ spiffeId: orders }) as Peer,
    });
    await expect(call()).rejects.toThrow(cutOff);
    expect(await resumed({ session })).toBe('');
    expect(callers.length).toBe(before);
  });

  test('a peer whose issuer is revoked', async () => {
    const { authority, server, there, call } = await pair();
    expect(await call()).toBe(orders);
    authority.revoke(parseCertificate(authority.issuer.der).serial, 'cACompromise');
    server.publish();
    await eventually(() => there.events.find((event) => event.type === 'cut'));
    expect(there.events.filter((event) => event.type === 'cut').length).toBeGreaterThan(0);
    await expect(call()).rejects.toThrow(cutOff);
  });

  test('the server side that keeps its own connections open', async () => {
    const { authority, server, client, here, call } = await pair();
    expect(await call()).toBe(orders);
    authority.revoke(server.serial());
    client.publish();
    expect(await eventually(() => here.events.find((event) => event.type === 'cut'))).toMatchObject({
      peer: { spiffeId: billing },
    });
  });

  test('nobody else', async () => {
    const { authority, server, call } = await pair();
    const other = new FakeAuthority();
    authority.revoke(parseCertificate(other.issue(other.root.spki, { uris: [orders] })).serial);
    server.publish();
    expect(await call()).toBe(orders);
  });
});
