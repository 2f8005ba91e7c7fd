import { createServer } from 'node:https';
import { expect, test } from 'vitest';
import type { Peer } from '../../src/client/main.ts';
import { eventually } from '../agent/support/bundle.ts';
import { FakeAuthority } from '../agent/support/fake-authority.ts';
import { get, listening, service } from './support.ts';

const billing = 'spiffe://example.org/billing';
const orders = 'spiffe://example.org/orders';

/** Billing serves and orders calls; `callers` is who called, and from which port. */
async function pair() {
  const authority = new FakeAuthority();
  const server = await service(authority, 'billing', [orders]);
  const client = await service(authority, 'orders');
  const there = await server.open({ pollMs: 20 });
  const here = await client.open({ pollMs: 20 });
  const callers: { peer: Peer | undefined; port: number | undefined }[] = [];
  const listener = createServer(there.vouch.serverOptions(), (request, response) => {
    callers.push({ peer: there.vouch.peerOf(request.socket), port: request.socket.remotePort });
    response.end();
  });
  const port = await listening(there.vouch.secure(listener));
  const options = here.vouch.clientOptions({ serverId: billing });
  /** One call; afterwards its connection is idle or closed. */
  const call = async (): Promise<void> => {
    await get(port, options);
    await eventually(() => (Object.keys(options.agent.sockets).length === 0 ? true : undefined));
  };
  return { authority, server, client, there, here, port, callers, call };
}

test('a caller uses its connection again', async () => {
  const { call, callers } = await pair();
  await call();
  await call();
  expect(callers[1]?.port).toBe(callers[0]?.port);
});
