import { readlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import type { Reason } from '../../src/core/reasons.ts';
import { parseSerial, type Serial } from '../../src/core/serial.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { eventually } from '../agent/support/bundle.ts';
import { FakeAuthority, seconds } from '../agent/support/fake-authority.ts';
import { cutOff, get, listening, service } from './support.ts';
import { limitMs } from '../support/limits.ts';

const billing = 'spiffe://example.org/billing';
const orders = 'spiffe://example.org/orders';

/** Billing, watching by inotify alone as far as a test can tell, and orders that calls it. */
async function pair() {
  const authority = new FakeAuthority();
  authority.crlNumber = 10n;
  const server = await service(authority, 'billing', [orders]);
  const client = await service(authority, 'orders');
  const there = await server.open({ pollMs: 60_000 });
  const here = await client.open();
  const port = await listening(
    there.vouch.secure(
      createServer(there.vouch.serverOptions(), (_request, response) => response.end('paid')),
    ),
  );
  const call = () => {
    const { agent: _agent, ...options } = here.vouch.clientOptions({ serverId: billing });
    return get(port, options);
  };
  const hold = async (): Promise<TLSSocket> => {
    const socket = connect({ host: '127.0.0.1', port, ...here.vouch.clientOptions({ serverId: billing }) });
    onTestFinished(() => void socket.destroy());
    socket.on('error', () => undefined);
    socket.write('GET / HTTP/1.1\r\nhost: billing\r\n\r\n');
    await new Promise((resolve) => void socket.once('data', resolve));
    return socket;
  };
  /** Puts a delta of the issuer in place, as the agent does. */
  const publishDelta = (
    crlNumber: bigint,
    deltaBase: bigint,
    entries: readonly [Serial, Reason][] = [],
    signer = authority.issuer,
  ): void => {
    const dateSeconds = seconds(Date.now());
    const revoked = entries.map(([serial, reason]) => encodeRevoked({ serial, dateSeconds, reason }));
    const delta = authority.crl(authority.issuer, { crlNumber, deltaBase, revoked }, signer);
    server.publish([delta, authority.crl(authority.root)], 'crl-delta.pem');
  };
  const taken = (count: number) =>
    eventually(() => there.events.filter(({ type }) => type === 'crl').length >= count || undefined);
  const problems = () => there.events.flatMap((event) => (event.type === 'problem' ? [event.reason] : []));
  return { authority, server, client, there, call, hold, publishDelta, taken, problems };
}

test('a peer revoked by the delta is cut at once and refused; released from hold it may come again', async () => {
  const { client, call, hold, publishDelta, there, taken } = await pair();
  expect(await call()).toBe('paid');
  const socket = await hold();
  const closed = new Promise((resolve) => void socket.resume().once('close', resolve));
  const started = performance.now();
  publishDelta(11n, 10n, [[client.serial(), 'certificateHold']]);
  await closed;
  expect(performance.now() - started).toBeLessThan(limitMs(1000));
  expect(there.events).toContainEqual(expect.objectContaining({ type: 'cut' }));
  await expect(call()).rejects.toThrow(cutOff);
  publishDelta(12n, 10n, [[client.serial(), 'removeFromCRL']]);
  await taken(2);
  expect(await call()).toBe('paid');
});

test('a delta undoes no more than what it names, and none that does not go with the full CRL counts', async () => {
  const { authority, server, client, call, publishDelta, taken } = await pair();
  authority.revoke(client.serial(), 'certificateHold');
  server.publish();
  await taken(1);
  await expect(call()).rejects.toThrow(cutOff);
  // Base above the full CRL that is held (11), as if the one in between had been missed.
  publishDelta(20n, 15n, [[client.serial(), 'removeFromCRL']]);
  await taken(2);
  await expect(call()).rejects.toThrow(cutOff);
  // Not newer than the full CRL.
  authority.crlNumber = 30n;
  server.publish();
  await taken(3);
  publishDelta(30n, 15n, [[client.serial(), 'removeFromCRL']]);
  await taken(4);
  await expect(call()).rejects.toThrow(cutOff);
  publishDelta(31n, 15n, [[client.serial(), 'removeFromCRL']]);
  await taken(5);
  expect(await call()).toBe('paid');
});

test('one for a base that is not here yet takes back nothing that the one before it said', async () => {
  const { authority, server, client, call, publishDelta, taken } = await pair();
  publishDelta(20n, 10n, [[client.serial(), 'keyCompromise']]);
  await taken(1);
  // The full CRL 25 is still on its way.
  publishDelta(30n, 25n);
  await taken(2);
  await expect(call()).rejects.toThrow(cutOff);
  authority.crlNumber = 15n;
  server.publish();
  await taken(3);
  await expect(call(), 'by what is older than the delta 20').rejects.toThrow(cutOff);
  authority.crlNumber = 25n;
  server.publish();
  await taken(4);
  expect(await call(), 'which the full CRL 25 and the delta 30 do not list').toBe('paid');
});

test('one of another key, an older one, and a full CRL in its place do not hold', async () => {
  const { authority, server, client, call, publishDelta, taken, problems } = await pair();
  publishDelta(12n, 10n, [[client.serial(), 'superseded']]);
  await taken(1);
  publishDelta(13n, 10n, [], authority.root);
  await eventually(() => problems().some((reason) => reason.includes('wrong signature')) || undefined);
  publishDelta(11n, 10n);
  await eventually(() => problems().some((reason) => reason.includes('an old one')) || undefined);
  server.publish([authority.crl(authority.issuer, { crlNumber: 9n, revoked: [] })], 'crl-delta.pem');
  await eventually(() => problems().some((reason) => reason.includes('number 9')) || undefined);
  await expect(call()).rejects.toThrow(cutOff);
  expect(problems().length).toBe(3);
});

test('a large crl.pem is read once more only when the base of the delta is above it', async () => {
  const { authority, server, client, call, publishDelta, taken, problems } = await pair();
  const dateSeconds = seconds(Date.now());
  const many = Array.from({ length: 30_000 }, (_, n) =>
    encodeRevoked({
      serial: parseSerial(`22${n.toString(16).padStart(32, '0')}`),
      dateSeconds,
      reason: 'superseded',
    }),
  );
  const large = (crlNumber: bigint) => authority.crl(authority.issuer, { crlNumber, revoked: many });
  server.publish([large(20n), authority.crl(authority.root)]);
  await taken(1);
  publishDelta(21n, 20n);
  await taken(2);
  const target = join(server.dir, readlinkSync(join(server.dir, 'current')), 'crl.pem');
  // What is not read is not found to be damaged.
  writeFileSync(target, 'x'.repeat(2 * 1024 * 1024));
  publishDelta(22n, 20n, [[client.serial(), 'keyCompromise']]);
  await taken(3);
  await expect(call()).rejects.toThrow(cutOff);
  expect(problems()).toEqual([]);
  publishDelta(31n, 30n);
  await eventually(() => problems()[0]);
  server.publish([large(30n), authority.crl(authority.root)]);
  await taken(4);
  expect(await call(), 'which the full CRL 30 and the delta 31 do not list').toBe('paid');
});
