import { type Agent, createServer } from 'node:https';
import { connect, type TLSSocket } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Peer, Vouch } from '../../src/client/main.ts';
import { eventually } from '../agent/support/bundle.ts';
import { FakeAuthority, seconds } from '../agent/support/fake-authority.ts';
import { get, listening, MovedClock, service } from './support.ts';

const billing = 'spiffe://example.org/billing';
const orders = 'spiffe://example.org/orders';
const minuteMs = 60_000;

/**
 * Billing serves and orders calls, each by a clock of its own; `callers` is who called, and from which port. Billing
 * answers at once, or `later`, when the test calls what stands in `answers`.
 */
async function pair(when: 'at once' | 'later' = 'at once') {
  const authority = new FakeAuthority();
  const server = await service(authority, 'billing', [orders]);
  const client = await service(authority, 'orders');
  const clocks = { there: new MovedClock(), here: new MovedClock() };
  const there = await server.open({ pollMs: 20, clock: clocks.there });
  const here = await client.open({ pollMs: 20, clock: clocks.here });
  const callers: { peer: Peer | undefined; port: number | undefined }[] = [];
  const answers: ((text: string) => void)[] = [];
  const listener = createServer(there.vouch.serverOptions(), (request, response) => {
    callers.push({ peer: there.vouch.peerOf(request.socket), port: request.socket.remotePort });
    if (when === 'at once') response.end();
    else answers.push((text) => void response.end(text));
  });
  const port = await listening(there.vouch.secure(listener));
  const options = here.vouch.clientOptions({ serverId: billing });
  const { agent } = options;
  /** One call; afterwards its connection is idle or closed. */
  const call = async (): Promise<void> => {
    await get(port, options);
    await eventually(() => (Object.keys(agent.sockets).length === 0 ? true : undefined));
  };
  return { authority, server, client, clocks, there, here, port, callers, answers, agent, call };
}

/** Whether it has no connection, neither in use nor idle. */
function isUnused(agent: Agent): boolean {
  return Object.keys({ ...agent.sockets, ...agent.freeSockets }).length === 0;
}

/** A connection that its client keeps open, come what may. */
async function held(port: number, vouch: Vouch): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port, ...vouch.clientOptions({ serverId: billing }) });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => undefined);
  await new Promise((resolve) => void socket.once('secureConnect', resolve));
  return socket;
}

const seen = (events: readonly { type: string }[], type: string) =>
  eventually(() => events.find((event) => event.type === type));

test('a caller uses its connection again', async () => {
  const { call, callers } = await pair();
  await call();
  await call();
  expect(callers[1]?.port).toBe(callers[0]?.port);
});

describe('an open connection', () => {
  test('does not outlive its certificate, which no CRL lists any more', async () => {
    const { authority, server, client, clocks, there, here, port } = await pair();
    const socket = await held(port, here.vouch);
    const first = client.serial();
    await client.rotate();
    clocks.there.ahead = 64 * minuteMs;
    authority.revoke(client.serial());
    server.publish();
    await seen(there.events, 'crl');
    expect(socket.destroyed, 'clocks may differ by five minutes').toBe(false);
    clocks.there.ahead = 66 * minuteMs;
    expect(await seen(there.events, 'cut')).toMatchObject({ peer: { spiffeId: orders, serial: first } });
    expect(await eventually(() => (socket.destroyed ? true : undefined))).toBe(true);
  });

  test('of a caller is cut where the server has no newer certificate', async () => {
    const { server, clocks, here, call } = await pair();
    await call();
    clocks.here.ahead = 66 * minuteMs;
    expect(await seen(here.events, 'cut')).toMatchObject({
      peer: { spiffeId: billing, serial: server.serial() },
    });
  });
});

describe('a caller opens a new connection before the other side cuts the old one:', () => {
  test('after its own renewal', async () => {
    const { client, here, callers, call } = await pair();
    await call();
    await client.rotate();
    await seen(here.events, 'certificate');
    await call();
    expect(callers[1]?.peer?.serial).toBe(client.serial());
  });

  test("past the end of the server's certificate", async () => {
    const { server, clocks, there, callers, call } = await pair();
    await server.rotate({ notAfterSeconds: seconds(Date.now()) + 60 });
    await seen(there.events, 'certificate');
    clocks.here.ahead = 2 * minuteMs;
    await call();
    await call();
    expect(callers[1]?.port).not.toBe(callers[0]?.port);
  });
});

describe('close()', () => {
  test('lets the answer to a request in flight come, and keeps no connection after it', async () => {
    const { here, port, agent, answers } = await pair('later');
    const answer = get(port, { agent });
    await eventually(() => answers[0]);
    here.vouch.close();
    answers[0]?.('late');
    expect(await answer).toBe('late');
    expect(await eventually(() => (isUnused(agent) ? 'unused' : undefined))).toBe('unused');
  });

  test('closes idle connections', async () => {
    const { here, agent, call } = await pair();
    await call();
    expect(isUnused(agent)).toBe(false);
    here.vouch.close();
    expect(await eventually(() => (isUnused(agent) ? 'unused' : undefined))).toBe('unused');
  });
});
