import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { frame, serveGrpc } from '../../../src/agent/grpc/server.ts';
import { createSds } from '../../../src/agent/sds/service.ts';
import { createWorkloadApi } from '../../../src/agent/workload-api/service.ts';
import { workloadPeer } from '../../../src/attestation/workload/peer.ts';
import { HeldWorkloads, svidOf, trustOf } from '../../fakes/held-workloads.ts';
import { http2Frame, preface, RawClient } from '../../support/raw-grpc.ts';
import { Random } from '../../kills/random.ts';

const connections = 400;

/** A header field as a literal without indexing (RFC 7541 §6.2.2). */
function field(name: string, value: string): Buffer {
  const [nameBytes, valueBytes] = [Buffer.from(name), Buffer.from(value)];
  return Buffer.concat([Buffer.of(0, nameBytes.length), nameBytes, Buffer.of(valueBytes.length), valueBytes]);
}

/** What the agent serves, at a socket, to everybody. */
async function agent() {
  const dir = mkdtempSync(join(tmpdir(), 'vouch-h-'));
  const [socket, notices] = [join(dir, 's'), [] as string[]];
  let attested = 0;
  const attest = async () => {
    attested += 1;
    return new Set(['unix:uid:1000']);
  };
  const workloads = new HeldWorkloads({
    svids: [svidOf('spiffe://prod.example/web')],
    trust: trustOf('prod.example', [Buffer.from('crl')]),
  });
  const parts = { workloads, attest, notice: (line: string) => void notices.push(line) };
  const api = createWorkloadApi({ ...parts, validate: () => Promise.reject(new Error('not asked')) });
  const sds = createSds(parts);
  const methods = new Map([...api.methods, ...sds.methods]);
  const server = await serveGrpc({
    socket,
    mode: 0o600,
    methods,
    peerOf: workloadPeer,
    notice: parts.notice,
  });
  onTestFinished(async () => {
    api.close();
    sds.close();
    await server.close(0);
    rmSync(dir, { recursive: true });
  });
  return { socket, notices, workloads, server, paths: [...methods.keys()], attested: () => attested };
}

test('frames in any order, whole or not, do no harm to others', { timeout: 120_000 }, async () => {
  const { socket, notices, workloads, server, paths, attested } = await agent();
  const random = new Random(20_261_126, 0);
  const upTo = (most: number) => Math.floor(random.unit() * (most + 1));
  const one = <T>(of: readonly T[]): T => of[upTo(of.length - 1)] as T;
  const bytes = (most: number) => Buffer.from(Array.from({ length: upTo(most) }, () => upTo(255)));
  const word = () => {
    const four = Buffer.alloc(4);
    four.writeUInt32BE(one([0, 1, 0x7fff_ffff, 0xffff_ffff, upTo(70_000)]));
    return four;
  };
  const headers = () =>
    Buffer.concat([
      ...[field(':method', upTo(9) > 0 ? 'POST' : 'GET'), field(':scheme', 'http')],
      ...[field(':path', one([...paths, '/x'])), field(':authority', 'a'), field('te', 'trailers')],
      field('content-type', upTo(9) > 0 ? 'application/grpc' : 'text/plain'),
      ...(upTo(9) > 0 ? [field('workload.spiffe.io', 'true')] : [field('grpc-timeout', '5m')]),
    ]);
  const whole = frame(Buffer.alloc(0));
  const body = () => one([whole, frame(bytes(40)), bytes(30), Buffer.of(0, 0, 0, 200, 0)]);
  const wild: ((stream: number) => Buffer)[] = [
    (stream) => http2Frame(1, one([4, 5, 0]), stream, headers()),
    (stream) => http2Frame(0, one([1, 8]), stream, body()),
    (stream) => http2Frame(8, 0, one([0, stream]), word()),
    () => http2Frame(4, one([0, 1]), 0, Buffer.concat([Buffer.of(0, one([3, 4, 5, 9])), word()])),
    (stream) => http2Frame(one([2, 5, 6, 7, 9, 10, 200]), upTo(255), one([0, stream]), bytes(30)),
  ];
  /** A call that may be one, and what becomes of it. */
  const call = (stream: number): Buffer[] => [
    http2Frame(1, upTo(9) > 0 ? 4 : 5, stream, headers()),
    ...one([[], [], [], [http2Frame(0, 0, stream, body())]]),
    http2Frame(0, upTo(5) > 0 ? 1 : 0, stream, upTo(2) > 0 ? whole : body()),
    ...one([[], [], [http2Frame(3, 0, stream, word())], [one(wild)(stream)]]),
  ];

  /** Ends when the connection does; by itself, half of the time in the middle of a frame. */
  const attack = () =>
    new Promise<void>((resolve) => {
      const frames = [1, 3, 5, 7].slice(0, 1 + upTo(3)).flatMap(call);
      const all = Buffer.concat([preface, ...frames]);
      const [first, last] = [upTo(all.length), upTo(1) === 0 ? all.length : upTo(all.length)];
      const client = net.connect(socket, () => client.write(all.subarray(0, first)));
      setTimeout(() => client.write(all.subarray(first, Math.max(first, last))), upTo(10));
      setTimeout(() => (upTo(1) === 0 ? client.end() : client.destroy()), 10 + upTo(20));
      setTimeout(() => client.destroy(), 100);
      client.on('error', () => {});
      if (upTo(3) > 0) client.resume();
      client.once('close', () => resolve());
    });

  const descriptors = () => readdirSync('/proc/self/fd').length;
  const before = descriptors();
  for (let at = 0; at < connections; at += 25) {
    const attacks = Array.from({ length: 25 }, attack);
    workloads.serve({ trust: trustOf('prod.example', [Buffer.from(`crl ${at}`)]) });
    await Promise.all(attacks);
  }
  await vi.waitUntil(() => server.connections === 0 && server.streams === 0, { timeout: 10_000 });
  // Many of them ask for something.
  expect(attested()).toBeGreaterThan(connections / 10);
  expect(descriptors()).toBeLessThanOrEqual(before);
  expect(notices.filter((line) => /a call failed/.test(line))).toEqual([]);
  const client = new RawClient(socket);
  onTestFinished(() => client.close());
  const asked = { headers: { 'workload.spiffe.io': 'true' } };
  expect(await client.call('/SpiffeWorkloadAPI/FetchWITSVID', asked)).toMatchObject({ status: 12 });
});
