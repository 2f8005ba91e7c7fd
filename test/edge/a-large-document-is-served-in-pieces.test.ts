import { randomBytes } from 'node:crypto';
import http, { type IncomingMessage } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { type Listener, listenHttp } from '../../src/http/listeners.ts';
import { Publication } from '../../src/http/publication.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { longestTurnMs } from '../support/turns.ts';
import { limitMs } from '../support/limits.ts';

/** As CRL entries are: half of it random serials, half the same over and over. */
const entry = (): Buffer => Buffer.concat([randomBytes(18), Buffer.alloc(18, 7)]);
const piece = (): Buffer => Buffer.concat(Array.from({ length: 910 }, entry));
const chunks = Array.from({ length: 1600 }, piece);
const whole = Buffer.concat(chunks);
const etag = '"one"';

let publication: Publication;
let listener: Listener;

beforeAll(async () => {
  publication = new Publication(() => undefined, systemClock);
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };
  listener = await listenHttp(publication.handler(log, new Metrics()), { host: '127.0.0.1', port: 0 });
  put(chunks, etag);
});

afterAll(() => listener.close(0));

function put(of: readonly Buffer[], tag: string, path = '/crl/a.crl'): void {
  publication.put(path, {
    chunks: of,
    etag: tag,
    contentType: 'application/pkix-crl',
    lastModifiedMs: 1000,
    staleUntilSeconds: undefined,
    immutable: false,
  });
}

function open(headers: Record<string, string> = {}, method = 'GET', path = '/crl/a.crl') {
  return new Promise<IncomingMessage>((resolve, reject) => {
    const where = { host: '127.0.0.1', port: listener.port, path, method, headers, agent: false };
    http.request(where, resolve).on('error', reject).end();
  });
}

async function ask(headers: Record<string, string> = {}, method = 'GET') {
  const response = await open(headers, method);
  const body = Buffer.concat(await response.toArray());
  return { status: response.statusCode, headers: response.headers, body };
}

it('whole, and with its length', async () => {
  const { status, headers, body } = await ask();
  expect(status).toBe(200);
  expect(headers).toMatchObject({ 'content-length': String(whole.length), 'accept-ranges': 'bytes', etag });
  expect(body.equals(whole)).toBe(true);
});

describe('a range', () => {
  const last = whole.length - 1;
  const one = chunks[0]?.length ?? 0;
  it.each([
    ['bytes=0-0', 0, 0],
    ['bytes=0-99', 0, 99],
    [`bytes=${one - 1}-${one}`, one - 1, one],
    [`bytes=${one}-${3 * one - 1}`, one, 3 * one - 1],
    ['BYTES=52000000-', 52_000_000, last],
    ['bytes=-1', last, last],
    [`bytes=-${whole.length + 5}`, 0, last],
    [`bytes=${last}-999999999999`, last, last],
  ])('%s comes as 206, nothing else', async (range, from, to) => {
    const { status, headers, body } = await ask({ range, 'accept-encoding': 'gzip' });
    expect(status).toBe(206);
    expect(headers['content-range']).toBe(`bytes ${from}-${to}/${whole.length}`);
    expect(headers['content-length']).toBe(String(to - from + 1));
    expect(headers).not.toHaveProperty('content-encoding');
    expect(body.equals(whole.subarray(from, to + 1))).toBe(true);
  });

  it.each([`bytes=${whole.length}-`, 'bytes=-0', 'bytes=99999999999-999999999999'])(
    '%s is none of it: 416, and how long it is',
    async (range) => {
      const { status, headers, body } = await ask({ range });
      expect(status).toBe(416);
      expect(headers['content-range']).toBe(`bytes */${whole.length}`);
      expect(body.length).toBe(0);
    },
  );

  it.each([
    'bytes=0-1,4-5',
    'bytes=5-1',
    'lines=0-1',
    'bytes=',
    'bytes=-',
    'bytes=a-b',
    'bytes=+1-2',
    'bytes 0-1',
  ])('%s is no reason to send less than all', async (range) =>
    expect((await ask({ range }, 'GET')).status).toBe(200),
  );

  it('goes on with the same bytes only: If-Range', async () => {
    const range = 'bytes=5-';
    const status = async (condition: string) => (await ask({ range, 'if-range': condition })).status;
    expect(await status(etag)).toBe(206);
    expect(await status(`W/${etag}`)).toBe(200);
    expect(await status('"other"')).toBe(200);
    expect(await status(new Date(1000).toUTCString())).toBe(200);
  });

  it('is nothing to HEAD, and after If-None-Match', async () => {
    const range = 'bytes=0-9';
    const head = await ask({ range }, 'HEAD');
    expect([head.status, head.headers['content-length']]).toEqual([200, String(whole.length)]);
    expect((await ask({ range, 'if-none-match': etag })).status).toBe(304);
  });
});

