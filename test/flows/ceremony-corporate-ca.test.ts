import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { verifyState } from '../../src/audit/verify-state.ts';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { validatePath } from '../../src/x509/path.ts';
import { decodePem, encodePem } from '../../src/x509/pem.ts';
import { parseAllowed } from '../../src/client/allowed.ts';
import { checkPeer, type Trust } from '../../src/client/peer.ts';
import { tampered } from '../audit/state-copies.ts';
import { CorporateCa, openssl } from '../support/corporate-ca.ts';
import { newFolder, type Ran } from '../support/running.ts';
import { jsonOf, twoMachines, type TwoMachines } from '../support/two-machines.ts';

interface Taken {
  issuer: string;
  warnings: string[];
  path: string;
  served: boolean;
}
interface Status {
  crossCertificate: { issuer: string; notAfter: string } | null;
}

let machines: TwoMachines;
let corporate: CorporateCa;
/** What the ceremony made of the root's key for the corporate CA. */
let csr: string;
let rootKeyId: string;
let result: string;

beforeAll(async () => {
  machines = await twoMachines();
  const { carried } = await machines.request('--name-constraints');
  result = await machines.root.hold({ request: { file: carried }, rootCsr: true });
  (await machines.takeIn(result, '--yes')).json();
  csr = readFileSync(join(result, 'root.csr'), 'utf8');
  ({ keyId: rootKeyId } = jsonOf(result, 'transcript.json').root as { keyId: string });
  corporate = new CorporateCa(newFolder());
}, 60_000);

afterEach(async () => {
  await machines.authority.server.end();
});

function chainIn(pem: string): Promise<Ran> {
  const file = machines.authority.path('chain.pem');
  writeFileSync(file, pem);
  return machines.authority.vouch('ceremony', '--chain-in', file, '--yes');
}

function fileOf(name: string, content: string): string {
  const file = machines.authority.path(name);
  writeFileSync(file, content);
  return file;
}

/** What an agent of ours goes by: the delivered bundle and issuer. */
function deliveredTrust(bundlePem: string, chainPem: string): Trust {
  const [, ...issuers] = decodePem(chainPem, 'CERTIFICATE').map(parseCertificate);
  return {
    issuers: new Map(issuers.map((issuer) => [issuer.subjectKeyId ?? '', issuer])),
    roots: decodePem(bundlePem, 'CERTIFICATE').map(parseCertificate),
    trustDomain: parseTrustDomain('test.example'),
    crls: new Map(),
    staleCrl: 'allow',
  };
}

it('the CSR is announced before the root signs it, and stands in transcript and log', async () => {
  const announced = readFileSync(join(result, 'write-ahead.jsonl'), 'utf8');
  const { signed } = jsonOf(result, 'transcript.json') as { signed: { kind: string; tbsSha256: string }[] };
  const [item] = signed.filter(({ kind }) => kind === 'root-csr');
  expect(announced).toContain(item?.tbsSha256);
  const text = openssl('req', '-verify', '-noout', '-text', '-in', join(result, 'root.csr'));
  expect(text).toMatch(/CA:TRUE\n/);
  expect(text).toContain('URI:spiffe://test.example');
  expect(text.replaceAll(':', '').toLowerCase()).toContain(rootKeyId);
  await machines.authority.start();
  const { records } = (await machines.authority.vouch('audit')).json<{ records: object[] }>();
  expect(records).toContainEqual(
    expect.objectContaining({ event: 'to-be-signed', kind: 'root-csr', tbsSha256: item?.tbsSha256 }),
  );
  await machines.authority.server.end();
  expect(await machines.logProblems()).toEqual([]);
}, 30_000);

