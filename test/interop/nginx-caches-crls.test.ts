import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { type Listener, listenHttp } from '../../src/http/listeners.ts';
import { Publication } from '../../src/http/publication.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { freePort } from '../support/ports.ts';
import { type Running, start } from '../support/running.ts';
import { unusedUids } from '../support/users.ts';

/** The configuration that is delivered, with this test's addresses in its three lines. */
function delivered(origin: string, listen: string, cache: string): string {
  const changes: [string, string][] = [
    ['server 127.0.0.1:8180 ', `server ${origin} `],
    ['listen 80;', `listen ${listen};`],
    ['/var/cache/nginx/vouch ', `${cache} `],
  ];
  return changes.reduce(
    (text, [from, to]) => {
      expect(text.split(from)).toHaveLength(2);
      return text.replace(from, to);
    },
    readFileSync('deploy/nginx/crl-cache.conf', 'utf8'),
  );
}

let folder: string;
let nginx: Running | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vouch-nginx-'));
});
afterEach(async () => {
  nginx?.child.kill('SIGQUIT');
  await nginx?.ended();
  nginx = undefined;
  rmSync(folder, { recursive: true, force: true });
});

/** nginx before `origin`, HOST:PORT, as a user without rights; its base URL. */
async function nginxBefore(origin: string): Promise<string> {
  const listen = `127.0.0.1:${await freePort()}`;
  writeFileSync(join(folder, 'crl-cache.conf'), delivered(origin, listen, join(folder, 'cache')));
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/t;`,
  );
  const http = `access_log off; ${paths.join(' ')} include ${folder}/crl-cache.conf;`;
  const main = `daemon off; pid ${folder}/pid; error_log stderr; worker_processes 1;`;
  writeFileSync(join(folder, 'nginx.conf'), `${main}\nevents {}\nhttp { ${http} }\n`);
  const command = ['/usr/sbin/nginx', '-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')];
  if (process.getuid?.() === 0) {
    const [uid = 0] = unusedUids(1);
    chownSync(folder, uid, uid);
    command.unshift('setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups');
  }
  nginx = start(command);
  const answers = () =>
    fetch(`http://${listen}/nothing`).then(
      () => true,
      () => false,
    );
  await expect.poll(answers, { timeout: 10_000 }).toBe(true);
  return `http://${listen}`;
}

async function get(url: string) {
  const response = await fetch(url);
  const body = Buffer.from(await response.arrayBuffer());
  return {
    status: response.status,
    body,
    cache: response.headers.get('x-cache-status'),
    headers: response.headers,
  };
}

let authority: Authority;
beforeAll(async () => {
  authority = await bootAuthority();
});

test('no revocation comes more than 2 s late, though somebody asks all the time', async () => {
  const base = await nginxBefore(new URL(authority.server.ready.publicationUrl).host);
  for (let round = 0; round < 3; round += 1) {
    const orders = await authority.enroll('orders');
    const url = `${base}/crl/${orders.delivery.issuerKeyId}.crl`;
    const lists = async (): Promise<boolean> => parseCrl((await get(url)).body).has(orders.serial as never);
    expect(await lists()).toBe(false);
    let isSeen = false;
    let revokedAt = 0;
    const asking = (async () => {
      while (!(await lists())) await new Promise(setImmediate);
      isSeen = true;
      return performance.now();
    })();
    const ran = await authority.vouch('revoke', '--serial', orders.serial, '--reason', 'superseded');
    revokedAt = performance.now();
    expect(ran.json<{ published: boolean }>().published).toBe(true);
    expect((await asking) - revokedAt).toBeLessThan(2000);
    expect(isSeen).toBe(true);
  }
});