describe('gzip', () => {
  const isMade = async () =>
    (await open({ 'accept-encoding': 'gzip' }, 'HEAD')).headers['content-encoding'] === 'gzip';
  const made = async () => await expect.poll(isMade, { timeout: 20_000, interval: 5 }).toBe(true);

  it('is made beside, has a tag of its own, and is the same document', async () => {
    await made();
    const { headers, body } = await ask({ 'accept-encoding': 'br, GZIP;q=0.5' });
    expect(headers).toMatchObject({ vary: 'Accept-Encoding', etag: '"one-gz"' });
    expect(headers['content-length']).toBe(String(body.length));
    expect(body.length / whole.length).toBeLessThan(0.7);
    expect(gunzipSync(body).equals(whole)).toBe(true);
    const held = await ask({ 'accept-encoding': 'gzip', 'if-none-match': '"one-gz"' });
    expect([held.status, held.headers.etag]).toEqual([304, '"one-gz"']);
    const plain = await ask({ 'accept-encoding': 'gzip', 'if-none-match': etag });
    expect([plain.status, plain.headers.etag]).toEqual([304, etag]);
  });

  it.each(['', 'br', 'gzip;q=0', 'gzip; q=0.000, *', 'identity'])(
    'is not sent to who takes %j',
    async (accepted) => {
      const { headers } = await ask({ 'accept-encoding': accepted });
      expect(headers).not.toHaveProperty('content-encoding');
      expect(headers).toMatchObject({ vary: 'Accept-Encoding', etag });
    },
  );

  it('of a CRL in which one piece is new costs that piece only, and stops nothing', async () => {
    await made();
    const began = performance.now();
    put(chunks.with(3, piece()), '"two"');
    const longest = await longestTurnMs(() => made());
    expect(performance.now() - began).toBeLessThan(limitMs(1000));
    expect(longest).toBeLessThan(20);
    put(chunks, etag);
  });

  it('is not made of what it makes hardly smaller, nor said to vary where it is small', async () => {
    put([randomBytes(100_000)], '"random"', '/crl/random.crl');
    put([Buffer.alloc(1000)], '"small"', '/crl/small.crl');
    await made();
    const header = async (path: string) => (await open({ 'accept-encoding': 'gzip' }, 'HEAD', path)).headers;
    expect(await header('/crl/random.crl')).not.toHaveProperty('content-encoding');
    expect(await header('/crl/small.crl')).not.toHaveProperty('vary');
  });
});

it('thirty readers who take their time cost no copy of it, and get the CRL that they began with', async () => {
  const before = memory();
  const readers = await Promise.all(Array.from({ length: 30 }, () => open()));
  put(chunks.with(7, piece()), '"newer"');
  expect((await open({}, 'HEAD')).headers.etag).toBe('"newer"');
  expect(memory() - before).toBeLessThan(whole.length / 2);
  const [first, ...rest] = readers;
  for (const reader of rest) reader.destroy();
  expect(Buffer.concat((await first?.toArray()) ?? []).equals(whole)).toBe(true);
  put(chunks, etag);
});

function memory(): number {
  const { external, heapUsed } = process.memoryUsage();
  return external + heapUsed;
}
