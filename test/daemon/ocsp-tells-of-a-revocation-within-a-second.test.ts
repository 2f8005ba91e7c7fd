import { writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { askOcsp, ocspAnswers, ocspRequest } from '../support/ocsp.ts';
import { eventually } from '../support/running.ts';
import { runTool } from '../x509/oracle-tools.ts';
import { limitMs } from '../support/limits.ts';

let authority: Authority;
let orders: Workload;
let billing: Workload;

beforeAll(async () => {
  const configure = (config: Record<string, unknown>): void => {
    config.ocsp = { enabled: true, inCertificates: true };
  };
  authority = await bootAuthority({ init: ['--ocsp'], configure });
  [orders, billing] = await Promise.all([authority.enroll('orders'), authority.enroll('billing')]);
  await ocspAnswers(authority, orders);
});

const url = (path = ''): string => `${authority.server.ready.publicationUrl}/ocsp${path}`;

/** Of the bytes: good, revoked, or why there is no answer. */
async function said(response: Response): Promise<string> {
  const file = authority.path('response.der');
  writeFileSync(file, Buffer.from(await response.arrayBuffer()));
  const text = runTool('openssl', 'ocsp', '-respin', file, '-resp_text', '-noverify').output;
  return /Cert Status: (\w+)/.exec(text)?.[1] ?? /(?:Error|Status): *(\w+)/i.exec(text)?.[1] ?? text;
}

function post(body: Buffer | string, type = 'application/ocsp-request', path = ''): Promise<Response> {
  return fetch(url(path), { method: 'POST', body, headers: { 'Content-Type': type } });
}

/** A GET of a path byte for byte, which `fetch` would normalise. */
function rawGet(path: string, method = 'GET'): Promise<{ status: number; body: Buffer }> {
  const { hostname, port } = new URL(url());
  return new Promise((resolve, reject) => {
    httpRequest({ hostname, port, path, method }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
    })
      .on('error', reject)
      .end();
  });
}

const malformed = Buffer.from('30030a0101', 'hex');

describe('the OCSP responder', () => {
  it('says good of what is not revoked, by SHA-1 and SHA-256, to POST and GET alike', async () => {
    for (const flag of ['-sha1', '-sha256']) {
      const output = askOcsp(authority, orders, flag, '-no_nonce');
      expect(output).toMatch(/: good\n/);
      expect(output).toMatch(/Response verify OK/);
    }
    const request = ocspRequest(authority, orders);
    const escaped = await fetch(url(`/${encodeURIComponent(request.toString('base64'))}`));
    expect(escaped.headers.get('content-type')).toBe('application/ocsp-response');
    expect(escaped.headers.get('cache-control')).toMatch(
      /^public, no-transform, max-age=1, stale-if-error=\d+$/,
    );
    const etag = escaped.headers.get('etag') ?? '';
    const headers = { 'If-None-Match': etag };
    expect((await fetch(escaped.url, { headers })).status).toBe(304);
    const bytes = Buffer.from(await escaped.arrayBuffer());
    expect(Buffer.from(await (await post(request)).arrayBuffer())).toEqual(bytes);
    const plain = await rawGet(`/ocsp/${request.toString('base64')}`);
    expect(plain.body).toEqual(bytes);
  });

  it('gives the kept answer, without it, to who sends a nonce', () => {
    expect(askOcsp(authority, orders)).toMatch(
      /WARNING: no nonce in response[^]*: good\n|: good\n[^]*no nonce/,
    );
  });

  it('knows no other serial and no other issuer, and signs nothing about them', async () => {
    const request = ocspRequest(authority, orders);
    for (const change of [request.length - 1, 30, 60]) {
      const other = Buffer.from(request);
      other[change] = (other[change] ?? 0) ^ 1;
      expect(await said(await post(other))).toBe('unauthorized');
    }
  });

  it('says revoked within a second of the revocation or the hold, and which it is', async () => {
    const stock = await authority.enroll('stock');
    for (const [workload, reason] of [
      [stock, 'certificateHold'],
      [billing, 'superseded'],
    ] as const) {
      const request = ocspRequest(authority, workload);
      expect(await said(await post(request))).toBe('good');
      (await authority.vouch('revoke', '--serial', workload.serial, '--reason', reason)).json();
      const startedMs = performance.now();
      const response = await post(request);
      expect(performance.now() - startedMs).toBeLessThan(limitMs(1000));
      expect(await said(response)).toBe('revoked');
      expect(askOcsp(authority, workload, '-no_nonce')).toMatch(new RegExp(`Reason: ${reason}`));
    }
    expect(askOcsp(authority, orders, '-no_nonce')).toMatch(/: good\n/);
  });

  it('stands in certificates, and so OpenSSL finds it', () => {
    const text = runTool('openssl', 'x509', '-in', orders.path('svid.pem'), '-noout', '-ocsp_uri').output;
    expect(text.trim()).toMatch(/^http:.*\/ocsp$/);
  });

  it('goes on while its signer is started again, and its answers go out while the token is away', async () => {
    const putBack = await authority.takeAway('online');
    const other = await authority.vouch('status');
    expect(other.code).toBe(0);
    expect(askOcsp(authority, orders, '-no_nonce')).toMatch(/: good\n/);
    // By another hash it was never asked, and nobody signs now.
    const unasked = ocspRequest(authority, billing, '-sha256');
    expect(await said(await post(unasked))).toBe('trylater');
    putBack();
    await eventually(async () => (await said(await post(unasked))) === 'revoked');
  });

  it('is certified once for a day, through the log, which verifies', async () => {
    const { certificates } = (
      await authority.vouch('cert', 'list', '--id', authority.id('vouch/ocsp'))
    ).json<{
      certificates: { serial: string }[];
    }>();
    expect(certificates.length).toBe(1);
    await authority.server.end();
    await authority.start();
    await ocspAnswers(authority, orders);
    const after = (await authority.vouch('cert', 'list', '--id', authority.id('vouch/ocsp'))).json<{
      certificates: unknown[];
    }>();
    expect(after.certificates.length).toBe(1);
    expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
      problems: [],
    });
  });
});

