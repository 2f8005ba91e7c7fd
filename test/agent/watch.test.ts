import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { CrlKeeper } from '../../src/agent/crl-keeper.ts';
import { EventStreamReader } from '../../src/agent/event-stream.ts';
import { type Held, readHeld } from '../../src/agent/held.ts';
import { keepRenewed } from '../../src/agent/renewer.ts';
import { readState } from '../../src/agent/state.ts';
import { handOn } from '../../src/agent/told.ts';
import { Watcher } from '../../src/agent/watcher.ts';
import { systemClock } from '../../src/core/clock.ts';
import { parseSerial } from '../../src/core/serial.ts';
import type { CrlEventJson } from '../../src/wire/watch.ts';
import { encodeEvent } from '../../src/watch/encoding.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { eventually } from './support/bundle.ts';
import { isListed, strangerOf } from './support/executable.ts';
import type { FakeAuthority } from './support/fake-authority.ts';
import { problem, type FakeServer } from './support/fake-server.ts';
import { crlEvent, FakeWatch } from './support/fake-watch.ts';
import { startAuthority, workload } from './support/harness.ts';
import { limitMs } from '../support/limits.ts';

let authority: FakeAuthority;
let server: FakeServer;
let streams: FakeWatch;
let one: ReturnType<typeof workload>;
let notices: string[];
let changes: string[];
let orders: number;
let url: string;
/** The issuer's CRL as the agent has it. */
let first: Buffer;

beforeEach(async () => {
  ({ authority, server } = await startAuthority());
  streams = new FakeWatch(server);
  authority.crlNumber = 90n;
  one = workload(server);
  const root = authority.crl(authority.root);
  first = authority.crl();
  server.crlInstead = (keyId) => ({ der: keyId === authority.root.keyId ? root : first });
  expect(await one.enroll()).toMatchObject({ code: 0 });
  url = `${authority.publicationUrl}/crl/${authority.issuer.keyId}.crl`;
  [notices, changes, orders] = [[], [], 0];
});

/** Keeper and watcher as `vouch exec` has them. */
async function agent(over: { silenceMs?: number; everyMs?: number } = {}) {
  const stop = new AbortController();
  const { signal } = stop;
  const held = readHeld(one.dir, Date.now());
  const notice = (line: string) => void notices.push(line);
  const revoked = (detail: string) => void notices.push(`REVOKED ${detail}`);
  let last = Promise.resolve<unknown>(undefined);
  const exclusively = <T>(work: () => Promise<T>): Promise<T> => {
    const next = last.then(work, work);
    last = next.catch(() => undefined);
    return next;
  };
  const keeper = new CrlKeeper(held, {
    ...{
      dir: one.dir,
      everyMs: over.everyMs ?? 50,
      clock: systemClock,
      signal,
      notice,
      revoked,
      exclusively,
    },
    changed: (change) => void changes.push(change),
  });
  const told = {
    crl: (event: Parameters<CrlKeeper['take']>[0]) => void keeper.take(event),
    bundle: () => undefined,
    renew: () => void (orders += 1),
    notice,
  };
  const live: boolean[] = [];
  const watcher = new Watcher(held, {
    ...{ clock: systemClock, signal, notice, revoked },
    event: (event) => handOn(event, told),
    live: (isLive) => {
      live.push(isLive);
      keeper.live(isLive);
    },
    ...(over.silenceMs !== undefined && { silenceMs: over.silenceMs }),
  });
  const running = Promise.all([keeper.run(), watcher.run()]);
  onTestFinished(async () => {
    stop.abort();
    await running;
  });
  await eventually(() => (streams.open.size > 0 && live.includes(true)) || undefined);
  // The round that was due when the stream came.
  await sleep(150);
  server.requests.length = 0;
  return { keeper, watcher, live };
}

async function listening(http: Server): Promise<number> {
  await new Promise<void>((resolve) => void http.listen(0, '127.0.0.1', () => resolve()));
  onTestFinished(() => {
    http.closeAllConnections();
    http.close();
  });
  return (http.address() as AddressInfo).port;
}

const fetches = () => server.requests.filter((path) => path.startsWith('/crl/'));
const revokeSomebody = () => {
  const serial = strangerOf(authority);
  authority.revoke(serial);
  return serial;
};
const listed = (serial: Parameters<typeof isListed>[1]) =>
  eventually(() => isListed(one.read('crl.pem'), serial));

