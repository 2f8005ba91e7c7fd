import { createPrivateKey, X509Certificate } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseJoinFile } from '../../src/wire/join-file.ts';
import { run, startAuthority, temporaryFolder, workload, writeJoinFile } from './support/harness.ts';
import { problem } from './support/fake-server.ts';

const mode = (path: string): number => statSync(path).mode & 0o777;

test('a join file becomes the delivered files, and nothing else', async () => {
  const { authority, server } = await startAuthority();
  server.peers = { version: 7, allowedClients: ['spiffe://example.org/billing'] };
  const one = workload(server);
  const { code, stdout, stderr } = await one.enroll();
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const delivery = JSON.parse(stdout) as Record<string, unknown>;
  expect(delivery).toEqual({
    dir: one.dir,
    spiffeId: 'spiffe://example.org/orders',
    serial: expect.stringMatching(/^11[0-9a-f]{32}$/),
    notBefore: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    notAfter: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    issuerKeyId: authority.issuer.keyId,
    logIndex: 0,
  });

  expect(readdirSync(one.dir).sort()).toEqual(['000001', 'agent.json', 'current']);
  expect(readlinkSync(join(one.dir, 'current'))).toBe('000001');
  const files = [
    'bundle.pem',
    'crl.pem',
    'peers.json',
    'proof.json',
    'svid-combined.pem',
    'svid.key',
    'svid.pem',
  ];
  expect(readdirSync(join(one.dir, 'current')).sort()).toEqual(files);
  for (const secret of ['svid.key', 'svid-combined.pem'])
    expect(mode(join(one.dir, 'current', secret))).toBe(0o600);
  expect(mode(join(one.dir, 'agent.json'))).toBe(0o600);
  expect(mode(join(one.dir, 'current', 'svid.pem'))).toBe(0o644);

  const certificates = one.read('svid.pem').match(/-----BEGIN CERTIFICATE[^]+?END CERTIFICATE-----/g) ?? [];
  expect(certificates).toHaveLength(2);
  const leaf = new X509Certificate(one.read('svid.pem'));
  expect(leaf.checkPrivateKey(createPrivateKey(one.read('svid.key')))).toBe(true);
  expect(leaf.serialNumber.toLowerCase()).toBe(delivery.serial);
  expect(new X509Certificate(one.read('bundle.pem')).raw.equals(authority.root.der)).toBe(true);
  expect(one.read('svid-combined.pem')).toBe(one.read('svid.key') + one.read('svid.pem'));
  expect(one.read('crl.pem').match(/BEGIN X509 CRL/g)).toHaveLength(2);
  expect(JSON.parse(one.read('peers.json'))).toEqual(server.peers);
  expect(Object.keys(JSON.parse(one.read('proof.json')) as object).sort()).toEqual(
    ['checkpoint', 'context', 'index', 'path', 'time', 'treeSize'].sort(),
  );
});

test('the token is written to the second connection only, and nowhere on this side', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  const { token } = parseJoinFile(readFileSync(one.joinFile, 'utf8'));
  const result = await one.enroll();
  expect(result.code).toBe(0);
  expect(server.connections).toBe(2);
  expect(server.handshakeErrors).toBe(0);
  expect(server.bodies).toHaveLength(1);
  expect(server.bodies[0]).toContain(token);
  const everything = readdirSync(one.dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
    .join('');
  for (const text of [everything, result.stdout, result.stderr])
    expect(text).not.toContain(token.slice(4, 20));
});

test('a renewal takes a fresh key, keeps the generation before it and removes older ones', async () => {
  const { authority, server } = await startAuthority();
  const one = workload(server);
  await one.enroll();
  const firstKey = one.read('svid.key');
  authority.grow(5);
  const renewed = await one.renew();
  expect(renewed).toMatchObject({ code: 0, stderr: '' });
  expect(one.read('svid.key')).not.toBe(firstKey);
  expect(readFileSync(join(one.dir, '000001', 'svid.key'), 'utf8')).toBe(firstKey);
  expect((await one.renew()).code).toBe(0);
  expect(readdirSync(one.dir).sort()).toEqual(['000002', '000003', 'agent.json', 'current']);
  expect(server.requests.filter((path) => path === '/v1/renew')).toHaveLength(2);
});

