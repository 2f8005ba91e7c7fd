import { createPrivateKey } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import * as z from 'zod/mini';
import { readCrl, type VerifiedCrl, verifyCrl } from '../../../src/client/crl.ts';
import { MtlsProxies } from '../../../src/agent/proxy/mtls-proxies.ts';
import type { Served, Svid, Withheld } from '../../../src/agent/workloads.ts';
import { proxyConfig } from '../../../src/config/proxy-config.ts';
import { parseSpiffeId } from '../../../src/core/spiffe-id.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { MovedClock, service } from '../../client/support.ts';
import { eventually } from '../support/bundle.ts';
import { FakeAuthority, newKey } from '../support/fake-authority.ts';
import { dial, type Heard, plainServer, shown } from './support.ts';
import { longestTurnMs } from '../../support/turns.ts';
import { limitMs } from '../../support/limits.ts';

const gateway = 'spiffe://example.org/gateway';

/** An SVID as the agent holds it. */
function svid(authority: FakeAuthority, name: string, over: Partial<Svid> = {}): Svid {
  const { spki, pem } = newKey();
  const spiffeId = parseSpiffeId(`spiffe://example.org/${name}`);
  const leaf = authority.issue(spki, { uris: [spiffeId] });
  const { serial, notBeforeMs, notAfterMs } = parseCertificate(leaf);
  return {
    entryId: `e_${name}`,
    entryVersion: 1,
    spiffeId,
    hint: '',
    chain: [leaf, authority.issuer.der],
    keyPkcs8: createPrivateKey(pem).export({ format: 'der', type: 'pkcs8' }),
    serial,
    notBeforeMs,
    notAfterMs,
    issuerKeyId: authority.issuer.keyId,
    proof: { index: 0, treeSize: 1, time: 0, context: '00'.repeat(32), path: [], checkpoint: 'x' },
    selectors: ['unix:uid:0'],
    allowedClients: [gateway],
    ...over,
  };
}

function served(authority: FakeAuthority, svids: readonly Svid[], crls?: readonly Buffer[]): Served {
  const { trustDomain, root, issuer } = authority;
  return {
    svids,
    trust: {
      trustDomain,
      sequence: 1,
      roots: [root.der],
      issuers: [issuer.der],
      crls: crls ?? [authority.crl(issuer), authority.crl(root)],
      jwtKeys: [],
    },
  };
}

/** An agent's proxies for `web` (by id) and `db` (by entry), and a caller named gateway. */
async function agent() {
  const authority = new FakeAuthority();
  const client = await service(authority, 'gateway');
  const plain = await plainServer();
  const notices: string[] = [];
  const to = `127.0.0.1:${plain.port}`;
  const configs = [
    { id: 'spiffe://example.org/web', listen: '127.0.0.1:0', to },
    { entry: 'e_db', listen: '127.0.0.1:0', to },
  ].map((document) => z.parse(proxyConfig, document));
  const known: VerifiedCrl[] = [];
  const withheld: Withheld[] = [];
  const proxies = new MtlsProxies(configs, {
    ...{ clock: new MovedClock(), staleCrl: 'refuse' as const },
    knownCrl: (der) => known.find((crl) => crl.der === der),
    notice: (line) => void notices.push(line),
    withheld: () => withheld,
  });
  await proxies.listen();
  onTestFinished(() => proxies.close());
  const [web = 0, db = 0] = proxies.status().map(({ listen }) => Number(listen.split(':')[1]));
  return { authority, client, known, notices, proxies, withheld, web, db };
}

type Agent = Awaited<ReturnType<typeof agent>>;

/** A caller who was answered. */
async function open({ client }: Agent, port: number): Promise<Heard> {
  const caller = dial(port, shown(client));
  caller.socket.write('hello');
  expect(await eventually(() => (caller.text() === 'hello' ? true : undefined))).toBe(true);
  return caller;
}

/** The name that is shown on a port once one is; undefined where nobody answers. */
async function nameAt({ client }: Agent, port: number): Promise<string | undefined> {
  const caller = dial(port, shown(client));
  const { socket } = caller;
  await Promise.race([caller.over, new Promise((resolve) => void socket.once('secureConnect', resolve))]);
  const name = socket.getPeerX509Certificate()?.subjectAltName;
  socket.destroy();
  return name;
}

