import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { freshSerial } from '../x509/authority.ts';
import { CurrentAuthority } from '../x509/oracle-tools.ts';
import { nginx } from './nginx-judge.ts';
import { ask, everyone, leafOf, openSsl, question, Verifiers } from './verifiers.ts';

/** What is served, by path; what was asked for. */
const served = new Map<string, Buffer>();
const asked: string[] = [];
const server = createServer(({ url = '' }, response) => {
  asked.push(url);
  const crl = served.get(url);
  response.writeHead(crl ? 200 : 404, { 'content-type': 'application/pkix-crl' }).end(crl);
});

let verifiers: Verifiers;
let base: string;
let authority: CurrentAuthority;
beforeAll(async () => {
  verifiers = await Verifiers.start();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  authority = new CurrentAuthority(undefined, undefined, { crlUrls: [`${base}/root.crl`] });
  served.set('/root.crl', authority.crl({}, authority.root));
}, 180_000);
afterAll(() => {
  verifiers.end();
  server.close();
});

const serial = freshSerial();
let files = 0;

/** A shard as it is published, at a URL of its own: Java remembers what it fetched. */
function shard(isRevoked: boolean): { url: string; crl: Buffer; leaf: Buffer } {
  const url = `${base}/crl/${files++}.crl`;
  const entry = encodeRevoked({ serial, dateSeconds: authority.nowSeconds - 70, reason: 'superseded' });
  const crl = authority.crl({ idpUrl: url, revoked: isRevoked ? [entry] : [] });
  served.set(new URL(url).pathname, crl);
  return { url, crl, leaf: leafOf(authority, { serial, crlUrls: [url] }) };
}

describe.each([
  ['passes by it', false, 'good'],
  ['is refused by it', true, 'revoked'],
])('a leaf %s', (_name, isRevoked, verdict) => {
  it('in the hand of all but NSS, which knows no critical IDP, and Go, where we look for none', async () => {
    const { crl, leaf } = shard(isRevoked);
    const others = { NSS: expect.stringMatching(/critical/i), Go: 'critical extension 2.5.29.28' };
    const asking = question(authority, leaf, [crl]);
    expect(await verifiers.all(asking)).toEqual(everyone(verdict, others));
    expect(await ask(nginx, asking)).toBe(verdict);
  });

  it.each([
    ['OpenSSL (-crl_download)', () => openSsl('-crl_download')],
    ['OpenSSL (-crl_download -extended_crl)', () => openSsl('-crl_download', '-extended_crl')],
    ['Java', () => verifiers.judges.Java],
  ])('where %s fetches it', async (_who, judge) => {
    const { url, leaf } = shard(isRevoked);
    const said = await ask(judge(), question(authority, leaf, []));
    expect(said).toMatch(new RegExp(`^${verdict}`));
    expect(asked).toContain(new URL(url).pathname);
  });
});

describe('a shard that stands at another URL than its IDP says', () => {
  it('is not used, but by GnuTLS, which does not look', async () => {
    const { crl } = shard(false);
    const moved = `/crl/moved-${files++}.crl`;
    served.set(moved, crl);
    const leaf = leafOf(authority, { serial, crlUrls: [`${base}${moved}`] });
    expect(await verifiers.all(question(authority, leaf, [crl]))).toEqual(
      everyone(expect.not.stringMatching(/^(good|revoked)/), { GnuTLS: 'good' }),
    );
    const fetching = question(authority, leaf, []);
    expect(await ask(openSsl('-crl_download'), fetching)).toMatch(/error 44 .*different CRL scope/);
    expect(await ask(verifiers.judges.Java, fetching)).toMatch(/Could not determine revocation status/);
    expect(asked).toContain(moved);
  });

  it('is not the one of a certificate of another shard', async () => {
    const leaf = leafOf(authority, { serial, crlUrls: [shard(true).url] });
    const { crl } = shard(false);
    const others = { GnuTLS: 'good', Java: expect.stringMatching(/^revoked/) };
    const unusable = expect.not.stringMatching(/^(good|revoked)/);
    // Java fetches the right one.
    expect(await verifiers.all(question(authority, leaf, [crl]))).toEqual(everyone(unusable, others));
  });
});
