import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { newSerial } from '../../src/core/serial.ts';
import type { SpiffeId } from '../../src/core/spiffe-id.ts';
import type { CertificateStanding } from '../../src/store/records.ts';
import { encodeEvent } from '../../src/watch/encoding.ts';
import { WatchHub, type WatchLimits } from '../../src/watch/hub.ts';
import type { Holder } from '../../src/watch/ring.ts';
import type { Sink } from '../../src/watch/streams.ts';
import { longestTurnMs } from '../support/turns.ts';
import { refusalOf } from '../x509/refusal.ts';
import { randomBytes } from 'node:crypto';

/** What one watcher was sent. */
class FakeSink implements Sink {
  text = '';
  unread = 0;
  isCut = false;
  hasEnded = false;
  write(bytes: Buffer): void {
    this.text += bytes.toString();
  }
  end(last: Buffer): void {
    this.write(last);
    this.hasEnded = true;
  }
  cut(): void {
    this.isCut = true;
  }
  get ids(): number[] {
    return [...this.text.matchAll(/^id: (\d+)\nevent: test/gm)].map(([, id]) => Number(id));
  }
}

function holderOf(name = 'orders', over: Partial<Holder> = {}): Holder {
  return {
    issuerKeyId: 'ab'.repeat(20),
    serial: newSerial(1, randomBytes),
    spiffeId: `spiffe://example.org/${name}` as SpiffeId,
    entryId: 'e_1',
    leafIndex: 10,
    notAfterMs: 1000,
    ...over,
  };
}

function hubWith(limits: Partial<WatchLimits> = {}, standing: Partial<CertificateStanding> = {}) {
  const world = { nowMs: 0, standing };
  const certificate = () => ({ ...world.standing }) as CertificateStanding;
  const hub = new WatchHub({ store: { certificate }, timeMs: () => world.nowMs, limits });
  const event = (id: number) => ({ id, bytes: encodeEvent('test', { id }, id) });
  const open = (lastEventId?: number, holder = holderOf()) => {
    const sink = new FakeSink();
    return { sink, holder, close: hub.open(holder, sink, lastEventId) };
  };
  return { hub, world, event, open };
}

describe('who comes back', () => {
  it('gets what came since, in the order of publication, which is not that of the ids', async () => {
    const { hub, event, open } = hubWith();
    for (const id of [5, 9, 7, 12]) hub.publish(event(id));
    await sleep(5);
    expect(open(9).sink.ids).toEqual([7, 12]);
    expect(open(12).sink.ids).toEqual([]);
  });

  it.each([undefined, 4, 6, 999_999_999_999, 0])(
    'with an id that is not known (%s) gets the present state, and the id to go on from',
    async (id) => {
      const { hub, event, open } = hubWith();
      hub.announce('a', encodeEvent('state', { of: 'a' }), event(5));
      hub.announce('a', encodeEvent('state', { of: 'a', newer: true }), event(7));
      hub.announce('b', encodeEvent('state', { of: 'b' }));
      await sleep(5);
      const { sink } = open(id);
      expect(sink.ids).toEqual([]);
      expect(sink.text).toMatch(/{"of":"a","newer":true}\n\n.*{"of":"b"}\n\nid: 7\n\n$/s);
    },
  );

  it('after more than the ring holds, or more than it could read, too', async () => {
    const { hub, event, open } = hubWith({ ring: { events: 3, bytes: 1e6 }, unreadBytes: 50 });
    hub.announce('a', encodeEvent('state', { of: 'a' }));
    for (const id of [1, 2, 3, 4]) hub.publish(event(id));
    await sleep(5);
    for (const id of [1, 2]) expect(open(id).sink.text).toContain('event: state');
    expect(open(3).sink.ids).toEqual([4]);
  });

  it('twice the same id: what stands behind the first of them comes again, and nothing is lost', async () => {
    const { hub, event, open } = hubWith();
    for (const id of [5, 5, 6]) hub.publish(event(id));
    await sleep(5);
    expect(open(5).sink.ids).toEqual([5, 6]);
  });
});

describe('events', () => {
  it('reach only whom they concern', async () => {
    const { hub, event, open } = hubWith();
    const [mine, other] = [open(undefined, holderOf('mine')), open(undefined, holderOf('other'))];
    hub.publish({ ...event(1), concerns: ({ spiffeId }) => spiffeId.endsWith('/mine') });
    hub.publish(event(2));
    await sleep(5);
    expect([mine.sink.ids, other.sink.ids]).toEqual([[1, 2], [2]]);
  });

  it('go to 10,000 without holding up the loop, encoded once', async () => {
    const { hub, event } = hubWith();
    let written = 0;
    const bytes = new Set<Buffer>();
    const sink = (): Sink => ({
      unread: 0,
      // What a TLS socket takes.
      write: (chunk) => {
        written += 1;
        bytes.add(chunk);
        for (const end = performance.now() + 0.02; performance.now() < end; );
      },
      end: () => undefined,
      cut: () => undefined,
    });
    for (let n = 0; n < 10_000; n += 1) hub.open(holderOf(`w${n}`), sink(), undefined);
    bytes.clear();
    written = 0;
    const longest = await longestTurnMs(async () => {
      for (const id of [1, 2, 3]) hub.publish(event(id));
      while (written < 30_000) await sleep(1);
    });
    expect(bytes.size).toBe(3);
    expect(longest).toBeLessThan(20);
  }, 30_000);
});