it('who trusts the corporate root only verifies a workload by the published chain; our own trust stays ours', async () => {
  const { authority } = machines;
  const { ready } = await authority.start();
  const url = `${ready.publicationUrl}/ca/${rootKeyId}.chain.pem`;
  expect((await fetch(url)).status).toBe(404);
  expect((await authority.vouch('status')).json<Status>().crossCertificate).toBeNull();
  const before = await (await fetch(`${ready.publicationUrl}/bundle.pem`)).text();

  const taken = (await chainIn(corporate.chain(csr))).json<Taken>();
  expect(taken).toMatchObject({ issuer: 'O=Corporate, CN=Policy', warnings: [], served: true });
  expect(`${ready.publicationUrl}${taken.path}`).toBe(url);
  expect((await authority.vouch('status')).json<Status>().crossCertificate).toMatchObject({
    issuer: 'O=Corporate, CN=Policy',
  });
  const published = await (await fetch(url)).text();
  const workload = await authority.enroll('orders', '--dns', 'orders.test.example');
  const svid = workload.path('svid.pem');
  const chain = fileOf('published.pem', published);
  const strict = ['verify', '-x509_strict', '-no-CApath', '-no-CAstore', '-CAfile'];
  const above = ['-untrusted', svid, '-untrusted', chain];
  expect(openssl(...strict, corporate.root, ...above, '-show_chain', svid)).toMatch(/depth=4: O = Corporate/);
  expect(() => openssl(...strict, corporate.root, '-untrusted', svid, svid), 'without the chain').toThrow(
    /unable to get/,
  );

  const bundle = workload.path('bundle.pem');
  expect(openssl(...strict, bundle, '-untrusted', svid, svid)).toContain('OK');
  expect(await (await fetch(`${ready.publicationUrl}/bundle.pem`)).text()).toBe(before);
  const delivered = [workload.read('svid.pem'), workload.read('bundle.pem')].join('');
  for (const der of decodePem(published, 'CERTIFICATE'))
    expect(delivered).not.toContain(encodePem('CERTIFICATE', der));
  await authority.server.end();
  expect(await machines.logProblems()).toEqual([]);
}, 30_000);

it('a certificate of the corporate CA for one of our names is nobody to those who go by our bundle', async () => {
  const { authority } = machines;
  const { ready } = await authority.start();
  const workload = await authority.enroll('billing');
  const [bundle, svid] = [workload.read('bundle.pem'), workload.read('svid.pem')];
  const spiffeId = authority.id('orders');
  const forged = corporate.leaf(spiffeId);
  const published = await (await fetch(`${ready.publicationUrl}/ca/${rootKeyId}.chain.pem`)).text();
  const [leaf = Buffer.alloc(0), policy = Buffer.alloc(0)] = [
    forged,
    readFileSync(corporate.policy, 'utf8'),
  ].flatMap((pem) => decodePem(pem, 'CERTIFICATE'));
  const nowMs = Date.now();
  const denied = expect.objectContaining({ code: 'denied-certificate' }) as Error;
  const trust = deliveredTrust(bundle, svid);
  const allowed = parseAllowed([spiffeId]);
  expect(() => checkPeer(leaf, trust, allowed, nowMs)).toThrow(denied);
  const above = decodePem(published, 'CERTIFICATE');
  const roots = decodePem(bundle, 'CERTIFICATE');
  for (const chain of [[leaf], [leaf, policy], [leaf, policy, ...above.slice(2)], [leaf, ...above]])
    expect(() => validatePath({ chain, roots, nowMs })).toThrow(denied);
  const files = ['-untrusted', fileOf('chain.pem', published), fileOf('forged.pem', forged)];
  const verify = ['verify', '-no-CApath', '-no-CAstore', '-CAfile'];
  expect(() => openssl(...verify, workload.path('bundle.pem'), ...files)).toThrow(
    /unable to get|self-signed/,
  );
  // What the bundle keeps out: it is good under the corporate root, as all is that this CA permits.
  expect(openssl(...verify, corporate.root, ...files)).toContain('OK');
  const corporateRoot = decodePem(readFileSync(corporate.root, 'utf8'), 'CERTIFICATE');
  const trustDomain = parseTrustDomain('test.example');
  expect(validatePath({ chain: [leaf, policy], roots: corporateRoot, nowMs, trustDomain })).toHaveLength(3);
  await authority.server.end();
}, 30_000);