test('an answer that is lost on the way is asked for again with the same key, in this run and in the next', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  server.bend = ({ answer }) => answer;
  server.intercept = (_kind, count) =>
    count === 1 ? { status: 200, body: '{"chain":["AAAA"', half: true } : undefined;
  const first = await one.enroll();
  expect(first.code).toBe(0);
  expect(first.stderr).toContain('trying again');
  expect(server.bodies).toHaveLength(2);
  const csrs = server.bodies.map((body) => (JSON.parse(body) as { csr: string }).csr);
  expect(csrs[0]).toBe(csrs[1]);

  const other = workload(server);
  server.crlInstead = () => ({ status: 404 });
  expect(await other.enroll('--timeout', '1')).toMatchObject({ code: 75 });
  expect(existsSync(join(other.dir, 'current'))).toBe(false);
  expect(mode(join(other.dir, 'pending'))).toBe(0o700);
  expect(
    readdirSync(join(other.dir, 'pending')).map((file) => mode(join(other.dir, 'pending', file))),
  ).toEqual([0o600, 0o600, 0o600]);
  server.crlInstead = undefined;
  const issuedBefore = server.issued.size;
  expect((await other.enroll()).code).toBe(0);
  expect(server.issued.size).toBe(issuedBefore);
  expect(existsSync(join(other.dir, 'pending'))).toBe(false);
});

test('a token that somebody else used is refused, not retried, and the key is kept', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  const { token } = parseJoinFile(readFileSync(one.joinFile, 'utf8'));
  server.tokens.set(token, 'f'.repeat(64));
  const { code, stderr } = await one.enroll();
  expect(code).toBe(1);
  expect(JSON.parse(stderr)).toMatchObject({
    type: 'urn:vouch:problem:policy-key-conflict',
    code: 'policy-key-conflict',
  });
  expect(server.bodies).toHaveLength(1);
  expect(existsSync(join(one.dir, 'current'))).toBe(false);
});

test('a key that the server will never certify is dropped', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  server.intercept = (_kind, count) =>
    count === 1 ? problem(403, 'policy-key-blocked', 'the key is blocked') : undefined;
  expect((await one.enroll()).code).toBe(1);
  expect(existsSync(join(one.dir, 'pending'))).toBe(false);
  expect((await one.enroll()).code).toBe(0);
});

test.each([0o640, 0o604, 0o660, 0o644, 0o666])('a join file of mode %o is refused', async (bits) => {
  const { server } = await startAuthority();
  const one = workload(server);
  chmodSync(one.joinFile, bits);
  const { code, stderr } = await one.enroll();
  expect(code).toBe(78);
  expect(JSON.parse(stderr)).toMatchObject({ code: 'config-secret-readable' });
  expect(server.connections).toBe(0);
});

test.each([
  ['is not there', undefined],
  ['vouch1', 'hello'],
  ['base64url', 'vouch1.a b'],
  ['members', `vouch1.${Buffer.from('{"server":"https://a"}').toString('base64url')}`],
  ['8 KiB', `vouch1.${'A'.repeat(9000)}`],
])('a join file that %s is refused without a word of its content', async (why, content) => {
  const folder = temporaryFolder();
  const path = content === undefined ? join(folder, 'missing') : writeJoinFile(folder, content);
  const { code, stderr } = await run('enroll', '--join-file', path, '--out', join(folder, 'out'));
  expect(code).toBe(78);
  expect(stderr).toContain(why);
  if (content !== undefined) expect(stderr).not.toContain(content);
});