describe('the proxies of an agent', () => {
  test('refuse everyone until there is something to show, and whose SVID goes away again', async () => {
    const parts = await agent();
    const { authority, proxies, web, db } = parts;
    expect(await nameAt(parts, web)).toBeUndefined();
    const [webSvid, dbSvid] = [svid(authority, 'web'), svid(authority, 'db')];
    proxies.take(served(authority, [webSvid, dbSvid]));
    const [toWeb, toDb] = [await open(parts, web), await open(parts, db)];
    proxies.take(served(authority, [dbSvid]));
    expect(await toWeb.over).toBe('ECONNRESET');
    expect(await nameAt(parts, web)).toBeUndefined();
    toDb.socket.write(' again');
    expect(await eventually(() => (toDb.text() === 'hello again' ? true : undefined))).toBe(true);
  });

  test('say for which entry they wait, why, and that it is there', async () => {
    const { authority, notices, proxies, withheld } = await agent();
    const spiffeId = parseSpiffeId('spiffe://example.org/db');
    withheld.push({ entryId: 'e_db', spiffeId, selectors: ['unix:uid:0'], why: 'the entry is suspended' });
    const nothing = served(authority, []);
    proxies.take(nothing);
    await eventually(() => (notices.length === 2 ? true : undefined));
    expect(notices[0]).toMatch(
      /^proxy 127\.0\.0\.1:\d+ lets nobody through: it waits for an entry that gives spiffe:\/\/example\.org\/web /,
    );
    expect(notices[1]).toMatch(
      /: it waits for the certificate of spiffe:\/\/example\.org\/db \(entry e_db\): the entry is suspended$/,
    );
    expect(proxies.status()).toMatchObject([
      { of: 'spiffe://example.org/web', isServed: false },
      { of: 'e_db', isServed: false },
    ]);
    proxies.take({ ...nothing });
    proxies.take(served(authority, [svid(authority, 'web')]));
    await eventually(() => (notices.length === 3 ? true : undefined));
    expect(notices[2]).toMatch(/: the certificate of spiffe:\/\/example\.org\/web is there$/);
    expect(proxies.status()).toMatchObject([{ isServed: true }, { isServed: false }]);
  });

  test('show each its own, by id or by entry', async () => {
    const parts = await agent();
    const { authority, proxies, web, db } = parts;
    proxies.take(served(authority, [svid(authority, 'db'), svid(authority, 'web')]));
    await open(parts, web);
    expect(await nameAt(parts, web)).toBe('URI:spiffe://example.org/web');
    expect(await nameAt(parts, db)).toBe('URI:spiffe://example.org/db');
  });

  test('cut who is revoked within a second of the CRL, and nobody else', async () => {
    const parts = await agent();
    const { authority, proxies, web } = parts;
    const own = svid(authority, 'web', { allowedClients: ['spiffe://example.org/*'] });
    proxies.take(served(authority, [own]));
    const caller = await open(parts, web);
    const other = dial(web, shown(await service(authority, 'other')));
    other.socket.write('hello');
    await eventually(() => (other.text() === 'hello' ? true : undefined));
    authority.revoke(parts.client.serial());
    const from = performance.now();
    proxies.take(served(authority, [own]));
    expect(await caller.over).toBe('ECONNRESET');
    expect(performance.now() - from).toBeLessThan(limitMs(1000));
    expect(other.socket.closed).toBe(false);
  });

  test('cut who is no longer on the list', async () => {
    const parts = await agent();
    const { authority, proxies, web } = parts;
    const own = svid(authority, 'web');
    proxies.take(served(authority, [own]));
    const caller = await open(parts, web);
    proxies.take(served(authority, [{ ...own, allowedClients: ['spiffe://example.org/other'] }]));
    expect(await caller.over).toBe('ECONNRESET');
  });

  test.each<[string, (authority: FakeAuthority, own: Svid) => Served]>([
    [
      'issuer has been revoked and is named no more',
      (authority, own) => {
        const next = authority.addIssuer();
        authority.revoke(parseCertificate(authority.issuer.der).serial, 'cACompromise');
        const before = served(authority, [own], [authority.crl(next), authority.crl(authority.root)]);
        return { ...before, trust: { ...before.trust, issuers: [next.der] } };
      },
    ],
    [
      'root has left the bundle',
      (authority, own) => {
        const before = served(authority, [own]);
        return { ...before, trust: { ...before.trust, roots: [new FakeAuthority().root.der] } };
      },
    ],
  ])('cut whose %s', async (_what, after) => {
    const parts = await agent();
    const { authority, proxies, web } = parts;
    const own = svid(authority, 'web');
    proxies.take(served(authority, [own]));
    const caller = await open(parts, web);
    proxies.take(after(authority, own));
    expect(await Promise.race([caller.over, eventually(() => undefined, 3000)])).toBe('ECONNRESET');
  });

  test('believe no CRL of another key, and none older than one seen', async () => {
    const parts = await agent();
    const { authority, client, proxies, web, notices } = parts;
    const own = svid(authority, 'web');
    const before = served(authority, [own]);
    authority.revoke(client.serial());
    const now = served(authority, [own]);
    const stranger = new FakeAuthority();
    const forged = [
      authority.crl(authority.issuer, { crlNumber: 99n }, stranger.issuer),
      authority.crl(authority.root),
    ];
    for (const one of [
      now,
      before,
      served(authority, [own], forged),
      served(authority, [own], [Buffer.from('x')]),
    ]) {
      proxies.take(one);
      await eventually(() => undefined, 50);
    }
    expect(await dial(web, shown(client)).over).toMatch(/end|ECONNRESET/);
    expect(notices.join('\n')).toMatch(/denied-revoked/);
    expect(notices.join('\n')).toMatch(/wrong signature[^]*not one|below[^]*wrong signature/);
  });

  test('take what was verified already, of a CA that they know and no older than what counts', async () => {
    const parts = await agent();
    const { authority, proxies, web, client, known } = parts;
    const own = svid(authority, 'web');
    proxies.take(served(authority, [own]));
    const caller = await open(parts, web);
    const crl = (revoked: boolean, over: object = {}) => ({
      ...verifyCrl(readCrl(authority.crl()), parseCertificate(authority.issuer.der)),
      ...{ der: Buffer.from('not looked into'), has: () => revoked },
      ...over,
    });
    const stranger = new FakeAuthority();
    for (const other of [crl(true, { issuerKeyId: stranger.issuer.keyId }), crl(true, { crlNumber: 0n })]) {
      known.push(other);
      proxies.take(served(authority, [own], [other.der, authority.crl(authority.root)]));
      await eventually(() => undefined, 50);
    }
    expect(caller.socket.closed).toBe(false);
    const good = crl(true);
    known.push(good);
    proxies.take(served(authority, [own], [good.der, authority.crl(authority.root)]));
    expect(await caller.over).toBe('ECONNRESET');
    expect(await dial(web, shown(client)).over).toMatch(/end|ECONNRESET/);
  });

  test('take the last of many at once; what cannot be used leaves what was', async () => {
    const parts = await agent();
    const { authority, proxies, web, notices } = parts;
    const last = svid(authority, 'web');
    for (let at = 0; at < 50; at += 1) proxies.take(served(authority, [svid(authority, 'web')]));
    proxies.take(served(authority, [last]));
    await open(parts, web);
    proxies.take(served(authority, [{ ...last, keyPkcs8: Buffer.from('no key') }]));
    expect(await eventually(() => notices.find((line) => line.includes('stays as it was')))).toBeDefined();
    const caller = await open(parts, web);
    expect(caller.socket.closed).toBe(false);
  });

  test('go on taking connections while a large CRL is read', async () => {
    const parts = await agent();
    const { authority, proxies, web, client } = parts;
    const own = svid(authority, 'web');
    proxies.take(served(authority, [own]));
    await open(parts, web);
    authority.revoke(client.serial());
    const listed = [...authority.revoked.values()];
    for (let at = 0; at < 200_000; at += 1) {
      const serial = `10${at.toString(16).padStart(32, '0')}` as (typeof listed)[0]['serial'];
      authority.revoked.set(serial, { ...listed[0]!, serial });
    }
    const crls = [authority.crl(authority.issuer), authority.crl(authority.root)];
    const longest = await longestTurnMs(() => {
      proxies.take(served(authority, [own], crls));
      return eventually(() => proxies.status()[0]?.cut === 1);
    });
    expect(proxies.status()[0]?.cut).toBe(1);
    expect(longest).toBeLessThan(100);
  });
});