test('most of what is asked for does not reach the origin, ranges neither', async () => {
  const orders = await authority.enroll('orders');
  const base = await nginxBefore(new URL(authority.server.ready.publicationUrl).host);
  const url = `${base}/crl/${orders.delivery.issuerKeyId}.crl`;
  const whole = await get(url);
  const seen = new Map<string | null, number>();
  const began = performance.now();
  for (let asked = 0; asked < 500; asked += 1) {
    const { cache } = await get(url);
    seen.set(cache, (seen.get(cache) ?? 0) + 1);
  }
  const seconds = (performance.now() - began) / 1000;
  expect(500 - (seen.get('HIT') ?? 0)).toBeLessThanOrEqual(seconds + 2);
  const etag = whole.headers.get('etag') ?? '';
  const part = await fetch(url, { headers: { range: 'bytes=2-9', 'if-range': etag } });
  expect(part.status).toBe(206);
  expect(Buffer.from(await part.arrayBuffer()).equals(whole.body.subarray(2, 10))).toBe(true);
  expect((await fetch(url, { headers: { 'if-none-match': etag } })).status).toBe(304);
});

/** An origin in this process, whose CRL ends when the test says. */
async function originWith(
  path: string,
  text: string,
  staleUntilSeconds: number | undefined,
): Promise<Listener> {
  const publication = new Publication(() => undefined, systemClock);
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };
  const meta = { contentType: 'application/pkix-crl', lastModifiedMs: 1000, immutable: false };
  publication.put(path, { ...meta, chunks: [Buffer.from(text)], staleUntilSeconds });
  return listenHttp(publication.handler(log, new Metrics()), { host: '127.0.0.1', port: 0 });
}

test.each(['gone', 'cutting connections'])(
  'while the origin is %s the last CRL is served until its nextUpdate, not longer',
  async (how) => {
    const nextUpdate = Math.ceil(Date.now() / 1000) + 10;
    const origin = await originWith('/crl/a.crl', 'a CRL', nextUpdate);
    const base = await nginxBefore(`127.0.0.1:${origin.port}`);
    const [crl, other] = [`${base}/crl/a.crl`, `${base}/crl/b.crl`];
    expect(await get(crl)).toMatchObject({ status: 200, cache: 'MISS' });
    // A second answer of the origin moves nothing.
    await expect.poll(async () => (await get(crl)).cache, { timeout: 5000 }).toBe('REVALIDATED');
    if (how === 'gone') await origin.close(0);
    else {
      origin.server.removeAllListeners('request');
      origin.server.on('request', (request) => request.socket.destroy());
    }
    let lastServed = 0;
    await expect
      .poll(
        async () => {
          const { status, body } = await get(crl);
          if (status === 200) {
            lastServed = Date.now() / 1000;
            expect(body.toString()).toBe('a CRL');
          }
          return status;
        },
        { timeout: 20_000, interval: 50 },
      )
      .toBe(502);
    expect(lastServed).toBeGreaterThan(nextUpdate - 3);
    expect(lastServed).toBeLessThan(nextUpdate + 0.1);
    expect((await get(other)).status).toBe(502);
    if (how !== 'gone') await origin.close(0);
  },
);

test('what has no end of its own stays served, and a killed server’s CRL does', async () => {
  const { server } = authority;
  const base = await nginxBefore(new URL(server.ready.publicationUrl).host);
  const { crls } = await authority.status();
  const urls = ['/bundle.json', ...crls.map(({ url }) => new URL(url).pathname)].map(
    (path) => `${base}${path}`,
  );
  const before = await Promise.all(urls.map(get));
  server.child.kill('SIGKILL');
  await server.ended();
  // Past max-age: none of this is fresh any more.
  await expect.poll(async () => (await get(urls[0] ?? '')).cache, { timeout: 5000 }).toBe('STALE');
  await expect.poll(async () => (await get(urls[1] ?? '')).cache, { timeout: 5000 }).toBe('STALE');
  for (const [at, url] of urls.entries()) {
    const { status, body } = await get(url);
    expect(status, url).toBe(200);
    expect(body.equals(before[at]?.body ?? Buffer.alloc(0)), url).toBe(true);
  }
  await authority.start();
  await expect.poll(async () => (await get(urls[1] ?? '')).cache, { timeout: 5000 }).not.toBe('STALE');
});
