import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { ClientHttp2Stream } from 'node:http2';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { frame } from '../../../src/agent/grpc/frame.ts';
import { bytesField } from '../../../src/agent/grpc/protobuf.ts';
import { RawClient } from '../../support/raw-grpc.ts';

const count = 1_000;
const path = '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets';
const request = frame(bytesField(3, 'default'));
/** Opened before the first figure: what is paid once for the first of them is no cost of a stream. */
const warmUp = 200;
const atOnce = 50;
/** The limits; in CI three times as many. */
const slack = process.env.CI === undefined ? 1 : 3;

let folder: string;
let server: ChildProcess;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vouch-m-'));
  const script = fileURLToPath(new URL('serve.ts', import.meta.url));
  server = fork(script, [join(folder, 's')], { execArgv: ['--expose-gc'], stdio: 'inherit' });
  expect(await once(server, 'message')).toContain('ready');
}, 60_000);
afterEach(() => {
  server.disconnect();
  rmSync(folder, { recursive: true });
});

/** What the server's process takes, and what it holds, which does not depend on what was free before; in bytes. */
async function memory(): Promise<{ rss: number; held: number }> {
  // What was just accepted or sent is let go first.
  await sleep(500);
  server.send('memory');
  const [bytes] = (await once(server, 'message')) as [{ rss: number; held: number }];
  return bytes;
}

/** How many frames each stream has got: a message, which is one DATA frame here, is counted once it is whole. */
class Audience {
  readonly #clients: RawClient[] = [];
  #streams = 0;
  #expected = 0;
  #got = 0;

  connect(): RawClient {
    const client = new RawClient(join(folder, 's'));
    this.#clients.push(client);
    return client;
  }

  open(client: RawClient): void {
    const stream: ClientHttp2Stream = client.open(path);
    let held = Buffer.alloc(0);
    stream.on('data', (bytes: Buffer) => {
      held = Buffer.concat([held, bytes]);
      while (held.length >= 5 && held.length >= 5 + held.readUInt32BE(1)) {
        held = held.subarray(5 + held.readUInt32BE(1));
        this.#got += 1;
      }
    });
    stream.write(request);
    this.#streams += 1;
    this.#expected += 1;
  }

  /** Everybody has got what was sent: one message at first, and one for each rotation. */
  async gotAll(): Promise<void> {
    while (this.#got < this.#expected) await sleep(1);
  }

  /** Milliseconds until a rotation has reached everybody; the best of three. */
  async rotation(): Promise<number> {
    const measured: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      const startMs = performance.now();
      this.#expected += this.#streams;
      server.send('rotate');
      await this.gotAll();
      measured.push(performance.now() - startMs);
    }
    return Math.min(...measured);
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

test.each([
  ['connections', count, 'rss', 64 * 1024],
  ['streams of one connection', 1, 'held', 5 * 1024],
] as const)(
  'a rotation reaches a thousand %s within a second, each of which holds little',
  async (name, connections, measure, limitBytes) => {
    const audience = new Audience();
    const first = audience.connect();
    const open = async (more: number): Promise<void> => {
      for (let left = more; left > 0; left -= atOnce) {
        for (let index = 0; index < atOnce; index += 1)
          audience.open(connections === 1 ? first : audience.connect());
        await audience.gotAll();
      }
    };
    await open(warmUp);
    const before = (await memory())[measure];
    await open(count);
    const each = ((await memory())[measure] - before) / count;
    const tookMs = await audience.rotation();
    console.log(`${name}: ${Math.round(tookMs)} ms, ${(each / 1024).toFixed(1)} KiB each`);
    expect(tookMs).toBeLessThan(1_000 * slack);
    expect(each).toBeLessThan(limitBytes * slack);
    audience.close();
  },
  120_000,
);
