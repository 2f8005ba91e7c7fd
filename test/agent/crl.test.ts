import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { CrlSource, crlMaxBytes } from '../../src/client/crl-source.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { FakeAuthority, seconds } from './support/fake-authority.ts';
import type { RawAnswer } from './support/fake-server.ts';
import { startAuthority, workload } from './support/harness.ts';

const hour = 3600;
const now = seconds(Date.now());

type Instead = (keyId: string, authority: FakeAuthority) => RawAnswer | { der: Buffer } | undefined;

/** `der` for the issuer's CRL, the root's as it should be. */
const issuers =
  (make: (authority: FakeAuthority) => Buffer): Instead =>
  (keyId, authority) =>
    keyId === authority.issuer.keyId ? { der: make(authority) } : undefined;

const bad: [string, number, string, RegExp, Instead][] = [
  [
    'a stale one',
    1,
    'policy-not-fresh',
    /ended at/,
    issuers((authority) =>
      authority.crl(authority.issuer, { thisUpdateSeconds: now - 3 * hour, nextUpdateSeconds: now - hour }),
    ),
  ],
  [
    'one from the future',
    1,
    'policy-not-fresh',
    /has not come yet.*set the clock right/,
    issuers((authority) =>
      authority.crl(authority.issuer, { thisUpdateSeconds: now + hour, nextUpdateSeconds: now + 2 * hour }),
    ),
  ],
  ['none', 75, 'unavailable-server', /answers 404/, () => ({ status: 404 })],
  [
    'a redirect',
    75,
    'unavailable-server',
    /answers 302/,
    () => ({ status: 302, headers: { location: 'http://127.0.0.1:1/' } }),
  ],
  [
    'half of one',
    75,
    'unavailable-server',
    /cannot be fetched/,
    () => ({ status: 200, body: 'x'.repeat(2000), half: true }),
  ],
  ['something else', 1, 'integrity-crl', /is not one/, () => ({ status: 200, body: '<html>' })],
  [
    'one signed by another key',
    1,
    'integrity-crl',
    /wrong signature/,
    issuers((authority) => authority.crl(authority.issuer, {}, new FakeAuthority().issuer)),
  ],
  [
    'one of another issuer',
    1,
    'integrity-crl',
    /another issuer/,
    issuers((authority) => authority.crl(authority.root)),
  ],
  [
    'one of another key',
    1,
    'integrity-crl',
    /another key/,
    issuers((authority) => authority.crl(authority.issuer, { authorityKeyId: authority.root.keyId })),
  ],
  [
    'a shard, validly signed',
    1,
    'integrity-crl',
    /shard/,
    issuers((authority) => authority.crl(authority.issuer, { idpUrl: 'http://x/crl/03.crl' })),
  ],
];

describe('enroll refuses, in the place of a CRL,', () => {
  test.each(bad)('%s', async (_name, exit, expected, words, instead) => {
    const { authority, server } = await startAuthority();
    server.crlInstead = (keyId) => instead(keyId, authority);
    const one = workload(server);
    const { code, stderr } = await one.enroll('--timeout', '1');
    expect(JSON.parse(stderr.trim().split('\n').at(-1) ?? '')).toMatchObject({
      code: expected,
      detail: expect.stringMatching(words) as string,
    });
    expect(code).toBe(exit);
    expect(existsSync(join(one.dir, 'current'))).toBe(false);

    const lenient = await one.enroll('--crl', 'allow-stale', '--timeout', '1');
    expect(lenient).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('going on without it') as string,
    });
    expect(existsSync(join(one.dir, 'current', 'crl.pem'))).toBe(true);
  });
});

test("the root's CRL counts as well as the issuer's", async () => {
  const { authority, server } = await startAuthority();
  server.crlInstead = (keyId) => (keyId === authority.root.keyId ? { status: 404 } : undefined);
  expect(await workload(server).enroll('--timeout', '1')).toMatchObject({ code: 75 });
});