describe('a CRL that the server tells of', () => {
  test('by a patch stands in crl.pem at once, byte for byte, and nothing is fetched', async () => {
    await agent();
    const stranger = revokeSomebody();
    const next = authority.crl();
    const started = performance.now();
    streams.tell('crl', await crlEvent(next, url, first), 7);
    expect(await listed(stranger)).toBe(true);
    expect(performance.now() - started).toBeLessThan(limitMs(1000));
    expect(decodePem(one.read('crl.pem'), 'X509 CRL')[0]?.equals(next)).toBe(true);
    expect(fetches()).toEqual([]);
    await eventually(() => changes.includes('crl') || undefined);
    expect(readState(one.dir)?.seen.crlNumbers.get(authority.issuer.keyId)).toBe(91n);
    // One more on top of it.
    const another = revokeSomebody();
    streams.tell('crl', await crlEvent(authority.crl(), url, next), 9);
    expect(await listed(another)).toBe(true);
    expect(fetches()).toEqual([]);
  });

  test.each<[string, (event: CrlEventJson) => CrlEventJson]>([
    ['without a patch', (event) => ({ ...event, from: null, patch: undefined })],
    ['by a patch of one that was missed', (event) => ({ ...event, from: 89 })],
    ['by a patch whose signature does not hold', (event) => bent(event, 'tail', -1)],
    ['by a patch of something else', (event) => bent(event, 'head', 9)],
  ])('%s is fetched', async (_what, bend) => {
    await agent();
    const stranger = revokeSomebody();
    const next = authority.crl();
    server.crlInstead = (keyId) => (keyId === authority.issuer.keyId ? { der: next } : { status: 500 });
    streams.tell('crl', bend(await crlEvent(next, url, first)), 7);
    expect(await listed(stranger)).toBe(true);
    expect(fetches()).toHaveLength(1);
  });

  test('and that its URL does not have yet, as behind a cache, is asked for until it has', async () => {
    await agent();
    const stranger = revokeSomebody();
    const next = authority.crl();
    streams.tell('crl', await crlEvent(next, url), 7);
    await eventually(() => fetches().length > 1 || undefined);
    expect(isListed(one.read('crl.pem'), stranger)).toBe(false);
    server.crlInstead = (keyId) => (keyId === authority.issuer.keyId ? { der: next } : { status: 304 });
    expect(await listed(stranger)).toBe(true);
    server.requests.length = 0;
    await sleep(300);
    expect(fetches()).toEqual([]);
  });

  test('and whose fetch fails is asked for again', async () => {
    await agent();
    const stranger = revokeSomebody();
    const next = authority.crl();
    const answers = [{ status: 503 }, { status: 503 }];
    server.crlInstead = () => answers.shift() ?? { der: next };
    streams.tell('crl', await crlEvent(next, url), 7);
    expect(await listed(stranger)).toBe(true);
  });

  test('while the one before it is being fetched is made of that', async () => {
    await agent();
    const strangers = [revokeSomebody()];
    const next = authority.crl();
    const asked: ServerResponse[] = [];
    const slow = createServer((_request, response) => void asked.push(response));
    const slowUrl = `http://127.0.0.1:${await listening(slow)}/slow.crl`;
    streams.tell('crl', await crlEvent(next, slowUrl), 7);
    await eventually(() => asked.length > 0 || undefined);
    for (let before = next, id = 8; id < 12; id += 1) {
      strangers.push(revokeSomebody());
      const after = authority.crl();
      streams.tell('crl', await crlEvent(after, slowUrl, before), id);
      before = after;
    }
    await sleep(100);
    for (const response of asked) response.end(next);
    for (const stranger of strangers) expect(await listed(stranger)).toBe(true);
    expect(asked).toHaveLength(1);
    expect(fetches()).toEqual([]);
  });

  test('older than the one that is known changes nothing, whoever sends it', async () => {
    await agent();
    const stranger = revokeSomebody();
    const next = authority.crl();
    streams.tell('crl', await crlEvent(next, url, first), 7);
    expect(await listed(stranger)).toBe(true);
    // Signed, and right, but of yesterday: neither as a patch nor as a file.
    server.crlInstead = () => ({ der: first });
    streams.tell('crl', { ...(await crlEvent(first, url, next)), crlNumber: 95 }, 8);
    await eventually(() => notices.some((line) => line.includes('an old one')) || undefined);
    streams.tell('crl', await crlEvent(first, url), 9);
    await sleep(100);
    expect(isListed(one.read('crl.pem'), stranger)).toBe(true);
  });

  test('of an issuer that nobody knows, or in words that nobody knows, is passed over', async () => {
    await agent();
    streams.tell('crl', { ...(await crlEvent(first, url)), issuerKeyId: 'ab'.repeat(20), crlNumber: 999 });
    streams.tell('crl', { crlNumber: 'many' });
    streams.tell('weather', { rain: true });
    for (const response of streams.open) response.write('event: crl\ndata: {"half\n\n');
    const stranger = revokeSomebody();
    streams.tell('crl', await crlEvent(authority.crl(), url, first));
    expect(await listed(stranger)).toBe(true);
    expect(notices).toEqual([]);
  });

  test('and that lists our own certificate is told', async () => {
    await agent();
    authority.revoke(readHeld(one.dir, Date.now()).delivered.leaf.serial);
    streams.tell('crl', await crlEvent(authority.crl(), url, first));
    await eventually(() => notices.some((line) => line.startsWith('REVOKED our certificate')) || undefined);
  });
});