describe('a stream is cut', () => {
  it('when it has left too much unread, however much comes', async () => {
    const { hub, event, open } = hubWith({ unreadBytes: 1000 });
    const [slow, quick] = [open(), open()];
    slow.sink.unread = 1001;
    hub.publish(event(1));
    await sleep(5);
    expect([slow.sink.isCut, quick.sink.isCut, hub.size]).toEqual([true, false, 1]);
    expect(slow.sink.ids).toEqual([]);
  });

  it('when its certificate is revoked, and only then', async () => {
    const { hub, open } = hubWith();
    const [one, other] = [open(), open()];
    hub.endCertificate({ issuerKeyId: one.holder.issuerKeyId, serial: other.holder.serial });
    expect([one.sink.isCut, other.sink.isCut]).toEqual([false, true]);
    hub.endCertificate({ issuerKeyId: 'cd'.repeat(20), serial: one.holder.serial });
    expect(one.sink.isCut).toBe(false);
  });

  it('when its certificate has ended', async () => {
    const { hub, open, world } = hubWith();
    const { sink } = open();
    world.nowMs = 1999;
    await hub.tick();
    expect(sink.isCut, 'notAfter is inclusive').toBe(false);
    world.nowMs = 2000;
    await hub.tick();
    expect(sink.isCut).toBe(true);
  });

  it('when its entry is suspended', async () => {
    const { hub, open } = hubWith();
    const [one, other] = [open(), open(undefined, holderOf('other', { entryId: 'e_2' }))];
    await hub.endEntry('e_1');
    expect([one.sink.isCut, other.sink.isCut]).toEqual([true, false]);
  });

  it.each(['its issuer is revoked', 'its entry is suspended'])(
    'when %s, thousands of them without holding up the loop',
    async (why) => {
      const { hub } = hubWith();
      let [atOnce, most] = [0, 0];
      const sink = (): Sink => ({
        ...{ unread: 0, write: () => undefined, end: () => undefined },
        // What a TLS socket takes.
        cut: () => {
          atOnce += 1;
          for (const end = performance.now() + 0.02; performance.now() < end; );
        },
      });
      for (let n = 0; n < 10_000; n += 1) hub.open(holderOf(`w${n}`), sink(), undefined);
      const look = (): void => {
        most = Math.max(most, atOnce);
        atOnce = 0;
      };
      const looking = setInterval(look, 1);
      await (why.includes('issuer') ? hub.endIssuers(() => true) : hub.endEntry('e_1'));
      look();
      clearInterval(looking);
      expect(hub.size).toBe(0);
      expect(most, 'between two turns of others').toBeLessThan(1000);
    },
    30_000,
  );

  it.each([{ revoked: { revokedAtMs: 1, reason: 'superseded' as const } }, { entrySuspended: true }])(
    'at the next heartbeat where the store says so, whoever failed to tell: %j',
    async (standing) => {
      const { hub, open, world } = hubWith();
      const { sink } = open();
      world.standing = standing;
      for (const end = performance.now() + 6000; !sink.isCut && performance.now() < end; await sleep(50))
        await hub.tick();
      expect(sink.isCut).toBe(true);
    },
    10_000,
  );
});

describe('bounds', () => {
  it('of a certificate: the newest count, thousands of half-open ones come and go', () => {
    const { hub } = hubWith();
    const holder = holderOf();
    const sinks = Array.from({ length: 3000 }, () => {
      const sink = new FakeSink();
      hub.open(holder, sink, undefined);
      return sink;
    });
    expect(hub.size).toBe(4);
    expect(sinks.filter(({ isCut }) => !isCut)).toEqual(sinks.slice(-4));
  });

  it('of an identity and of all: told to wait, and nothing is written', () => {
    const { hub, open } = hubWith({ streams: 5, streamsOfIdentity: 3 });
    const first = open(undefined, holderOf('a'));
    for (const name of ['a', 'a', 'b', 'c']) open(undefined, holderOf(name));
    const sink = new FakeSink();
    const tried = (name: string) => refusalOf(() => hub.open(holderOf(name), sink, undefined)).code;
    expect([tried('a'), tried('d')]).toEqual(['unavailable-rate-limited', 'unavailable-overloaded']);
    expect(sink.text).toBe('');
    first.close();
    expect(hub.open(holderOf('a'), sink, undefined)).toBeTypeOf('function');
    expect(hub.size).toBe(5);
  });
});

it('at the end everybody is told when to come back, and nobody comes meanwhile', async () => {
  const { hub, open } = hubWith();
  const { sink } = open();
  await hub.close();
  expect(sink.hasEnded).toBe(true);
  expect(sink.text).toMatch(/retry: 1000\n\n$/);
  expect(refusalOf(() => hub.open(holderOf(), new FakeSink(), undefined)).code).toBe('unavailable-stopping');
  expect(hub.size).toBe(0);
});

it('an order to renew concerns those who come later, too', async () => {
  const { hub, event, open } = hubWith();
  const old = open(undefined, holderOf('mine', { leafIndex: 3 }));
  const concerns = ({ spiffeId, leafIndex }: Holder) => spiffeId.endsWith('/mine') && leafIndex < 20;
  hub.order({ ...event(20), concerns });
  expect(hub.count(concerns)).toBe(1);
  await sleep(5);
  expect(old.sink.ids).toEqual([20]);
  expect(open(undefined, holderOf('mine', { leafIndex: 3 })).sink.ids).toEqual([20]);
  expect(open(undefined, holderOf('mine', { leafIndex: 21 })).sink.ids).toEqual([]);
  expect(open(undefined, holderOf('other')).sink.ids).toEqual([]);
});
