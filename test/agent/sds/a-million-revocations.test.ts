import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { bytesField } from '../../../src/agent/grpc/protobuf.ts';
import { frame, type GrpcServer, serveGrpc } from '../../../src/agent/grpc/server.ts';
import { createSds } from '../../../src/agent/sds/service.ts';
import { FakePeer } from '../../fakes/workload-peer.ts';
import { HeldWorkloads, svidOf, trustOf } from '../../fakes/held-workloads.ts';
import { RawClient } from '../../support/raw-grpc.ts';
import { longestTurnMs } from '../../support/turns.ts';

/** As large as a CRL that lists a million; its content is nobody's business here. */
const crl = randomBytes(38_000_000);
const service = '/envoy.service.secret.v3.SecretDiscoveryService';
const turnMs = 20 * (process.env.CI === undefined ? 1 : 3);

let folder: string;
let server: GrpcServer;
let held: HeldWorkloads;
let clients: RawClient[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vouch-sds-'));
  held = new HeldWorkloads();
  clients = [];
  const { methods } = createSds({
    workloads: held,
    attest: async () => new Set(['unix:uid:0']),
    notice: () => {},
  });
  server = await serveGrpc({
    ...{ socket: join(folder, 's'), mode: 0o600, methods },
    peerOf: () => new FakePeer(),
    notice: () => {},
  });
});
afterEach(async () => {
  for (const client of clients) client.close();
  await server.close(0);
  rmSync(folder, { recursive: true });
});

function serve(serial: string): void {
  const svids = [svidOf('spiffe://prod.example/web', { serial, selectors: ['unix:uid:0'] })];
  held.serve({ svids, trust: trustOf('prod.example', [crl]) });
}

/** Resolves to the bytes of the first message on a stream that asks for these, read as it comes. */
function asked(names: readonly string[]): Promise<number> {
  const client = new RawClient(join(folder, 's'), { initialWindowSize: 2 ** 30 });
  clients.push(client);
  const stream = client.open(`${service}/StreamSecrets`);
  stream.write(frame(Buffer.concat(names.map((name) => bytesField(3, name)))));
  let bytes = 0;
  let length = Number.POSITIVE_INFINITY;
  return new Promise((resolve) =>
    stream.on('data', (part: Buffer) => {
      if (bytes === 0) length = part.readUInt32BE(1) + 5;
      bytes += part.length;
      if (bytes >= length) resolve(bytes);
    }),
  );
}

test('keep nobody waiting', async () => {
  const names = [['ROOTCA'], ['ROOTCA', 'default'], ['allowed-clients'], ['ALL']];
  const turns: number[] = [];
  for (const serial of ['1', '2', '3']) {
    serve(serial);
    const all = Promise.all(names.map(asked));
    turns.push(await longestTurnMs(() => all));
    for (const bytes of await all) expect(bytes).toBeGreaterThan((crl.length * 4) / 3);
  }
  expect(Math.min(...turns)).toBeLessThan(turnMs);
}, 120_000);
