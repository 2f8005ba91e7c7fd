import { cpSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { crlPem } from '../../src/agent/deliver/files.ts';
import { openVouch, type Vouch, type VouchOptions } from '../../src/client/main.ts';
import { eventually } from '../agent/support/bundle.ts';
import { FakeAuthority, newKey, seconds } from '../agent/support/fake-authority.ts';
import { startAuthority, temporaryFolder } from '../agent/support/harness.ts';
import { cutOff, get, listening, service } from './support.ts';

const billing = 'spiffe://example.org/billing';
const orders = 'spiffe://example.org/orders';
const now = seconds(Date.now());

async function serve(vouch: Vouch): Promise<number> {
  const server = createServer(vouch.serverOptions(), (request, response) => {
    response.end(vouch.peerOf(request.socket)?.spiffeId);
  });
  return listening(vouch.secure(server));
}

async function pair(options: VouchOptions = {}, authority = new FakeAuthority()) {
  const server = await service(authority, 'billing', [orders]);
  const client = await service(authority, 'orders');
  const open = async () => {
    const there = await server.open(options);
    const here = await client.open();
    const port = await serve(there.vouch);
    const fresh = () => ({ ...here.vouch.clientOptions({ serverId: billing }), agent: false as const });
    return { there, here, port, call: () => get(port, fresh()) };
  };
  return { authority, server, client, open };
}

const stale = (authority: FakeAuthority): Buffer[] => [
  authority.crl(authority.issuer, {
    crlNumber: 9n,
    thisUpdateSeconds: now - 7200,
    nextUpdateSeconds: now - 60,
  }),
  authority.crl(authority.root),
];

describe('past a nextUpdate', () => {
  test('nobody new is let in; who is in stays; a newer CRL mends it', async () => {
    const { authority, server, open } = await pair();
    const { there, here, port, call } = await open();
    const held = connect({ host: '127.0.0.1', port, ...here.vouch.clientOptions({ serverId: billing }) });
    held.on('error', () => undefined);
    await new Promise((resolve) => void held.once('secureConnect', resolve));
    expect(await call()).toBe(orders);
    server.publish(stale(authority));
    await eventually(() => there.events.find((event) => event.type === 'crl'));
    await expect(call()).rejects.toThrow(cutOff);
    expect(there.events).toContainEqual({
      type: 'refused',
      code: 'policy-not-fresh',
      reason: expect.stringContaining('is stale') as string,
    });
    expect(held.destroyed).toBe(false);
    authority.crlNumber = 10n;
    server.publish();
    await eventually(() =>
      there.events.filter((event) => event.type === 'crl').length > 1 ? true : undefined,
    );
    expect(await call()).toBe(orders);
  });

  test("with staleCrl: 'allow' the last one goes on counting", async () => {
    const { authority, server, client, open } = await pair({ staleCrl: 'allow' });
    server.publish(stale(authority));
    const { call, there } = await open();
    expect(await call()).toBe(orders);
    authority.revoke(client.serial());
    server.publish([
      authority.crl(authority.issuer, {
        crlNumber: 11n,
        thisUpdateSeconds: now - 7200,
        nextUpdateSeconds: now - 60,
      }),
      authority.crl(authority.root),
    ]);
    await eventually(() => there.events.find((event) => event.type === 'cut' || event.type === 'crl'));
    await expect(call()).rejects.toThrow(cutOff);
  });

  test('without a CRL at all nobody is let in, but for staleCrl: allow', async () => {
    const { server, open } = await pair();
    await server.rotate({}, []);
    const { call } = await open();
    await expect(call()).rejects.toThrow(cutOff);
    const lenient = await pair({ staleCrl: 'allow' });
    await lenient.server.rotate({}, []);
    expect(await (await lenient.open()).call()).toBe(orders);
  });
});

test.each([
  ['of a lower number', (authority: FakeAuthority) => authority.crl(authority.issuer, { crlNumber: 1n })],
  [
    'with a wrong signature',
    (authority: FakeAuthority) =>
      authority.crl(authority.issuer, { crlNumber: 99n }, new FakeAuthority().issuer),
  ],
  [
    'that is a shard',
    (authority: FakeAuthority) =>
      authority.crl(authority.issuer, { crlNumber: 99n, idpUrl: 'http://x/crl/1.crl' }),
  ],
])('a CRL file %s is reported and changes nothing', async (_name, make) => {
  const { authority, server, client, open } = await pair();
  authority.crlNumber = 5n;
  authority.revoke(client.serial());
  server.publish();
  const { call, there } = await open();
  await expect(call()).rejects.toThrow(cutOff);
  authority.revoked.clear();
  server.publish([make(authority), authority.crl(authority.root)]);
  expect(await eventually(() => there.events.find((event) => event.type === 'problem'))).toBeDefined();
  await expect(call()).rejects.toThrow(cutOff);
});

test('a rotation drops no handshake and no connection, and new ones show the new certificate', async () => {
  const { server, client, open } = await pair();
  const { there, here, port, call } = await open();
  const held = connect({ host: '127.0.0.1', port, ...here.vouch.clientOptions({ serverId: billing }) });
  await new Promise((resolve) => void held.once('secureConnect', resolve));
  let stop = false;
  let calls = 0;
  const caller = async (): Promise<void> => {
    while (!stop) {
      expect(await call()).toBe(orders);
      calls += 1;
    }
  };
  const callers = [caller(), caller(), caller()];
  for (let round = 0; round < 6; round += 1) {
    await server.rotate();
    await client.rotate();
    const serials = [server.serial(), client.serial()];
    const seen = (events: typeof there.events, serial: string) =>
      events.some((event) => event.type === 'certificate' && event.serial === serial) ? true : undefined;
    expect(await eventually(() => seen(there.events, serials[0] ?? ''))).toBe(true);
    expect(await eventually(() => seen(here.events, serials[1] ?? ''))).toBe(true);
  }
  stop = true;
  await Promise.all(callers);
  expect(calls).toBeGreaterThan(10);
  expect(held.destroyed).toBe(false);
  const probe = connect({ host: '127.0.0.1', port, ...here.vouch.clientOptions({ serverId: billing }) });
  await new Promise((resolve) => void probe.once('secureConnect', resolve));
  expect(probe.getPeerX509Certificate()?.serialNumber.toLowerCase()).toBe(server.serial());
  probe.destroy();
  held.destroy();
});

test('a peer that is no longer allowed is cut', async () => {
  const authority = new FakeAuthority();
  const list = [orders];
  const server = await service(authority, 'billing', list);
  const client = await service(authority, 'orders');
  const there = await server.open();
  const here = await client.open();
  const port = await serve(there.vouch);
  const held = connect({ host: '127.0.0.1', port, ...here.vouch.clientOptions({ serverId: billing }) });
  held.on('error', () => undefined);
  await new Promise((resolve) => void held.once('secureConnect', resolve));
  const closed = new Promise((resolve) => void held.once('close', resolve));
  list.splice(0, 1, 'spiffe://example.org/somebody');
  await server.rotate();
  await closed;
  expect(there.events).toContainEqual({
    type: 'cut',
    peer: expect.objectContaining({ spiffeId: orders }) as object,
  });
});

test('a list given to openVouch stands in for peers.json', async () => {
  const { open } = await pair({ allowed: ['spiffe://example.org/nobody'] });
  await expect((await open()).call()).rejects.toThrow(cutOff);
});

test('a generation that does not hold is reported and the one before goes on', async () => {
  const { server, open } = await pair();
  const { call, there } = await open();
  const before = server.serial();
  cpSync(join(server.dir, '000001'), join(server.dir, '000009'), { recursive: true });
  writeFileSync(join(server.dir, '000009', 'svid.key'), newKey().pem);
  symlinkSync('000009', join(server.dir, 'next'));
  renameSync(join(server.dir, 'next'), join(server.dir, 'current'));
  expect(await eventually(() => there.events.find((event) => event.type === 'problem'))).toMatchObject({
    reason: expect.stringContaining('the key in') as string,
  });
  expect(await call()).toBe(orders);
  expect(there.events.filter((event) => event.type === 'certificate')).toEqual([]);
  await server.rotate();
  expect(server.serial()).not.toBe(before);
  await eventually(() => there.events.find((event) => event.type === 'certificate'));
  expect(await call()).toBe(orders);
});

test('the files are found without being told of changes: the poll', async () => {
  const { authority, server, client, open } = await pair({ pollMs: 50 });
  const { call, there } = await open();
  expect(await call()).toBe(orders);
  authority.revoke(client.serial());
  server.publish();
  expect(await eventually(() => there.events.find((event) => event.type === 'crl'), 2000)).toBeDefined();
});

test('CRLs can be fetched here, too', async () => {
  const { authority, server: publication } = await startAuthority();
  const { client, open } = await pair({ fetchCrlEveryMs: 100 }, authority);
  const { call, there } = await open();
  expect(await call()).toBe(orders);
  authority.revoke(client.serial());
  expect(await eventually(() => there.events.find((event) => event.type === 'crl'), 3000)).toBeDefined();
  await expect(call()).rejects.toThrow(cutOff);
  expect(publication.requests).toContain(`/crl/${authority.issuer.keyId}.crl`);
  publication.crlInstead = () => ({ status: 500 });
  expect(await eventually(() => there.events.find((event) => event.type === 'problem'), 3000)).toBeDefined();
});

test('nothing delivered, or nowhere to look, says what to do', async () => {
  const folder = temporaryFolder();
  await expect(openVouch({ dir: folder })).rejects.toMatchObject({
    code: 'config-state',
    message: expect.stringContaining('vouch enroll') as string,
  });
  const saved = process.env.VOUCH_DIR;
  delete process.env.VOUCH_DIR;
  await expect(openVouch()).rejects.toMatchObject({
    code: 'config-invalid',
    message: expect.stringContaining('VOUCH_DIR') as string,
  });
  if (saved !== undefined) process.env.VOUCH_DIR = saved;
  const { server } = await pair();
  rmSync(join(server.dir, 'current', 'peers.json'));
  await expect(openVouch({ dir: server.dir })).rejects.toMatchObject({ code: 'config-state' });
  const other = await pair();
  writeFileSync(join(other.server.dir, 'current', 'svid.key'), newKey().pem);
  await expect(openVouch({ dir: other.server.dir })).rejects.toMatchObject({
    code: 'config-state',
    message: expect.stringContaining('not the certificate') as string,
  });
  await expect(openVouch({ dir: other.client.dir, allowed: ['*'] })).rejects.toMatchObject({
    code: 'config-invalid',
  });
});

test('a CRL file that could not be read is read at the next look, though it did not change', async () => {
  const { authority, server, client, open } = await pair({ pollMs: 20 });
  const { call, there } = await open();
  authority.revoke(client.serial());
  const file = join(server.dir, 'current', 'crl.pem');
  const whole = crlPem([authority.crl(authority.issuer), authority.crl(authority.root)]);
  // Stands for a read that fails, as where no descriptor is free: the system tells the two apart by nothing.
  for (const text of [whole.replace('BEGIN', 'NIGEB'), whole]) {
    writeFileSync(file, text);
    utimesSync(file, now, now);
    await eventually(() => there.events.find((event) => event.type === 'problem' || event.type === 'crl'));
  }
  expect(await eventually(() => there.events.find((event) => event.type === 'crl'), 2000)).toBeDefined();
  await expect(call()).rejects.toThrow(cutOff);
});

test('a malformed list of callers in a new generation is reported and the one before goes on', async () => {
  const authority = new FakeAuthority();
  const list = [orders];
  const server = await service(authority, 'billing', list);
  const client = await service(authority, 'orders');
  const there = await server.open();
  const here = await client.open();
  const port = await serve(there.vouch);
  list.push('spiffe://example.org/*/x');
  await server.rotate();
  expect(await eventually(() => there.events.find((event) => event.type === 'problem'))).toMatchObject({
    reason: expect.stringContaining('allowed peers must be') as string,
  });
  expect(await get(port, here.vouch.clientOptions({ serverId: billing }))).toBe(orders);
});