it('a chain that does not hold changes nothing, with the server running or not', async () => {
  const { authority } = machines;
  const stranger = new CorporateCa(newFolder(), 'critical,permitted;URI:corp.example');
  const hostile = stranger.chain(csr);
  const stopped = await chainIn(hostile);
  expect(stopped.problem).toMatchObject({ code: 'denied-certificate' });
  const { ready } = await authority.start();
  const url = `${ready.publicationUrl}/ca/${rootKeyId}.chain.pem`;
  const before = await (await fetch(url)).text();
  const running = await chainIn(hostile);
  expect(running.problem).toMatchObject({ code: 'denied-certificate' });
  expect(running.problem.detail).toContain('outside the name constraints');
  expect(await (await fetch(url)).text()).toBe(before);
  await authority.server.end();
}, 30_000);

it('a newer chain, taken in while no server runs, replaces the last one; what is changed of either is found', async () => {
  const { authority } = machines;
  const direct = new CorporateCa(newFolder());
  const taken = (await chainIn(direct.chain(csr, { by: 'corporate', days: 30 }))).json<Taken>();
  expect(taken).toMatchObject({ issuer: 'O=Corporate, CN=Corporate root', served: false });
  expect(taken.warnings).toEqual([expect.stringContaining('before our issuer')]);
  expect(await machines.logProblems()).toEqual([]);
  const { ready } = await authority.start();
  expect((await authority.vouch('status')).json<Status>().crossCertificate).toMatchObject({
    issuer: 'O=Corporate, CN=Corporate root',
  });
  const published = await fetch(`${ready.publicationUrl}/ca/${rootKeyId}.chain.pem`);
  expect(decodePem(await published.text(), 'CERTIFICATE')).toHaveLength(2);
  await authority.server.end();
  expect(await machines.logProblems()).toEqual([]);

  const problems = (sql: string): string => {
    const store = openSqliteStore(join(tampered(authority.state, sql), 'vouch.db'), { readonly: true });
    try {
      return verifyState(store, undefined, () => undefined).problems.join('\n');
    } finally {
      void store.close();
    }
  };
  expect(problems("UPDATE cross_certificates SET chain_pem = chain_pem || '#'")).toMatch(/chainSha256/);
  expect(problems('DELETE FROM cross_certificates')).toMatch(/the store does not have/);
  expect(problems("INSERT INTO cross_certificates VALUES (1, 'x')")).toMatch(/leaf 1 is not in the log/);
}, 30_000);

it('a renewal may ask again, and the log says so', async () => {
  const { authority, root } = machines;
  const { ready } = await authority.start();
  const { bundle, crl } = await machines.served(ready.publicationUrl);
  await authority.server.end();
  const key = { key: { use: { label: 'vouch-root' } } };
  const renewal = await root.hold({ renew: { bundle }, crl: { last: crl }, root: key, rootCsr: true });
  expect(openssl('req', '-verify', '-noout', '-in', join(renewal, 'root.csr'))).toBeDefined();
  (await machines.importRenewal(renewal)).json();
  expect(await machines.logProblems()).toEqual([]);
}, 30_000);

it('a root that init made on one machine asks by a renewal, and is certified', async () => {
  const one = await twoMachines();
  cpSync(join(one.root.folder, 'root.json'), join(one.authority.folder, 'root.json'));
  (await one.authority.init()).json();
  const { ready } = await one.authority.start();
  const { bundle, crl } = await one.served(ready.publicationUrl);
  const key = { key: { use: { label: 'vouch-root' } } };
  const renewal = await one.root.hold({ renew: { bundle }, crl: { last: crl }, root: key, rootCsr: true });
  (await one.importRenewal(renewal)).json();
  const asked = readFileSync(join(renewal, 'root.csr'), 'utf8');
  const file = one.authority.path('chain.pem');
  writeFileSync(file, corporate.chain(asked));
  const taken = await one.authority.vouch('ceremony', '--chain-in', file, '--yes');
  expect(taken.json<Taken>()).toMatchObject({ served: true, warnings: [] });
  const foreign = await chainIn(corporate.chain(asked));
  expect(foreign.problem.detail, 'of that root only').toContain('another key than our root');
  await one.authority.server.end();
  expect(await one.logProblems()).toEqual([]);
}, 60_000);
