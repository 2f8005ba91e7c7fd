// Peers whose certificates are of two issuers of one trust domain.
import { createServer } from 'node:https';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { eventually } from '../agent/support/bundle.ts';
import { FakeAuthority } from '../agent/support/fake-authority.ts';
import { cutOff, get, listening, service } from './support.ts';

const orders = 'spiffe://example.org/orders';

async function pair() {
  const authority = new FakeAuthority();
  const other = authority.addIssuer();
  const server = await service(authority, 'billing', [orders]);
  const client = await service(authority, 'orders', [], other);
  const there = await server.open({ pollMs: 20 });
  const here = await client.open({ pollMs: 20 });
  const listener = createServer(there.vouch.serverOptions(), (request, response) =>
    response.end(there.vouch.peerOf(request.socket)?.issuerKeyId),
  );
  there.vouch.secure(listener);
  const port = await listening(listener);
  const call = () => get(port, here.vouch.clientOptions({ serverId: 'spiffe://example.org/billing' }));
  return { authority, other, server, client, there, call };
}

test('talk to each other, and who is revoked by the other issuer is cut off', async () => {
  const { authority, other, server, client, there, call } = await pair();
  expect(await call()).toBe(other.keyId);
  authority.revoke(client.serial());
  server.publish();
  await eventually(() => there.events.some(({ type }) => type === 'cut'));
  await expect(call()).rejects.toThrow(cutOff);
});

test('do not count without a CRL of their issuer, nor without its certificate', async () => {
  const { authority, server, there, call } = await pair();
  await server.rotate({}, [authority.crl(authority.issuer), authority.crl(authority.root)]);
  // What was known before goes on counting; a fresh start knows nothing of it.
  expect(await call()).toBeDefined();
  there.vouch.close();
  const { vouch, events } = await server.open();
  const listener = createServer(vouch.serverOptions(), (_request, response) => response.end('in'));
  vouch.secure(listener);
  const client = await service(authority, 'orders', [], authority.otherIssuers[0]);
  const here = await client.open();
  const port = await listening(listener);
  const ask = () => get(port, here.vouch.clientOptions({ serverId: 'spiffe://example.org/billing' }));
  await expect(ask()).rejects.toThrow(cutOff);
  expect(events).toContainEqual(expect.objectContaining({ type: 'refused', code: 'policy-not-fresh' }));
  rmSync(join(server.dir, 'current', 'issuers.pem'));
  const without = await server.open();
  const second = createServer(without.vouch.serverOptions(), (_request, response) => response.end('in'));
  without.vouch.secure(second);
  const secondPort = await listening(second);
  await expect(
    get(secondPort, here.vouch.clientOptions({ serverId: 'spiffe://example.org/billing' })),
  ).rejects.toThrow(cutOff);
  expect(without.events).toContainEqual(
    expect.objectContaining({ type: 'refused', code: 'denied-certificate' }),
  );
});
