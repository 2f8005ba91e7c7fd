import { connect, createSecureServer, type ClientHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import type { Peer } from '../../src/client/main.ts';
import { eventually } from '../agent/support/bundle.ts';
import { FakeAuthority } from '../agent/support/fake-authority.ts';
import { service } from './support.ts';

const billing = 'spiffe://example.org/billing';
const orders = 'spiffe://example.org/orders';

/** Billing serves HTTP/2 and orders has a session with it. `requests`: with whom `peerOf` said they came from. */
async function pair() {
  const authority = new FakeAuthority();
  const server = await service(authority, 'billing', [orders]);
  const client = await service(authority, 'orders');
  const there = await server.open();
  const here = await client.open();
  const requests: { sockets: unknown[]; peers: (Peer | undefined)[] }[] = [];
  const listener = createSecureServer(there.vouch.serverOptions(), (request, response) => {
    const sockets = [request.socket, request.stream.session?.socket];
    requests.push({ sockets, peers: sockets.map((socket) => there.vouch.peerOf(socket)) });
    response.end();
  });
  there.vouch.secure(listener);
  await new Promise<void>((resolve) => void listener.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void listener.close());
  const { port } = listener.address() as AddressInfo;
  const session = connect(`https://127.0.0.1:${port}`, here.vouch.clientOptions({ serverId: billing })).on(
    'error',
    () => undefined,
  );
  onTestFinished(() => session.destroy());
  await new Promise((resolve) => void session.once('connect', resolve));
  here.vouch.secure(session.socket as TLSSocket, { serverId: billing });
  return { authority, server, client, there, here, requests, session };
}

function ask(session: ClientHttp2Session): Promise<void> {
  const stream = session.request({ ':path': '/' });
  stream.resume().end();
  return new Promise((resolve) => void stream.once('close', resolve));
}

test('both ends of an HTTP/2 session know the other, as long as it lasts', async () => {
  const { client, server, there, here, requests, session } = await pair();
  await ask(session);
  const caller = { spiffeId: orders, serial: client.serial() };
  expect(requests[0]?.peers).toMatchObject([caller, caller]);
  const { socket } = session;
  expect(here.vouch.peerOf(socket)).toMatchObject({ spiffeId: billing, serial: server.serial() });
  session.close();
  const anybody = () => requests[0]?.sockets.some((one) => there.vouch.peerOf(one) !== undefined);
  expect(await eventually(() => (anybody() ? undefined : 'nobody'))).toBe('nobody');
  expect(here.vouch.peerOf(socket)).toBeUndefined();
});

test.each([
  ['server', 'client'],
  ['client', 'server'],
] as const)('an HTTP/2 session ends when its %s is revoked', async (revoked, other) => {
  const { authority, session, there, here, ...services } = await pair();
  await ask(session);
  const closed = new Promise((resolve) => void session.once('close', resolve));
  authority.revoke(services[revoked].serial());
  services[other].publish();
  await closed;
  const { events } = other === 'client' ? here : there;
  expect(events).toContainEqual(expect.objectContaining({ type: 'cut' }));
});

test('an identity does not take the peers of another in its process for its own', async () => {
  const { there, here, session } = await pair();
  expect(there.vouch.peerOf(session.socket)).toBeUndefined();
  expect(here.vouch.peerOf(session.socket)?.spiffeId).toBe(billing);
});
