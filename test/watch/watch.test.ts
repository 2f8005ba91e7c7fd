import { setTimeout as sleep } from 'node:timers/promises';
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { newSerial } from '../../src/core/serial.ts';
import type { SpiffeId } from '../../src/core/spiffe-id.ts';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { WatchHub } from '../../src/watch/hub.ts';
import type { Sink } from '../../src/watch/streams.ts';
import { entriesState, Watch } from '../../src/watch/watch.ts';
import { CrlList } from '../../src/x509/crl-list.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { entry, leaf } from '../store/fixture.ts';

const issuerKeyId = 'ab'.repeat(20);

function crlOf(list: CrlList, number: number): PublishedCrl {
  return {
    ...{ issuerKeyId, scope: 'full', url: `http://ca/crl/${issuerKeyId}.crl`, crlNumber: BigInt(number) },
    ...{ thisUpdateSeconds: number, nextUpdateSeconds: number + 60, coversTreeSize: number },
    ...{ leafIndex: number, tbsSha256: Buffer.alloc(32) },
    der: { head: Buffer.from('head'), list, tail: Buffer.from('tail') },
  };
}

/** Bytes that all streams together are sent of a CRL with 5,000 entries more than the one before it. */
async function sentTo(streams: number): Promise<{ bytes: number; text: string }> {
  const certificate = () => undefined;
  const hub = new WatchHub({ store: { certificate }, timeMs: () => 0, limits: { streams } });
  const sent = { bytes: 0, text: '', count: 0 };
  const sink: Sink = {
    ...{ unread: 0, end: () => undefined, cut: () => undefined },
    write: (bytes) => {
      if (bytes.includes('retry:')) return;
      sent.bytes += bytes.length;
      sent.count += 1;
      sent.text = bytes.toString();
    },
  };
  for (let n = 0; n < streams; n += 1) {
    const holder = { serial: newSerial(1, randomBytes), entryId: 'e', leafIndex: 0, notAfterMs: 1000 };
    hub.open({ ...holder, issuerKeyId, spiffeId: `spiffe://a.b/${n}` as SpiffeId }, sink, undefined);
  }
  const failed = (error: unknown): never => {
    throw error;
  };
  const watch = new Watch({
    ...{ hub, store: { entry: () => undefined, entries: () => [] }, firstLeafIndex: 0 },
    ...{ cutConnections: () => undefined, failed },
  });
  const serials = Array.from({ length: 5000 }, () => newSerial(1, randomBytes)).sort();
  const entries = serials.map((serial) => encodeRevoked({ serial, dateSeconds: 1, reason: 'superseded' }));
  watch.crlReleased(crlOf(CrlList.of(entries), 2), crlOf(CrlList.empty, 1));
  while (sent.count < streams) await sleep(5);
  return sent;
}

it('a mass revocation is a patch for some, and news to fetch for thousands: memory for each is bounded', async () => {
  expect((await sentTo(10)).text).toContain('"patch"');
  const { bytes, text } = await sentTo(8000);
  expect(text).toContain('"crlNumber":2');
  expect(bytes).toBeLessThan(200 * 1024 * 1024);
}, 30_000);

it('an order to renew reaches holders of what is older, and agents for what they hold, who spread', async () => {
  const web = entry({
    entryId: 'e_1',
    spiffeId: 'spiffe://a.b/web' as SpiffeId,
    parentId: 'spiffe://a.b/host' as SpiffeId,
  });
  const store = { entry: () => web, entries: () => [web], certificate: () => undefined };
  const hub = new WatchHub({ store, timeMs: () => 0 });
  const watching = new Watch({
    ...{ hub, store, firstLeafIndex: 0, cutConnections: () => undefined },
    failed: (error) => {
      throw error;
    },
  });
  const opened = (spiffeId: string, over: { leafIndex?: number; agent?: SpiffeId } = {}) => {
    let text = '';
    const sink: Sink = {
      ...{ unread: 0, end: () => undefined, cut: () => undefined },
      write: (bytes) => void (text += bytes.toString()),
    };
    const holder = { serial: newSerial(1, randomBytes), entryId: 'e', leafIndex: 0, notAfterMs: 1000 };
    hub.open({ ...holder, issuerKeyId, spiffeId: spiffeId as SpiffeId, ...over }, sink, undefined);
    return () => [...text.matchAll(/^event: (renew.*)\ndata: (.*)$/gm)].map(([, ...both]) => both.join(' '));
  };
  const agents = Array.from({ length: 201 }, () => opened('spiffe://a.b/host'));
  const [holder, newer, other, ofAgent] = [
    opened('spiffe://a.b/web'),
    opened('spiffe://a.b/web', { leafIndex: 10 }),
    opened('spiffe://a.b/host/2'),
    opened('spiffe://a.b/host', { agent: 'spiffe://a.b/host' as SpiffeId }),
  ];
  expect(watching.renewNow({ spiffeId: 'spiffe://a.b/web' }, 9)).toBe(202);
  while (agents.some((said) => said().length === 0) || holder().length === 0) await sleep(5);
  const order = 'renew-workloads {"before":9,"withinSeconds":2,"spiffeId":"spiffe://a.b/web"}';
  expect(agents.map((said) => said())).toEqual(agents.map(() => [order]));
  expect(holder()).toEqual(['renew {"reason":"operator"}']);
  expect([newer(), other(), ofAgent()]).toEqual([[], [], []]);
});

it('an agent hears of its entries, and no workload that it got the same name for', async () => {
  const parentId = 'spiffe://a.b/host' as SpiffeId;
  const store = {
    ...{ entriesChangedBy: () => 7, entry: () => undefined, entries: () => [], certificate: () => undefined },
  };
  const hub = new WatchHub({ store, timeMs: () => 0, ofHolder: (holder) => entriesState(store, holder) });
  const watching = new Watch({
    ...{ hub, store, firstLeafIndex: 0, cutConnections: () => undefined },
    failed: (error) => {
      throw error;
    },
  });
  const opened = (over: { spiffeId?: SpiffeId; agent?: SpiffeId }) => {
    let text = '';
    const sink: Sink = {
      ...{ unread: 0, end: () => undefined, cut: () => undefined },
      write: (bytes) => void (text += bytes.toString()),
    };
    const holder = { serial: newSerial(1, randomBytes), entryId: 'e', leafIndex: 0, notAfterMs: 1000 };
    hub.open({ ...holder, issuerKeyId, spiffeId: parentId, ...over }, sink, undefined);
    return () => [...text.matchAll(/^event: entries\ndata: (.*)$/gm)].map(([, data]) => data);
  };
  const agent = opened({});
  const others = [opened({ agent: parentId }), opened({ spiffeId: 'spiffe://a.b/host/2' as SpiffeId })];
  expect(agent()).toEqual(['{"sequence":7}']);
  watching.committed({ kind: 'entry-created', leaf: leaf(), entry: entry({ parentId }) }, 8);
  watching.committed({ kind: 'entry-deleted', leaf: leaf(), entryId: 'e_1', parentId, atMs: 1 }, 9);
  while (agent().length < 3) await sleep(5);
  expect(agent()).toEqual(['{"sequence":7}', '{"sequence":8}', '{"sequence":9}']);
  expect(others[0]?.()).toEqual([]);
  expect(others[1]?.(), 'a parent itself: told what its own are').toEqual(['{"sequence":7}']);
});
