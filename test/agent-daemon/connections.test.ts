import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { agentServer } from '../../src/agent/daemon/server-calls.ts';
import { readHeld } from '../../src/agent/held.ts';
import { systemClock } from '../../src/core/clock.ts';
import { agentPaths } from '../../src/wire/agent.ts';
import type { RawAnswer } from '../agent/support/fake-server.ts';
import { startAuthority, workload } from '../agent/support/harness.ts';
import { eventually } from '../support/running.ts';
import { startHost } from './support/daemon.ts';

type Answer = (request: IncomingMessage) => object | RawAnswer;

const entries: Answer = () => ({ sequence: 1, entries: [] });
const silence = { status: 200, silent: true };
const dropped: Answer = (request) => {
  request.socket.destroy();
  return silence;
};

/** An agent with an identity, and a server of whose connections is known what came over each. */
async function startLink() {
  const { server } = await startAuthority();
  const one = workload(server);
  await one.enroll();
  let held = readHeld(one.dir, Date.now());
  const stop = new AbortController();
  const calls = agentServer(() => held, {
    ...{ clock: systemClock, signal: stop.signal, answerTimeoutMs: 1000 },
  });
  /** Who showed which certificate over which connection, one for each request. */
  const asked: { socket: Socket; serial: string }[] = [];
  /** How the next requests are answered; then as ever. */
  const next: Answer[] = [];
  const route = (_text: string, request: IncomingMessage) => {
    const serial = (request.socket as TLSSocket).getPeerX509Certificate()?.serialNumber.toLowerCase() ?? '';
    asked.push({ socket: request.socket, serial });
    return (next.shift() ?? entries)(request);
  };
  for (const path of Object.values(agentPaths)) server.routes.set(path, route);
  return {
    ...{ server, calls, asked, next, stop },
    sockets: () => new Set(asked.map(({ socket }) => socket)).size,
    serial: () => held.delivered.leaf.serial,
    renew: async () => {
      await one.renew();
      held = readHeld(one.dir, Date.now());
    },
  };
}

test('a cold start makes four connections: for the root, the identity, what is served, and the stream', async () => {
  const { server, entries, start } = await startHost();
  entries.create('web');
  const agent = start();
  await agent.serves('web');
  await agent.until(() => agent.daemon.isLive);
  expect(server.connections).toBe(4);
  expect(server.requests).not.toContain('/v1/bundle');
});

describe('the connection to the server', () => {
  test('is used again for a moment, by one call at a time, and is none of a renewed identity', async () => {
    const { calls, asked, sockets, serial, renew } = await startLink();
    await calls.entries(undefined);
    await calls.entries(undefined);
    expect(sockets()).toBe(1);
    await Promise.all([calls.entries(undefined), calls.entries(undefined)]);
    expect(sockets()).toBe(2);
    const before = serial();
    await renew();
    await calls.entries(undefined);
    expect(sockets()).toBe(3);
    expect(asked.map((one) => one.serial)).toEqual([before, before, before, before, serial()]);
    expect(serial()).not.toBe(before);
    await eventually(() => asked.slice(0, 4).every(({ socket }) => socket.destroyed) || undefined);
  });

  test('that the server closes while it lies idle, or that goes with it, is another the next time', async () => {
    const { server, calls, sockets } = await startLink();
    await calls.entries(undefined);
    server.listeners.enrollment.closeIdleConnections();
    await calls.entries(undefined);
    expect(sockets()).toBe(2);
    const comeBack = await server.goAway();
    await expect(calls.entries(undefined)).rejects.toMatchObject({ code: 'unavailable-server' });
    await comeBack();
    await calls.entries(undefined);
    expect(sockets()).toBe(3);
  });

  test('that is closed when a request comes over it: the request is sent once more, over a fresh one', async () => {
    const { calls, asked, next, sockets } = await startLink();
    await calls.entries(undefined);
    next.push(dropped);
    await expect(calls.entries(undefined)).resolves.toMatchObject({ sequence: 1 });
    expect([asked.length, sockets()]).toEqual([3, 2]);
    next.push(dropped, dropped);
    await expect(calls.entries(undefined)).rejects.toMatchObject({ code: 'unavailable-server' });
    expect([asked.length, sockets()]).toEqual([5, 3]);
    next.push(dropped);
    await expect(calls.entries(undefined)).rejects.toMatchObject({ code: 'unavailable-server' });
    expect([asked.length, sockets()]).toEqual([6, 4]);
  });

  test('that is closed when certificates are asked for over it: they may be made, so that nothing is sent once more', async () => {
    const { calls, asked, next } = await startLink();
    await calls.entries(undefined);
    next.push(dropped);
    await expect(calls.svids({ requests: [] })).rejects.toMatchObject({ code: 'unavailable-server' });
    expect(asked.length).toBe(2);
  });

  test.each<[string, Answer]>([
    ['breaks off', () => ({ status: 200, body: '{"sequence": 1, "entries": []}', half: true })],
    ['does not come', () => silence],
  ])('whose answer %s fails that call, is not repeated and not used again', async (_what, answer) => {
    const { calls, asked, next, sockets } = await startLink();
    await calls.entries(undefined);
    next.push(answer);
    await expect(calls.entries(undefined)).rejects.toMatchObject({ code: 'unavailable-server' });
    expect(asked.length).toBe(2);
    await calls.entries(undefined);
    expect(sockets()).toBe(2);
  });

  test('serves the next call where an answer was a refusal, no JSON, or nothing new', async () => {
    const { calls, next, sockets } = await startLink();
    const problem = JSON.stringify({ code: 'denied-revoked', detail: 'revoked' });
    next.push(() => ({ status: 403, body: problem }));
    await expect(calls.entries(undefined)).rejects.toMatchObject({ code: 'denied-revoked' });
    next.push(() => ({ status: 200, body: 'no JSON' }));
    await expect(calls.entries(undefined)).rejects.toMatchObject({ code: 'denied-server' });
    next.push(() => ({ status: 304 }));
    await expect(calls.entries(1)).resolves.toBeUndefined();
    await calls.entries(undefined);
    expect(sockets()).toBe(1);
  });

  test('ends with the agent, in the middle of a call', async () => {
    const { calls, next, stop } = await startLink();
    next.push(() => {
      stop.abort();
      return silence;
    });
    await expect(calls.entries(undefined)).rejects.toMatchObject({ code: 'unavailable-server' });
  });
});