describe('a delta CRL', () => {
  const deltasIn = (): (bigint | undefined)[] =>
    decodePem(one.read('crl-delta.pem'), 'X509 CRL').map((der) => parseCrl(der).deltaBase);
  const stands = (serial: Parameters<typeof isListed>[1]) =>
    eventually(() => {
      try {
        return isListed(one.read('crl-delta.pem'), serial);
      } catch {
        return undefined;
      }
    });
  const delta = (crlNumber: bigint) => authority.crl(authority.issuer, { crlNumber, deltaBase: 91n });
  let deltaUrl: string;

  beforeEach(() => {
    deltaUrl = `${authority.publicationUrl}/crl/${authority.issuer.keyId}/delta.crl`;
    authority.crlNumber = 91n;
    first = authority.crl(authority.issuer, { freshestUrl: deltaUrl });
    server.delta = delta(92n);
  });

  test('stands in crl-delta.pem beside the CRLs of CAs that have none, and never in crl.pem', async () => {
    const { keeper, watcher } = await agent();
    streams.tell('crl', await crlEvent(first, url));
    streams.tell('crl', await crlEvent(server.delta ?? first, deltaUrl));
    await eventually(() => fetches().some((path) => path.endsWith('delta.crl')) || undefined);
    const stranger = strangerOf(authority);
    authority.revoke(stranger);
    const next = delta(93n);
    streams.tell('crl', await crlEvent(next, deltaUrl, server.delta));
    expect(await stands(stranger)).toBe(true);
    expect(deltasIn()).toEqual([91n, undefined]);
    expect(isListed(one.read('crl.pem'), stranger)).toBe(false);
    expect(readState(one.dir)?.seen.crlNumbers.get(`${authority.issuer.keyId}/delta`)).toBe(93n);

    // Another generation has it, too.
    server.delta = next;
    expect(await one.renew()).toMatchObject({ code: 0 });
    const held = readHeld(one.dir, Date.now());
    keeper.adopt(held);
    watcher.adopt(held);
    expect(await stands(stranger)).toBe(true);
    expect(readHeld(one.dir, Date.now()).deltas.map(({ crlNumber }) => crlNumber)).toEqual([93n]);
  });

  test('that was made for a full CRL which is not here yet waits for it beside the one before', async () => {
    await agent();
    streams.tell('crl', await crlEvent(first, url));
    const stranger = strangerOf(authority);
    authority.revoke(stranger);
    const before = delta(93n);
    server.delta = before;
    streams.tell('crl', await crlEvent(before, deltaUrl));
    expect(await stands(stranger)).toBe(true);
    const next = authority.crl(authority.issuer, { crlNumber: 99n, freshestUrl: deltaUrl });
    authority.revoked.clear();
    server.delta = authority.crl(authority.issuer, { crlNumber: 100n, deltaBase: 99n });
    streams.tell('crl', await crlEvent(server.delta, deltaUrl));
    await eventually(
      () => readState(one.dir)?.seen.crlNumbers.get(`${authority.issuer.keyId}/delta`) === 100n,
    );
    await sleep(100);
    expect(isListed(one.read('crl-delta.pem'), stranger)).toBe(true);
    streams.tell('crl', await crlEvent(next, url, first));
    expect(await listed(stranger)).toBe(true);
    await eventually(() => deltasIn()[0] === 99n || undefined);
  });

  test('stands in for a large full CRL without a patch: not every agent fetches that at once', async () => {
    for (let n = 0; n < 30_000; n += 1) {
      const serial = parseSerial(`22${n.toString(16).padStart(32, '0')}`);
      authority.revoked.set(serial, { serial, dateSeconds: 1_700_000_000, reason: 'superseded' });
    }
    first = authority.crl(authority.issuer, { freshestUrl: deltaUrl });
    await agent();
    streams.tell('crl', await crlEvent(first, url));
    streams.tell('crl', await crlEvent(server.delta ?? first, deltaUrl));
    await eventually(
      () => readState(one.dir)?.seen.crlNumbers.has(`${authority.issuer.keyId}/delta`) || undefined,
    );
    await eventually(
      () => readState(one.dir)?.seen.crlNumbers.get(authority.issuer.keyId) === 91n || undefined,
    );
    server.requests.length = 0;
    const stranger = strangerOf(authority);
    authority.revoke(stranger);
    server.delta = delta(93n);
    first = authority.crl(authority.issuer, { crlNumber: 93n, freshestUrl: deltaUrl });
    streams.tell('crl', await crlEvent(first, url));
    expect(await stands(stranger)).toBe(true);
    expect(fetches()[0]).toMatch(/delta\.crl$/);
    expect(await listed(stranger)).toBe(true);
  });

  test('is asked for where nobody tells of it, and an older one is refused', async () => {
    server.watch = undefined;
    streams.greeting = '';
    const stranger = strangerOf(authority);
    authority.revoke(stranger);
    server.delta = delta(93n);
    const stop = new AbortController();
    const keeper = new CrlKeeper(readHeld(one.dir, Date.now()), {
      ...{ dir: one.dir, everyMs: 50, clock: systemClock, signal: stop.signal },
      ...{ notice: (line) => void notices.push(line), exclusively: (work) => work() },
      ...{ changed: () => undefined, revoked: () => undefined },
    });
    await keeper.refresh();
    await keeper.refresh();
    expect(await stands(stranger)).toBe(true);
    server.delta = delta(92n);
    expect(await keeper.refresh()).toBe(false);
    expect(notices.at(-1)).toMatch(/an old one/);
    expect(isListed(one.read('crl-delta.pem'), stranger)).toBe(true);
    keeper.close();
  });

  test('that lists our own certificate is told', async () => {
    await agent();
    streams.tell('crl', await crlEvent(first, url));
    await eventually(() => changes.includes('crl') || undefined);
    authority.revoke(readHeld(one.dir, Date.now()).delivered.leaf.serial);
    server.delta = delta(93n);
    streams.tell('crl', await crlEvent(server.delta, deltaUrl));
    await eventually(() => notices.some((line) => line.startsWith('REVOKED our certificate')) || undefined);
  });
});

