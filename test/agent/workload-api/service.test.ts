import { readdirSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { frame } from '../../../src/agent/grpc/server.ts';
import { bytesField } from '../../../src/agent/grpc/protobuf.ts';
import { crlsMaxBytes } from '../../../src/agent/workload-api/messages.ts';
import type { Served, Trust } from '../../../src/agent/workloads.ts';
import { VouchError } from '../../../src/core/errors.ts';
import { FakePeer } from '../../fakes/workload-peer.ts';
import { RawClient } from '../../support/raw-grpc.ts';
import { ownEntries, type WorkloadApiBed, workloadApiBed } from '../../support/workload-api.ts';
import {
  type JwtBundlesResponse,
  type JwtSvidResponse,
  WorkloadClient,
  type X509BundlesResponse,
  type X509SvidResponse,
} from '../../conformance/workload-api/client.ts';
import { limitMs } from '../../support/limits.ts';

let bed: WorkloadApiBed;
let client: WorkloadClient;

async function open(options: Parameters<typeof workloadApiBed>[0] = {}): Promise<void> {
  bed = await workloadApiBed(options);
  client = new WorkloadClient(bed.socket);
}

afterEach(async () => {
  client.close();
  await bed.close();
});

function served(): Served {
  const { now } = bed.workloads;
  if (now === undefined) throw new Error('nothing is served');
  return now;
}

function withTrust(change: Partial<Trust>): Served {
  return { ...served(), trust: { ...served().trust, ...change } };
}

const x509 = () => client.stream<X509SvidResponse>('FetchX509SVID');
const denied = { code: 7, details: 'no identity issued' };
const fetchJwt = (request: object) =>
  client.unary<JwtSvidResponse>('FetchJWTSVID', { audience: ['a'], ...request });

describe('before there is anything to serve', () => {
  test('a caller waits, and is told when there is', async () => {
    await open({ isEmpty: true });
    const stream = x509();
    await vi.waitUntil(() => bed.workloads.listeners === 2);
    const svid = await bed.authority.svid(ownEntries[0] as (typeof ownEntries)[0]);
    bed.workloads.set({ svids: [svid], trust: await bed.authority.trust() });
    expect((await stream.next()).svids).toHaveLength(1);
    expect(bed.workloads.listeners).toBe(1);
  });

  test('it does not wait for ever: Unavailable', async () => {
    await open({ isEmpty: true, patienceMs: 30 });
    await expect(x509().next()).rejects.toMatchObject({ code: 14 });
    await expect(fetchJwt({})).rejects.toMatchObject({ code: 14 });
    expect(bed.workloads.listeners).toBe(1);
  });
});

describe('an identity', () => {
  test('that nobody has is denied, and the log says what was seen and what was missed', async () => {
    await open({ attest: async () => new Set(['unix:uid:7', 'unix:gid:8']) });
    await expect(x509().next()).rejects.toMatchObject(denied);
    expect(bed.notices.join()).toMatch(/shows unix:uid:7 unix:gid:8; e_1 asks for unix:uid:/);
    await expect(x509().next()).rejects.toMatchObject(denied);
    await expect(fetchJwt({})).rejects.toMatchObject(denied);
    expect(bed.notices).toHaveLength(1);
  });

  test('needs every selector of its entry', async () => {
    const entries = [
      { entryId: 'e_1', spiffeId: 'spiffe://fake.example/a', selectors: ['unix:uid:1', 'unix:gid:2'] },
    ];
    await open({ entries, attest: async () => new Set(['unix:uid:1', 'unix:gid:3']) });
    await expect(x509().next()).rejects.toMatchObject(denied);
  });

  test('is not had by a program whose path spells the selectors of another', async () => {
    const [uid, path, hash] = ['unix:uid:1000', 'unix:path:/app/web', 'unix:sha256:00'];
    const entries = [
      { entryId: 'e_1', spiffeId: 'spiffe://fake.example/web', selectors: [uid, path, hash] },
      { entryId: 'e_2', spiffeId: 'spiffe://fake.example/any', selectors: [uid] },
    ];
    // A program that is too large has no hash.
    const seen = [
      [uid, path, hash],
      [uid, `${path}\n${hash}`],
    ];
    await open({ entries, attest: async () => new Set(seen.shift()) });
    expect((await x509().next()).svids).toHaveLength(2);
    expect((await x509().next()).svids).toMatchObject([{ spiffe_id: 'spiffe://fake.example/any' }]);
  });

  test('that comes to who was denied is there at the next call', async () => {
    await open({ entries: [] });
    await expect(x509().next()).rejects.toMatchObject(denied);
    const svid = await bed.authority.svid(ownEntries[0] as (typeof ownEntries)[0]);
    bed.workloads.set({ ...served(), svids: [svid] });
    expect((await x509().next()).svids).toHaveLength(1);
  });

  test('that goes ends the stream, and every other that was its', async () => {
    await open();
    const streams = [x509(), client.stream('FetchX509Bundles'), client.stream('FetchJWTBundles')];
    await Promise.all(streams.map((one) => one.next()));
    bed.workloads.set({ ...served(), svids: served().svids.filter(({ entryId }) => entryId === 'e_3') });
    for (const one of streams) await expect(one.next()).rejects.toMatchObject(denied);
    expect(bed.api.streams).toBe(0);
  });

  test('that comes is told to an open stream, and taken back again', async () => {
    await open();
    const stream = x509();
    expect((await stream.next()).svids).toHaveLength(2);
    const [one, two, ...others] = served().svids;
    if (one === undefined || two === undefined) throw new Error('two are there');
    bed.workloads.set({ ...served(), svids: [one, ...others] });
    expect((await stream.next()).svids.map((svid) => svid.spiffe_id)).toEqual([one.spiffeId]);
    bed.workloads.set({ ...served(), svids: [one, two, ...others] });
    expect((await stream.next()).svids).toHaveLength(2);
  });

  test('that is gone ends an open stream, but not where another takes its place in a moment', async () => {
    await open();
    const [stream, other] = [x509(), x509()];
    await Promise.all([stream.next(), other.next()]);
    const before = served();
    bed.workloads.set({ ...before, svids: [] });
    await expect(stream.next(100)).rejects.toMatchObject({ code: 4 });
    bed.workloads.set({ ...before });
    await bed.workloads.rotate();
    expect((await other.next()).svids).toHaveLength(2);
    const started = performance.now();
    bed.workloads.set({ ...served(), svids: [] });
    await expect(other.next()).rejects.toMatchObject(denied);
    expect(performance.now() - started).toBeLessThan(limitMs(2000));
  });

  test('of an entry that asks for more than was looked at comes to an open stream', async () => {
    const hash = 'unix:sha256:00';
    let wanted = false;
    await open({
      attest: async ({ uid }) => new Set([`unix:uid:${uid}`, ...(wanted ? [hash] : [])]),
    });
    const stream = x509();
    await stream.next();
    wanted = true;
    const [own] = ownEntries;
    if (own === undefined) throw new Error('one is there');
    const selectors = [...own.selectors, hash];
    const more = await bed.authority.svid({
      entryId: 'e_4',
      spiffeId: 'spiffe://fake.example/hashed',
      selectors,
    });
    const [first, ...others] = served().svids;
    if (first === undefined) throw new Error('one is there');
    // Also where an entry that the workload had before asks for it now.
    bed.workloads.set({ ...served(), svids: [{ ...first, selectors }, ...others, more] });
    expect((await stream.next()).svids).toHaveLength(3);
  });

  test('is not pushed to a process that has ended, or runs another program', async () => {
    const peer = new FakePeer({ uid: process.getuid?.() ?? 0 });
    await open({ peerOf: () => peer });
    const stream = x509();
    await stream.next();
    peer.alive = false;
    await bed.workloads.rotate();
    await expect(stream.next()).rejects.toMatchObject(denied);
    await expect(x509().next()).rejects.toMatchObject(denied);
    await expect(fetchJwt({})).rejects.toMatchObject(denied);
  });

  test('comes back with the next call of a client that is refused for what its connection was', async () => {
    const peers: FakePeer[] = [];
    const connected = (): FakePeer => {
      peers.push(new FakePeer({ uid: process.getuid?.() ?? 0 }));
      return peers.at(-1) as FakePeer;
    };
    await open({ peerOf: connected });
    const stream = x509();
    await stream.next();
    for (const peer of peers) peer.alive = false;
    await expect(fetchJwt({})).rejects.toMatchObject(denied);
    await vi.waitFor(async () => expect((await fetchJwt({})).svids).not.toHaveLength(0), 5_000);
    expect(peers).toHaveLength(2);
    // The stream of the old connection is not served for the sake of the new one.
    await bed.workloads.rotate();
    await expect(stream.next()).rejects.toMatchObject(denied);
    expect((await x509().next()).svids).not.toHaveLength(0);
    await vi.waitFor(() => expect(bed.server.connections).toBe(1));
  });

  test('whose workload cannot be looked at is denied, or to be asked for later', async () => {
    let failure: Error = new VouchError('denied-workload', 'gone');
    await open({ attest: async () => Promise.reject(failure) });
    await expect(x509().next()).rejects.toMatchObject(denied);
    failure = new Error('EMFILE');
    await expect(x509().next()).rejects.toMatchObject({ code: 14, details: 'workload attestation failed' });
  });

  test('is told by a look for what entries ask now, not by one that began before they asked', async () => {
    const hash = 'unix:sha256:00';
    const looks: (() => void)[] = [];
    await open({
      attest: async ({ uid }) => {
        const wanted = served().svids.some(({ selectors }) => selectors.includes(hash));
        await new Promise<void>((resolve) => looks.push(resolve));
        return new Set([`unix:uid:${uid}`, ...(wanted ? [hash] : [])]);
      },
    });
    const [stream, later] = [x509(), x509()];
    await vi.waitUntil(() => looks.length === 1);
    looks[0]?.();
    await Promise.all([stream.next(), later.next()]);
    // A look that takes long, and meanwhile an entry asks for the hash.
    const slow = x509();
    await vi.waitUntil(() => looks.length === 2);
    const svids = served().svids.map((svid) => ({ ...svid, selectors: [...svid.selectors, hash] }));
    bed.workloads.set({ ...served(), svids });
    await vi.waitUntil(() => looks.length >= 3);
    looks.splice(0).forEach((look) => look());
    await vi.waitUntil(() => {
      looks.splice(0).forEach((look) => look());
      return bed.api.streams === 3;
    });
    expect((await slow.next()).svids).toHaveLength(2);
    for (const one of [stream, later]) await expect(one.next(200)).rejects.toMatchObject({ code: 4 });
  });

  test('is looked at once for calls of a connection that come together, anew for those that come later', async () => {
    let looks = 0;
    const done: (() => void)[] = [];
    await open({
      attest: async (peer) => {
        looks++;
        await new Promise<void>((resolve) => done.push(resolve));
        return new Set([`unix:uid:${peer.uid}`]);
      },
    });
    const together = Array.from({ length: 50 }, x509);
    await vi.waitUntil(() => bed.server.streams === 50 && looks === 1);
    done[0]?.();
    await Promise.all(together.map((one) => one.next()));
    const later = x509();
    await vi.waitUntil(() => looks === 2);
    done[1]?.();
    await later.next();
  });
});

describe('a message', () => {
  test('is not sent again when nothing in it has changed', async () => {
    await open();
    const [svids, bundles, keys] = [
      x509(),
      client.stream<X509BundlesResponse>('FetchX509Bundles'),
      client.stream('FetchJWTBundles'),
    ];
    await Promise.all([svids.next(), bundles.next(), keys.next()]);
    bed.workloads.set({ ...served() });
    bed.workloads.set(withTrust({ crls: [] }));
    expect((await svids.next()).crl).toEqual([]);
    expect((await bundles.next()).crl).toEqual([]);
    await bed.workloads.rotate();
    await svids.next();
    for (const quiet of [svids, bundles, keys])
      await expect(quiet.next(100)).rejects.toMatchObject({ code: 4 });
  });

  test('is encoded once and shared by all streams that get it', async () => {
    const sent: unknown[] = [];
    await open({
      replace: (_name, method) =>
        method.kind !== 'stream'
          ? method
          : {
              ...method,
              open: (request, call, out) =>
                method.open(request, call, {
                  send: (bytes) => void sent.push(bytes),
                  end: (error) => out.end(error),
                  unread: 0,
                }),
            },
    });
    const others = Array.from({ length: 5 }, () => new WorkloadClient(bed.socket));
    others.map((one) => one.stream('FetchX509SVID'));
    await vi.waitUntil(() => sent.length === 5);
    await bed.workloads.rotate();
    await vi.waitUntil(() => sent.length === 10);
    expect(new Set(sent).size).toBe(2);
    for (const one of others) one.close();
  });

  test('has all CRLs, or none where they are too many bytes', async () => {
    await open();
    const stream = x509();
    expect((await stream.next()).crl).toEqual(served().trust.crls);
    bed.workloads.set(withTrust({ crls: [Buffer.alloc(crlsMaxBytes - 1), Buffer.alloc(1)] }));
    expect((await stream.next()).crl).toHaveLength(2);
    bed.workloads.set(withTrust({ crls: [Buffer.alloc(crlsMaxBytes - 1), Buffer.alloc(2)] }));
    expect((await stream.next()).crl).toEqual([]);
  });

  test('has no CRLs where it would be larger than clients take', async () => {
    await open();
    const [svid] = served().svids;
    if (svid === undefined) throw new Error('one is there');
    const crls = [Buffer.alloc(crlsMaxBytes)];
    const chain = [...svid.chain, Buffer.alloc(crlsMaxBytes - 2000)];
    bed.workloads.set({ svids: [{ ...svid, chain }], trust: { ...served().trust, crls } });
    expect((await x509().next()).crl).toEqual([]);
    expect((await client.first<X509BundlesResponse>('FetchX509Bundles')).crl).toEqual(crls);
  });

  test('has every root of the trust domain in its bundle', async () => {
    await open();
    const roots = [...served().trust.roots, Buffer.from('another')];
    bed.workloads.set(withTrust({ roots }));
    expect((await x509().next()).svids[0]?.bundle).toEqual(Buffer.concat(roots));
  });

  test('has a hint no more than once: of the older entry', async () => {
    const entries = ['a', 'b'].map((name) => ({
      ...(ownEntries[0] as (typeof ownEntries)[0]),
      entryId: name,
      spiffeId: `spiffe://fake.example/${name}`,
    }));
    await open({ entries });
    expect((await x509().next()).svids.map(({ hint }) => hint)).toEqual(['internal', '']);
    expect((await fetchJwt({})).svids.map(({ hint }) => hint)).toEqual(['internal', '']);
  });

  test('of JWT bundles has no key of another use', async () => {
    await open();
    const jwtKeys = [...served().trust.jwtKeys, { use: 'x509-svid', kty: 'EC' }];
    bed.workloads.set(withTrust({ jwtKeys }));
    const { bundles } = await client.first<JwtBundlesResponse>('FetchJWTBundles');
    const set = JSON.parse(bundles['spiffe://fake.example']?.toString() ?? '') as { keys: { use: string }[] };
    expect(set.keys.map(({ use }) => use)).toEqual(['jwt-svid']);
  });
});

describe('a JWT-SVID', () => {
  test.each([
    ['an empty audience', { audience: ['a', ''] }],
    ['too many audiences', { audience: Array.from({ length: 9 }, String) }],
    ['too long an audience', { audience: ['a'.repeat(1025)] }],
  ])('with %s: InvalidArgument', async (_what, request) => {
    await open();
    await expect(fetchJwt(request)).rejects.toMatchObject({ code: 3 });
  });

  test('that the server cannot make now: Unavailable; that it denies: no identity', async () => {
    await open();
    bed.workloads.mintFails = new VouchError('unavailable-signer', 'the token is away');
    await expect(fetchJwt({})).rejects.toMatchObject({ code: 14, details: 'no JWT-SVID can be made now' });
    bed.workloads.mintFails = new VouchError('denied-suspended', 'the entry is suspended');
    await expect(fetchJwt({})).rejects.toMatchObject(denied);
    expect(bed.notices.join()).toContain('the token is away');
  });
});

test('streams whose workloads do not read hold one message together, not one each', async () => {
  await open();
  const deaf = Array.from({ length: 100 }, () => new RawClient(bed.socket, { initialWindowSize: 0 }));
  for (const one of deaf)
    one
      .open('/SpiffeWorkloadAPI/FetchX509SVID', { 'workload.spiffe.io': 'true' })
      .end(frame(Buffer.alloc(0)));
  await vi.waitUntil(() => bed.api.streams === 100);
  const before = process.memoryUsage().arrayBuffers;
  for (let round = 1; round <= 4; round++) {
    bed.workloads.set(withTrust({ crls: [Buffer.alloc(500_000, round)] }));
    const held = await client.first<X509SvidResponse>('FetchX509SVID');
    expect(held.crl[0]?.[0]).toBe(round);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20 * 1024 * 1024);
  }
  // Who leaves more than a megabyte unread is cut.
  await vi.waitUntil(() => bed.api.streams === 0);
  for (const one of deaf) one.close();
});

test('connections give back what they held', async () => {
  await open();
  await client.first('FetchX509SVID');
  const descriptors = () => readdirSync('/proc/self/fd').length;
  const before = descriptors();
  const others = Array.from({ length: 100 }, () => new WorkloadClient(bed.socket));
  await Promise.all(others.map((one) => one.first('FetchX509SVID')));
  expect(bed.server.connections).toBe(101);
  for (const one of others) one.close();
  await vi.waitUntil(() => bed.server.connections === 1 && descriptors() === before);
  expect(bed.api.streams).toBe(0);
});

test('a request that is no message is refused', async () => {
  await open();
  const raw = new RawClient(bed.socket);
  const headers = { 'workload.spiffe.io': 'true' };
  for (const bytes of [
    Buffer.from([0x0a, 0x05, 0x61]),
    Buffer.from([0x0b]),
    bytesField(1, Buffer.from([0xff])),
  ])
    expect(await raw.call('/SpiffeWorkloadAPI/FetchJWTSVID', { headers, body: frame(bytes) })).toMatchObject({
      status: 3,
    });
  raw.close();
});
