import { setTimeout as sleep } from 'node:timers/promises';
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { newSerial } from '../../src/core/serial.ts';
import type { SpiffeId } from '../../src/core/spiffe-id.ts';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { WatchHub } from '../../src/watch/hub.ts';
import type { Sink } from '../../src/watch/streams.ts';
import { Watch } from '../../src/watch/watch.ts';
import { CrlList } from '../../src/x509/crl-list.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';

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
    ...{ hub, store: { entry: () => undefined }, firstLeafIndex: 0 },
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