describe('what is no request', () => {
  it('is malformed, whatever its path', async () => {
    const base64 = ocspRequest(authority, orders).toString('base64');
    const paths = [
      '/ocsp',
      '/ocsp/',
      '/ocsp?',
      `/ocsp?${base64}`,
      // Escaped twice: what it comes to after one turn is no base64, whichever letters the request has.
      `/ocsp/%25${base64.charCodeAt(0).toString(16)}${base64.slice(1)}`,
      `/ocsp/${base64}?x=1`,
      `/ocsp//${base64}`,
      `/ocsp/%2F${base64}`,
      `/ocsp/..%2Fcrl`,
      `/ocsp/${base64}%00`,
      '/ocsp/%zz',
      '/ocsp/%ff%fe',
      `/ocsp/${base64.replace(/=*$/, '')}!`,
      `/ocsp/${'A'.repeat(15_000)}`,
    ];
    for (const path of paths)
      expect({ path, ...(await rawGet(path)) }).toEqual({ path, status: 200, body: malformed });
    expect(await said(await post(Buffer.alloc(4096, 0x30)))).toBe('malformedrequest');
    expect(await said(await post(''))).toBe('malformedrequest');
  });

  it('is refused where it is too large, of another type or by another method', async () => {
    expect((await post(Buffer.alloc(4097))).status).toBe(413);
    const streamed = new Blob([Buffer.alloc(100_000)]).stream();
    const init = {
      method: 'POST',
      body: streamed,
      duplex: 'half',
      headers: { 'Content-Type': 'application/ocsp-request' },
    };
    expect((await fetch(url(), init as RequestInit)).status).toBe(413);
    expect((await post('x', 'text/plain')).status).toBe(400);
    expect((await post('x', undefined, '/x')).status).toBe(404);
    expect((await rawGet('/ocsp', 'PUT')).status).toBe(405);
    expect((await fetch(url().replace('/ocsp', '/bundle.json'), { method: 'POST', body: 'x' })).status).toBe(
      405,
    );
    expect((await rawGet(`/ocsp/${'A'.repeat(16_100)}`)).status).toBeGreaterThanOrEqual(400);
  });
});

describe("the responder's certificate", () => {
  it('serves neither in TLS nor as a CA, and its key never leaves the token', async () => {
    const response = authority.path('response.der');
    writeFileSync(response, Buffer.from(await (await post(ocspRequest(authority, orders))).arrayBuffer()));
    const text = runTool('openssl', 'ocsp', '-respin', response, '-resp_text', '-noverify').output;
    const [pem = ''] = /-----BEGIN CERTIFICATE-----[^]*-----END CERTIFICATE-----/.exec(text) ?? [];
    const responder = authority.path('responder.pem');
    writeFileSync(responder, `${pem}\n`);
    const trust = ['-CAfile', orders.path('bundle.pem'), '-untrusted', orders.path('svid.pem')];
    const verify = (purpose: string) =>
      runTool('openssl', 'verify', ...trust, '-purpose', purpose, responder).output;
    expect(verify('ocsphelper')).toMatch(/OK/);
    for (const purpose of ['sslserver', 'sslclient'])
      expect(verify(purpose)).toMatch(/unsuitable certificate purpose/);
    const certificate = runTool('openssl', 'x509', '-in', responder, '-noout', '-text').output;
    expect(certificate).toMatch(/CA:FALSE/);
    expect(certificate).toMatch(/OCSP No Check/);
    expect(certificate).toMatch(/Extended Key Usage: \s*OCSP Signing\n/);
  });
});