test.each([
  [['enroll'], '--join-file is missing'],
  [['enroll', '--join-file', 'a', '--out', 'b', '--frob'], '--frob'],
  [['enroll', '--join-file', 'a', '--out', 'b', 'extra'], 'extra'],
  [['enroll', '--join-file', 'a', '--out', 'b', '--crl', 'maybe'], '--crl takes'],
  [['enroll', '--join-file', 'a', '--out', 'b', '--timeout', 'soon'], '--timeout takes'],
  [['renew'], '--dir is missing'],
  [['exec', '--join-file', 'a'], 'command is missing'],
  [['exec', '--join-file', 'a', '--on-change', 'signal:NOPE', '--', 'true'], '--on-change takes'],
  [
    ['bundle', 'fetch', '--url', 'http://a', '--pin', `sha256:${'0'.repeat(64)}`, '--out', 'b'],
    '--url takes',
  ],
  [['bundle', 'fetch', '--url', 'https://a', '--pin', 'abc', '--out', 'b'], '--pin takes'],
  [['nothing'], 'usage'],
])('usage: %j is exit 2', async (argv, expected) => {
  const folder = temporaryFolder();
  const join600 = writeJoinFile(folder, 'x');
  const { code, stderr, stdout } = await run(...argv.map((one) => (one === 'a' ? join600 : one)));
  expect(stderr).toContain(expected);
  expect(code).toBe(2);
  expect(stdout).toBe('');
});

test.each(['enroll', 'renew', 'exec', 'bundle fetch'])('%s --help teaches', async (verb) => {
  const { code, stdout, stderr } = await run(...verb.split(' '), '--help');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain(`usage: vouch ${verb}`);
  expect(stdout.split('\n').length).toBeGreaterThan(10);
  expect(stdout.split('\n').every((line) => line.length <= 130 || line.startsWith('usage:'))).toBe(true);
});

test('renew where nothing was enrolled is exit 78, and so is a damaged agent.json', async () => {
  const folder = temporaryFolder();
  expect(await run('renew', '--dir', folder)).toMatchObject({
    code: 78,
    stderr: expect.stringContaining('agent.json'),
  });
  const { server } = await startAuthority();
  const one = workload(server);
  await one.enroll();
  const state = readFileSync(join(one.dir, 'agent.json'), 'utf8');
  writeFileSync(join(one.dir, 'agent.json'), state.replace('"version": 1', '"version": 2'));
  expect(await one.renew()).toMatchObject({ code: 78, stderr: expect.stringContaining('damaged') });
  writeFileSync(join(folder, 'agent.json'), '{"version":1}');
  expect(await run('renew', '--dir', folder)).toMatchObject({
    code: 78,
    stderr: expect.stringContaining('damaged'),
  });
});

test('a folder that cannot be written is known before the token is spent', async () => {
  const { server } = await startAuthority();
  const folder = temporaryFolder();
  const joinFile = writeJoinFile(folder, server.joinLine());
  writeFileSync(join(folder, 'file'), '');
  const { code, stderr } = await run('enroll', '--join-file', joinFile, '--out', join(folder, 'file', 'out'));
  expect(code).toBe(78);
  expect(stderr).toContain('what is no folder');
  expect(server.connections).toBe(0);
});

test('bundle fetch writes PEM or JSON after two connections', async () => {
  const { authority, server } = await startAuthority();
  const folder = temporaryFolder();
  const fetch = (url: string, out: string) =>
    run('bundle', 'fetch', '--url', url, '--pin', authority.pin, '--out', out, '--json', '--timeout', '2');
  const pem = await fetch(server.url, join(folder, 'bundle.pem'));
  expect(pem).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(pem.stdout)).toEqual({
    trustDomain: 'example.org',
    sequence: 1,
    roots: 1,
    out: join(folder, 'bundle.pem'),
  });
  expect(new X509Certificate(readFileSync(join(folder, 'bundle.pem'))).raw.equals(authority.root.der)).toBe(
    true,
  );
  expect((await fetch(`${server.url}/v1/bundle`, join(folder, 'b.json'))).code).toBe(0);
  expect(JSON.parse(readFileSync(join(folder, 'b.json'), 'utf8'))).toMatchObject({ spiffe_sequence: 1 });
  authority.statementNotAfterMs = Date.now() - 3_600_000;
  expect((await fetch(server.url, join(folder, 'c.pem'))).code).toBe(1);
  expect(existsSync(join(folder, 'c.pem'))).toBe(false);
});

test('what a crash left between its number and the swap goes with the delivery after the next', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  await one.enroll();
  mkdirSync(join(one.dir, '000009'));
  await one.renew();
  await one.renew();
  expect(readdirSync(one.dir).sort()).toEqual(['000010', '000011', 'agent.json', 'current']);
});
