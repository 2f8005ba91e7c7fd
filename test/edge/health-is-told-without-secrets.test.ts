import { readFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, joinContent } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { signalTo } from '../support/signal.ts';

let authority: Authority;
let base: string;

beforeAll(async () => {
  authority = await bootAuthority();
  base = authority.server.ready.operationsUrl;
});

it('/livez: the process answers', async () => {
  const response = await fetch(`${base}/livez`);
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({ status: 'alive' });
});

it('/readyz: each thing that must hold, by name; a probe signs and writes nothing', async () => {
  const treeSize = async () =>
    (await authority.vouch('status')).json<{ log: { treeSize: number } }>().log.treeSize;
  const before = await treeSize();
  for (let probe = 0; probe < 50; probe += 1) {
    const response = await fetch(`${base}/readyz`);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      status: 'ready',
      checks: ['signer', 'store', 'log', 'clock', 'issuer', 'certificate', 'crl'].map((name) => ({ name })),
    });
  }
  expect(await treeSize()).toBe(before);
});

it('/readyz while the signer is away: 503, and the server lives through every probe', async () => {
  signalTo(authority.server.ready.signerPid, 'SIGSTOP');
  // It is replaced within seconds; probes meanwhile must see it, and do no harm.
  const seen = new Set<number>();
  await eventually(async () => {
    const { status } = await fetch(`${base}/readyz`);
    seen.add(status);
    return seen.has(503) && status === 200;
  }, 15_000);
  expect((await fetch(`${base}/livez`)).status).toBe(200);
  expect(authority.server.code).toBeUndefined();
});

it('/metrics: what ARCHITECTURE names is there, histograms among it, and nobody’s name', async () => {
  const orders = await authority.enroll('orders', '--dns', 'orders.test.example');
  (await authority.vouch('renew', '--dir', orders.dir)).json();
  (await authority.vouch('revoke', '--serial', orders.serial, '--reason', 'keyCompromise')).json();
  const response = await fetch(`${base}/metrics`);
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  const architecture = readFileSync('docs/ARCHITECTURE.md', 'utf8');
  const named = architecture.slice(architecture.indexOf('## Metrics')).match(/vouch_[a-z_]+[a-z]/g) ?? [];
  expect(named.length).toBeGreaterThan(10);
  // Without a standby there are no gauges of one, which an alert would take for a failure.
  const isOfStandby = (name: string): boolean => name.startsWith('vouch_standby_');
  expect(text).not.toContain('vouch_standby_');
  for (const name of named.filter((one) => !isOfStandby(one)))
    expect(text, name).toMatch(new RegExp(`^# TYPE ${name} (counter|gauge|histogram)$`, 'm'));
  expect(text).toMatch(/^vouch_certificates_issued_total\{road="enrollment"\} 1$/m);
  expect(text).toMatch(/^vouch_certificates_issued_total\{road="renewal"\} 1$/m);
  expect(text).toMatch(/^vouch_revocations_total\{reason="keyCompromise"\} \d+$/m);
  expect(text).toMatch(/^vouch_revoke_to_published_seconds_count 1$/m);
  expect(text).toMatch(
    /^vouch_http_request_seconds_bucket\{le="[\d.]+",listener="enrollment",route="\/v1\/enroll",status="200"\} \d+$/m,
  );
  expect(text).toMatch(/^vouch_signer_usable 1$/m);
  expect(text).not.toMatch(/spiffe:|orders|test\.example/);
  expect(text).not.toContain(orders.serial);
});

it('labels stay few whatever is asked for', async () => {
  const series = async () =>
    (await (await fetch(`${base}/metrics`)).text())
      .split('\n')
      .filter((line) => line.startsWith('vouch_http_request_seconds_count')).length;
  const paths = Array.from({ length: 50 }, (_, at) => `/random-${at}`);
  for (const path of paths)
    for (const url of [base, authority.server.ready.publicationUrl]) await fetch(url + path);
  const before = await series();
  for (const path of paths)
    for (const url of [base, authority.server.ready.publicationUrl]) await fetch(`${url}${path}/more`);
  expect(await series()).toBe(before);
});

it('nothing but these, and nothing that changes anything', async () => {
  for (const path of ['/', '/v1/status', '/v1/tokens', '/debug/pprof', '/livez/', '/admin', '/bundle.json'])
    expect((await fetch(base + path)).status, path).toBe(404);
  for (const path of ['/livez', '/readyz', '/metrics'])
    for (const method of ['POST', 'PUT', 'DELETE']) {
      const response = await fetch(base + path, { method });
      expect(response.status).toBe(405);
      expect(response.headers.get('allow')).toBe('GET, HEAD');
      expect(await response.json()).toMatchObject({ code: 'request-method' });
    }
});

it('no secret stands in metrics, readiness or log', async () => {
  const { path } = await authority.join('secret');
  const { token } = joinContent(path);
  const pin = readFileSync(authority.tokens.online.pinFile, 'utf8').trim();
  (await authority.vouch('enroll', '--join-file', path, '--out', authority.path('out'))).json();
  const texts = await Promise.all(
    ['/metrics', '/readyz', '/livez'].map(async (at) => (await fetch(base + at)).text()),
  );
  for (const text of [...texts, authority.server.stderr, authority.server.stdout]) {
    expect(text).not.toContain(token);
    expect(text).not.toContain(pin);
    expect(text).not.toContain('PRIVATE KEY');
  }
});