describe('while the server tells of changes', () => {
  test('nothing is asked for; when it does not any more, everything is, at once', async () => {
    const { live } = await agent();
    await sleep(400);
    expect(fetches()).toEqual([]);
    expect(live).toEqual(expect.arrayContaining([true]));
    const stranger = revokeSomebody();
    const next = authority.crl();
    server.crlInstead = (keyId) => (keyId === authority.issuer.keyId ? { der: next } : { status: 304 });
    server.watch = (_request, response) => void response.destroy();
    streams.end('cut');
    expect(await listed(stranger)).toBe(true);
    await eventually(() => fetches().length > 5 || undefined);
  });

  test('it comes back by the id of the last event, also by another certificate', async () => {
    const { watcher } = await agent();
    expect(streams.asked[0]?.['last-event-id']).toBeUndefined();
    streams.tell('crl', await crlEvent(first, url), 4711);
    await sleep(50);
    streams.end();
    await eventually(() => streams.asked[1]);
    expect(streams.asked[1]?.['last-event-id']).toBe('4711');
    await eventually(() => streams.open.size === 1 || undefined);
    expect(await one.renew()).toMatchObject({ code: 0 });
    watcher.adopt(readHeld(one.dir, Date.now()));
    await eventually(() => streams.asked[2]);
    expect(streams.asked[2]?.['last-event-id']).toBe('4711');
  });

  test('it does not hammer a server that says to come back at once', async () => {
    server.watch = (request, response) => {
      streams.asked.push(request.headers);
      response.end('retry: 0\n\n');
    };
    streams.asked.length = 0;
    await Promise.race([agent(), eventually(() => streams.asked.length > 0 || undefined)]);
    await sleep(1000);
    expect(streams.asked.length).toBeLessThan(20);
  });

  test('silence is no stream', async () => {
    await agent({ silenceMs: 200 });
    await eventually(() => streams.asked[1]);
    expect(notices.join('\n')).toMatch(/has gone silent; CRLs are asked for/);
    await eventually(() => notices.includes('the server tells of changes again') || undefined);
  });

  test('its refusal of our certificate is told as a revocation', async () => {
    await agent();
    server.watch = (_request, response) => {
      const { status, headers, body } = problem(403, 'denied-revoked', 'this certificate is revoked');
      response.writeHead(status, headers).end(body);
    };
    streams.end('cut');
    await eventually(() => notices.includes('REVOKED this certificate is revoked') || undefined);
  });

  test('an order to renew, and an entry that is another, are heard; a suspension is said', async () => {
    await agent();
    streams.tell('renew', { reason: 'operator' }, 1);
    streams.tell('entry', { entryId: 'e_1', version: 2, suspended: false }, 2);
    streams.tell('entry', { entryId: 'e_1', version: 2, suspended: true }, 3);
    await eventually(() => notices.find((line) => line.includes('suspended')));
    expect(orders).toBe(2);
  });
});