test('own certificate on the CRL is refused, under either policy, and so is the issuer on the one of the root', async () => {
  const { authority, server } = await startAuthority();
  server.bend = ({ answer }) => {
    authority.revoke(parseCertificate(Buffer.from(answer.chain[0] ?? '', 'base64')).serial);
    return answer;
  };
  for (const policy of ['require', 'allow-stale']) {
    const { code, stderr } = await workload(server).enroll('--crl', policy);
    expect(code).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({
      code: 'denied-revoked',
      detail: expect.stringContaining('our certificate') as string,
    });
  }
  server.bend = undefined;
  authority.revoke(parseCertificate(authority.issuer.der).serial, 'cACompromise');
  const { stderr } = await workload(server).enroll('--crl', 'allow-stale');
  expect(JSON.parse(stderr)).toMatchObject({
    code: 'denied-revoked',
    detail: expect.stringContaining('issuer of our certificate') as string,
  });
});

test('a CRL number below one seen is refused in the next renewal', async () => {
  const { authority, server } = await startAuthority();
  authority.crlNumber = 50n;
  const one = workload(server);
  await one.enroll();
  const state = () =>
    JSON.parse(readFileSync(join(one.dir, 'agent.json'), 'utf8')) as {
      seen: { crlNumbers: Record<string, string> };
    };
  expect(state().seen.crlNumbers).toEqual({ [authority.issuer.keyId]: '50', [authority.root.keyId]: '50' });
  authority.crlNumber = 49n;
  const { code, stderr } = await one.renew();
  expect(code).toBe(1);
  expect(JSON.parse(stderr)).toMatchObject({
    code: 'integrity-rewind',
    detail: expect.stringContaining('has number 49, below 50') as string,
  });
  authority.crlNumber = 50n;
  expect((await one.renew()).code).toBe(0);
  authority.crlNumber = 90n;
  expect((await one.renew()).code).toBe(0);
  expect(state().seen.crlNumbers[authority.issuer.keyId]).toBe('90');
});

test('without crlUrls for a CA the distribution point of what it signed is used', async () => {
  const { authority, server } = await startAuthority();
  server.bend = ({ answer }) => ({
    ...answer,
    crlUrls: answer.crlUrls.filter(({ keyId }) => keyId === authority.root.keyId),
  });
  const one = workload(server);
  expect(await one.enroll()).toMatchObject({ code: 0 });
  expect(server.requests).toContain(`/crl/${authority.issuer.keyId}.crl`);
  expect(decodePem(one.read('crl.pem'), 'X509 CRL')).toHaveLength(2);
});

test('a CRL that never ends is cut off at the limit', async () => {
  const endless = createServer((_request, response) => {
    const chunk = Buffer.alloc(4 * 1024 * 1024);
    const more = (): void => {
      while (!response.destroyed && response.write(chunk));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  });
  await new Promise<void>((resolve) => void endless.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    endless.closeAllConnections();
    endless.close();
  });
  const address = endless.address();
  const source = new CrlSource(`http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/crl`);
  await expect(source.fetch(new AbortController().signal)).rejects.toMatchObject({
    code: 'integrity-crl',
    message: expect.stringContaining(String(crlMaxBytes)) as string,
  });
});

test('what a CRL refresh saw while a renewal was under way counts for it', async () => {
  const { authority, server } = await startAuthority();
  authority.crlNumber = 50n;
  const one = workload(server);
  await one.enroll();
  authority.crlNumber = 55n;
  server.bend = ({ answer }) => {
    const path = join(one.dir, 'agent.json');
    writeFileSync(path, readFileSync(path, 'utf8').replaceAll('"50"', '"60"'));
    return answer;
  };
  const { stderr } = await one.renew();
  expect(JSON.parse(stderr)).toMatchObject({
    code: 'integrity-rewind',
    detail: expect.stringContaining('55, below 60') as string,
  });
});
