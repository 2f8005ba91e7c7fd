import { chmodSync, copyFileSync, statSync } from 'node:fs';
import http from 'node:http';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, vouchEntry } from '../support/daemon.ts';
import { type Json, newFolder, start } from '../support/running.ts';

const isRoot = process.getuid?.() === 0;
const otherUid = 65_534;
let authority: Authority;
let socketPath: string;

beforeAll(async () => {
  authority = await bootAuthority();
  socketPath = authority.server.ready.adminSocket;
});

interface Answer {
  status: number;
  json: Json;
}

function ask(
  method: string,
  path: string,
  body?: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const type =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) };
    const request = http.request(
      { socketPath, method, path, headers: { ...type, ...headers }, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            json: JSON.parse(Buffer.concat(chunks).toString() || '{}') as Json,
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

/** A Node script that is another user from `drop()` on; without root there is no other to be. */
async function asOther(script: string): Promise<string> {
  const become = `process.setgroups([]); process.setgid(${otherUid}); process.setuid(${otherUid});`;
  const ran = await start([
    process.execPath,
    '-e',
    `const drop = () => { ${isRoot ? become : ''} }; ${script}`,
  ]).ended();
  return ran.stdout.trim();
}

const connect = (path: string) =>
  `drop(); require('node:net').connect(${JSON.stringify(path)}).on('connect', () => { console.log('connected'); process.exit(); }).on('error', (e) => console.log(e.code));`;

it('only its owner may open it: mode 0600 in a directory of mode 0700', () => {
  const { mode, uid } = statSync(socketPath);
  expect(mode & 0o777).toBe(0o600);
  expect(uid).toBe(process.getuid?.());
  expect(statSync(authority.state).mode & 0o777).toBe(0o700);
});

describe('another user', () => {
  it('does not get to it', async () => {
    expect(await asOther(connect(socketPath))).toBe(isRoot ? 'EACCES' : 'connected');
  });

  it('does not get to it either where the directory was opened by mistake', async () => {
    for (const folder of [authority.folder, authority.state]) chmodSync(folder, 0o755);
    expect(await asOther(connect(socketPath))).toBe(isRoot ? 'EACCES' : 'connected');
    chmodSync(authority.state, 0o700);
  });

  it('is told by `vouch` what to do', async () => {
    const config = join(newFolder(), 'vouch.yaml');
    copyFileSync(authority.config, config);
    for (const path of [authority.folder, dirname(config)]) chmodSync(path, 0o755);
    chmodSync(config, 0o644);
    const bundle = JSON.stringify(join(dirname(vouchEntry), 'vouch-full.js'));
    const argv = JSON.stringify(['status', '--config', config, '--json']);
    // Loaded first: the other user may not read this folder.
    const said = await asOther(`
      import(${bundle}).then(async ({ runOperatorVerb }) => {
        drop();
        process.stderr.write = (text) => process.stdout.write(text);
        console.log(await runOperatorVerb(${argv}));
      });`);
    if (isRoot) {
      const [problem = '', code] = said.split('\n');
      expect(JSON.parse(problem)).toMatchObject({
        code: 'denied-operator',
        detail: `you may not open ${socketPath}; run as the server's user or as root`,
      });
      expect(code).toBe('1');
    } else expect(said).toContain('"state":"ready"');
  });
});

it('each deed is in the audit with the uid of who did it, whatever the request claims to be', async () => {
  const created = await ask('POST', '/v1/tokens', JSON.stringify({ spiffeId: authority.id('orders') }), {
    'x-operator': 'uid:4711',
    authorization: 'Bearer root',
  });
  expect(created.status).toBe(200);
  const { path, tokenId } = await authority.join('billing');
  (await authority.vouch('enroll', '--join-file', path, '--out', authority.path('out'))).json();
  (await authority.vouch('token', 'revoke', tokenId)).json();
  (
    await authority.vouch('revoke', '--id', authority.id('billing'), '--reason', 'superseded', '--yes')
  ).json();
  (await authority.vouch('entry', 'resume', '--id', authority.id('billing'))).json();
  (await authority.vouch('crl', 'publish')).json();
  (await authority.vouch('backup', authority.path('backup'))).json();
  (await authority.vouch('doctor', '--accept-clock')).json();

  const { records } = (await authority.vouch('audit')).json<{ records: Json[] }>();
  const deeds = records.filter(({ type }) => type !== 'authority');
  expect(deeds.length).toBeGreaterThanOrEqual(8);
  expect(new Set(deeds.map(({ operator }) => operator))).toEqual(new Set([`uid:${process.getuid?.()}`]));
  const events = deeds.map(({ type, event, verb }) => `${String(type)} ${String(event ?? verb)}`);
  for (const deed of [
    'token created',
    'token revoked',
    'entry suspended',
    'entry resumed',
    'revocation revoked',
    'operator crl-publish',
    'operator backup',
    'operator clock-accepted',
  ])
    expect(events).toContain(deed);
  expect(JSON.stringify(records)).not.toContain('uid:4711');
  expect(JSON.stringify(records)).not.toContain('vjt_');
});

it('a revocation names its operator', async () => {
  const orders = await authority.enroll('audited');
  (await authority.vouch('revoke', '--serial', orders.serial, '--reason', 'keyCompromise')).json();
  expect((await authority.vouch('explain', orders.serial)).json()).toMatchObject({
    revocation: { operator: `uid:${process.getuid?.()}` },
  });
  const { records } = (await authority.vouch('audit')).json<{ records: Json[] }>();
  expect(records.filter(({ serial }) => serial === orders.serial)).toEqual([
    {
      logIndex: expect.any(Number) as unknown,
      time: expect.any(String) as unknown,
      type: 'revocation',
      event: 'revoked',
      operator: `uid:${process.getuid?.()}`,
      issuerKeyId: orders.delivery.issuerKeyId,
      serial: orders.serial,
      reason: 'keyCompromise',
      revokedAt: expect.any(String) as unknown,
    },
  ]);
});

it.each([
  ['garbage', 'POST', '/v1/tokens', '}{', 400],
  ['an unknown key', 'POST', '/v1/tokens', '{"spiffeId":"spiffe://test.example/a","operator":"root"}', 400],
  [
    'two targets',
    'POST',
    '/v1/revocations',
    '{"target":{"serial":"01","id":"spiffe://test.example/a"},"reason":"superseded"}',
    400,
  ],
  [
    'a reason that there is not',
    'POST',
    '/v1/revocations',
    '{"target":{"id":"spiffe://test.example/a"},"reason":"because"}',
    400,
  ],
  ['a reserved name', 'POST', '/v1/tokens', '{"spiffeId":"spiffe://test.example/vouch/server"}', 400],
  ['a name of another trust domain', 'POST', '/v1/tokens', '{"spiffeId":"spiffe://other.example/a"}', 400],
  ['a name that climbs', 'POST', '/v1/tokens', '{"spiffeId":"spiffe://test.example/a/../b"}', 400],
  ['a backup to no absolute path', 'POST', '/v1/backup', '{"file":"x"}', 400],
  ['a serial that is none', 'GET', '/v1/certificates/zz', undefined, 400],
  ['a serial that nobody has', 'GET', '/v1/certificates/01ff', undefined, 404],
  ['a path that there is not', 'GET', '/v1/nowhere', undefined, 404],
  ['a page of nonsense', 'GET', '/v1/certificates?limit=many', undefined, 400],
  ['a megabyte', 'POST', '/v1/tokens', `{"spiffeId":"${'a'.repeat(1 << 20)}"}`, 413],
])('%s is refused with a problem', async (_name, method, path, body, status) => {
  const answer = await ask(method, path, body);
  expect(answer.status).toBe(status);
  expect(answer.json).toMatchObject({
    status,
    code: expect.stringMatching(/^request-|^denied-|^policy-/) as unknown,
    detail: expect.any(String) as unknown,
  });
});

it('opens and closes many connections without losing descriptors', async () => {
  const descriptors = async () =>
    (await start(['sh', '-c', `ls /proc/${authority.server.pid}/fd | wc -l`]).ended()).stdout.trim();
  for (let warm = 0; warm < 5; warm += 1) await ask('GET', '/v1/status');
  const before = Number(await descriptors());
  for (let request = 0; request < 100; request += 1) await ask('GET', '/v1/status');
  expect(Number(await descriptors())).toBeLessThanOrEqual(before + 2);
});