test('a renewal that is ordered comes within seconds, not at half life', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.01);
  onTestFinished(() => void vi.restoreAllMocks());
  const stop = new AbortController();
  const held = readHeld(one.dir, Date.now());
  const renewed = Promise.withResolvers<Held>();
  let order = (): void => undefined;
  const running = keepRenewed(held, {
    ...{ clock: systemClock, signal: stop.signal, notice: () => undefined, revoked: () => undefined },
    joinFile: one.joinFile,
    attempt: () => Promise.resolve(held),
    renewed: renewed.resolve,
    ordered: (take) => void (order = take),
  });
  order();
  expect(await renewed.promise).toBe(held);
  stop.abort();
  await running;
}, 10_000);

describe('the reader of events', () => {
  test('reads them cut anywhere', () => {
    const stream = Buffer.concat([
      Buffer.from('retry: 2500\n\n:\n\nid: 3\n\n'),
      encodeEvent('crl', { name: 'grün' }, 5),
      Buffer.from(':\n\nid: garbage\nevent: x\ndata: {}\n\n'),
    ]);
    for (let size = 1; size < 40; size += 1) {
      const reader = new EventStreamReader('2');
      const events = [];
      for (let at = 0; at < stream.length; at += size)
        events.push(...reader.push(stream.subarray(at, at + size)));
      expect(events).toEqual([
        { type: 'crl', data: '{"name":"grün"}' },
        { type: 'x', data: '{}' },
      ]);
      expect([reader.lastEventId, reader.retryMs]).toEqual(['5', 2500]);
    }
  });

  test('an id counts only with the end of its event: half of one was not seen', () => {
    const reader = new EventStreamReader(undefined);
    reader.push(Buffer.from('id: 8\nevent: crl\ndata: {}\n'));
    expect(reader.lastEventId).toBeUndefined();
  });

  test('does not take an event without end', () => {
    const reader = new EventStreamReader(undefined);
    const line = Buffer.from(`data: ${'x'.repeat(65_000)}\n`);
    expect(() => {
      for (let n = 0; n < 100; n += 1) reader.push(line);
    }).toThrow(/longer than/);
  });
});

/** One byte of a part of the patch is another. */
function bent(event: CrlEventJson, part: 'head' | 'tail', at: number): CrlEventJson {
  if (!event.patch) throw new Error('no patch');
  const bytes = Buffer.from(event.patch[part], 'base64');
  const index = at < 0 ? bytes.length + at : at;
  bytes[index] = (bytes[index] ?? 0) ^ 1;
  return { ...event, patch: { ...event.patch, [part]: bytes.toString('base64') } };
}
