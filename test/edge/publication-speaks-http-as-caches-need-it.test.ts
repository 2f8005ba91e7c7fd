import { X509Certificate } from 'node:crypto';
import http, { type IncomingHttpHeaders } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { listenHttp } from '../../src/http/listeners.ts';
import { Publication } from '../../src/http/publication.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';

let authority: Authority;
let orders: Workload;
let base: string;
let issuer: string;

beforeAll(async () => {
  authority = await bootAuthority();
  orders = await authority.enroll('orders');
  base = authority.server.ready.publicationUrl;
  issuer = orders.delivery.issuerKeyId;
});

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** A request whose path goes out exactly as it is given here. */
function ask(path: string, method = 'GET', headers: Record<string, string> = {}): Promise<Answer> {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host: hostname, port, path, method, headers, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
          }),
        );
      },
    );
    request.on('error', reject);
    request.end();
  });
}

const crlPath = () => `/crl/${issuer}.crl`;

describe('a CRL', () => {
  it('comes with the headers that caches go by, and no others', async () => {
    for (const path of [crlPath(), `/crl/${issuer}/3.crl`]) {
      const { status, headers, body } = await ask(path);
      const crl = parseCrl(body);
      expect(status).toBe(200);
      expect(headers['content-type']).toBe('application/pkix-crl');
      expect(headers['content-length']).toBe(String(body.length));
      expect(headers['last-modified']).toBe(new Date(crl.thisUpdateSeconds * 1000).toUTCString());
      expect(headers.etag).toMatch(/^"[A-Za-z0-9_-]{43}"$/);
      const stale = /^public, max-age=1, stale-if-error=(\d+)$/.exec(headers['cache-control'] ?? '');
      // From the end of max-age on, and never past nextUpdate.
      const early = crl.nextUpdateSeconds - Date.now() / 1000 - (1 + Number(stale?.[1]));
      expect(early).toBeGreaterThanOrEqual(-0.5);
      expect(early).toBeLessThan(3);
      for (const name of ['expires', 'pragma', 'set-cookie', 'x-powered-by', 'vary', 'server', 'age'])
        expect(headers).not.toHaveProperty(name);
      expect(headers['x-content-type-options']).toBe('nosniff');
    }
  });

  it('to HEAD says the same and sends nothing', async () => {
    const [get, head] = [await ask(crlPath()), await ask(crlPath(), 'HEAD')];
    expect(head.status).toBe(200);
    expect(head.body.length).toBe(0);
    const { date: _one, 'cache-control': _two, ...headers } = get.headers;
    expect(head.headers).toMatchObject(headers);
  });

  it('that the peer has already is not sent again: If-None-Match', async () => {
    const { headers } = await ask(crlPath());
    const etag = headers.etag ?? '';
    for (const match of [etag, `W/${etag}`, `"x", ${etag}`, `${etag}, "y"`, '*']) {
      const answer = await ask(crlPath(), 'GET', { 'if-none-match': match });
      expect(answer.status, match).toBe(304);
      expect(answer.body.length).toBe(0);
      expect(answer.headers).toMatchObject({
        etag,
        'last-modified': headers['last-modified'],
        'cache-control': expect.stringMatching(/^public, max-age=1, stale-if-error=\d+$/) as unknown,
      });
      expect((await ask(crlPath(), 'HEAD', { 'if-none-match': match })).status).toBe(304);
    }
    for (const match of ['"x"', etag.replaceAll('"', ''), '', `"${'a'.repeat(10_000)}"`])
      expect((await ask(crlPath(), 'GET', { 'if-none-match': match })).status, match.slice(0, 20)).toBe(200);
  });

  it('of the very date that the peer was given is not sent again: If-Modified-Since, unless a tag says otherwise', async () => {
    const since = (await ask(crlPath())).headers['last-modified'] ?? '';
    const later = new Date(Date.parse(since) + 1000).toUTCString();
    const earlier = new Date(Date.parse(since) - 1000).toUTCString();
    const status = async (headers: Record<string, string>) => (await ask(crlPath(), 'GET', headers)).status;
    expect(await status({ 'if-modified-since': since })).toBe(304);
    // thisUpdate lies before the publication: "not since I asked" would hide what was revoked in between.
    expect(await status({ 'if-modified-since': later })).toBe(200);
    expect(await status({ 'if-modified-since': earlier })).toBe(200);
    expect(await status({ 'if-modified-since': 'yesterday' })).toBe(200);
    expect(await status({ 'if-modified-since': since, 'if-none-match': '"x"' })).toBe(200);
  });

  it('that is new has another tag and a later date, at once', async () => {
    const before = await ask(crlPath());
    const tag = { 'if-none-match': before.headers.etag ?? '' };
    const revoked = await authority.enroll('revoked');
    (await authority.vouch('revoke', '--serial', revoked.serial, '--reason', 'superseded')).json();
    const after = await ask(crlPath(), 'GET', tag);
    expect(after.status).toBe(200);
    expect(after.headers.etag).not.toBe(before.headers.etag);
    expect(Date.parse(after.headers['last-modified'] ?? '')).toBeGreaterThan(
      Date.parse(before.headers['last-modified'] ?? ''),
    );
    expect(
      parseCrl(after.body).has(revoked.serial as Parameters<ReturnType<typeof parseCrl>['has']>[0]),
    ).toBe(true);
    expect(
      (await ask(crlPath(), 'GET', { 'if-modified-since': before.headers['last-modified'] ?? '' })).status,
    ).toBe(200);
  });
});

it.each([
  ['/bundle.json', 'application/json'],
  ['/bundle.pem', 'application/x-pem-file'],
  ['/log/checkpoint', 'text/plain; charset=utf-8'],
])('%s comes as %s', async (path, type) => {
  const { status, headers } = await ask(path);
  expect(status).toBe(200);
  expect(headers['content-type']).toBe(type);
  expect(headers.etag).toMatch(/^"/);
  expect(headers['cache-control']).toMatch(/^public, max-age=1/);
  expect((await ask(path, 'GET', { 'if-none-match': headers.etag ?? '' })).status).toBe(304);
});

it('the certificate of each CA comes under its key id', async () => {
  const { keys } = JSON.parse((await ask('/bundle.json')).body.toString()) as { keys: { x5c: string[] }[] };
  const root = new X509Certificate(Buffer.from(keys[0]?.x5c[0] ?? '', 'base64'));
  const { headers, body } = await ask(`/ca/${issuer}.cer`);
  expect(headers['content-type']).toBe('application/pkix-cert');
  const certificate = new X509Certificate(body);
  expect(certificate.verify(root.publicKey)).toBe(true);
  const rootPath = new URL(/CA Issuers - URI:(\S+)/.exec(certificate.infoAccess ?? '')?.[1] ?? '').pathname;
  expect((await ask(rootPath)).body.equals(root.raw)).toBe(true);
});

it('tiles of hashes are public and kept for ever; the leaves behind them, which carry names, are not', async () => {
  const [, size = '0'] = (await ask('/log/checkpoint')).body.toString().split('\n');
  const tile = await ask(`/log/tile/0/000.p/${size}`);
  expect(tile.status).toBe(200);
  expect(tile.body.length).toBe(32 * Number(size));
  expect(tile.headers['cache-control']).toBe('public, max-age=31536000, immutable');
  expect((await ask(`/log/tile/entries/000.p/${size}`)).status).toBe(404);
  expect((await ask('/log/tile/entries/000')).status).toBe(404);
});

it.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND'])(
  '%s: 405, and what is allowed',
  async (method) => {
    for (const path of [crlPath(), '/nowhere']) {
      const { status, headers } = await ask(path, method);
      expect(status).toBe(405);
      expect(headers.allow).toBe('GET, HEAD');
    }
  },
);

it.each([
  '/',
  '',
  '/crl',
  '/crl/',
  '/nowhere',
  '/../etc/passwd',
  '/crl/../../../../etc/passwd',
  '/log/../../vouch.db',
  '/log/tile/../../vouch.db',
  '/log/tile/0/../../../../vouch.yaml',
  '/%2e%2e/%2e%2e/etc/passwd',
  '/log/tile/0/%2e%2e%2f%2e%2e%2fvouch.db',
  '/..%5c..%5cvouch.db',
  '//etc/passwd',
  '/log/tile/0/x999/x999/x999/999',
  '/log/tile/63/000',
  '/log/tile/64/000',
  '/log/tile/0/000.p/0',
  '/log/tile/0/000.p/256',
  '/log/tile/0/000.p/255',
  '/log/tile/-1/000',
  '/log/tile/0/00',
  '/log/tile/1e1/000',
  '/log/tile/9007199254740993/x999/999',
  '/crl/%00.crl',
  '/__proto__',
  '/constructor',
  '/bundle.json/',
  '/BUNDLE.JSON',
  `/${'a'.repeat(8000)}`,
])('there is nothing at %j', async (path) => {
  const { status, headers, body } = await ask(path);
  expect(status).toBe(404);
  expect(headers['content-type']).toBe('application/problem+json');
  expect(headers['cache-control']).toBe('no-store');
  expect(JSON.parse(body.toString())).toEqual({
    type: 'urn:vouch:problem:request-not-found',
    title: 'There is no such thing here',
    status: 404,
    code: 'request-not-found',
    detail: 'there is nothing at this path',
  });
});

it('a checkpoint that is the same as before keeps its date; the next one has another', async () => {
  const publication = new Publication(() => undefined, systemClock);
  const put = (note: string, lastModifiedMs: number): void =>
    publication.put('/log/checkpoint', {
      chunks: [Buffer.from(note)],
      contentType: 'text/plain',
      lastModifiedMs,
      staleUntilSeconds: undefined,
      immutable: false,
    });
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };
  const listener = await listenHttp(publication.handler(log, new Metrics()), { host: '127.0.0.1', port: 0 });
  const date = async (): Promise<string | null> =>
    (await fetch(`http://127.0.0.1:${listener.port}/log/checkpoint`)).headers.get('last-modified');
  try {
    put('one', 1_000);
    put('one', 2_000);
    expect(await date()).toBe('Thu, 01 Jan 1970 00:00:01 GMT');
    put('two', 3_000);
    expect(await date()).toBe('Thu, 01 Jan 1970 00:00:03 GMT');
  } finally {
    await listener.close(0);
  }
});

it('a query changes nothing, an absolute form is no way around', async () => {
  expect((await ask(`${crlPath()}?x=1`)).status).toBe(200);
  expect((await ask(`http://elsewhere.example${crlPath()}`)).status).toBe(404);
});

it('after all of it the server is alive, and has nothing to report', () => {
  expect(authority.server.code).toBeUndefined();
  expect(authority.server.log().filter((line) => line.level === 'error')).toEqual([]);
});
