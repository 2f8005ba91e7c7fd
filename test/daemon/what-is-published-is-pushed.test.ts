import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseCrl } from '../../src/x509/crl.ts';
import { BucketServer, keys } from '../publish/bucket-server.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';

let authority: Authority;
let directory: string;
let secretKeyFile: string;
const bucket = new BucketServer();

beforeAll(async () => {
  const endpoint = await bucket.start();
  authority = await bootAuthority({
    configure: (config) => {
      directory = join(config.state, '../served');
      mkdirSync(directory);
      const [accessKeyFile = '', secret = ''] = ['access', 'secret'].map((name) => join(config.state, name));
      writeFileSync(accessKeyFile, keys.access, { mode: 0o600 });
      writeFileSync(secret, keys.secret, { mode: 0o600 });
      secretKeyFile = secret;
      const s3 = { endpoint, bucket: 'crls', accessKeyFile, secretKeyFile, pathStyle: true };
      config.publish = [{ directory }, { s3 }];
    },
  });
});
afterAll(() => bucket.stop());

interface Pushed {
  problems: string[];
  publish: {
    target: string;
    waiting: number;
    failures: number;
    lastPut: string | null;
    problem: string | null;
  }[];
}

const status = async (): Promise<Pushed> => (await authority.status()) as unknown as Pushed;
const settled = async () =>
  await expect
    .poll(async () => (await status()).publish.map(({ waiting }) => waiting), { timeout: 20_000 })
    .toEqual([0, 0]);

const here = async (path: string): Promise<Buffer> =>
  Buffer.from(await (await fetch(`${authority.server.ready.publicationUrl}${path}`)).arrayBuffer());
const there = (path: string): Buffer => readFileSync(join(directory, path));
const inBucket = (path: string): Buffer | undefined => bucket.objects.get(`/crls${path}`)?.body;

async function paths(): Promise<string[]> {
  const { crls, issuers } = await authority.status();
  return [
    ...crls.map(({ url }) => new URL(url).pathname),
    ...issuers.map(({ keyId }) => `/ca/${keyId}.cer`),
    '/bundle.json',
    '/bundle.pem',
  ];
}

test('all that is served at the start is there, under the same paths, and the log is not', async () => {
  await settled();
  const all = await paths();
  expect(all.length).toBeGreaterThan(19);
  for (const path of all) {
    const served = await here(path);
    expect(there(path).equals(served), path).toBe(true);
    expect(inBucket(path)?.equals(served), path).toBe(true);
  }
  expect([...bucket.objects.keys()].filter((key) => key.includes('/log/'))).toEqual([]);
});

test('a revocation is there, and a target that is away delays neither it nor the other', async () => {
  const orders = await authority.enroll('orders');
  bucket.instead = () => undefined;
  const crlPath = `/crl/${orders.delivery.issuerKeyId}.crl`;
  const revoked = (
    await authority.vouch('revoke', '--serial', orders.serial, '--reason', 'superseded')
  ).json<{
    published: boolean;
  }>();
  expect(revoked.published).toBe(true);
  const lists = (der: Buffer): boolean => parseCrl(der).has(orders.serial as never);
  expect(lists(await here(crlPath))).toBe(true);
  await expect.poll(() => lists(there(crlPath)), { timeout: 5000 }).toBe(true);
  expect(lists(inBucket(crlPath) ?? Buffer.alloc(0))).toBe(false);
  bucket.instead = (response) => response.destroy();
  await expect.poll(async () => (await status()).problems, { timeout: 20_000 }).toHaveLength(1);
  await told(/^not pushed to s3 crls at http:\S+: E[A-Z]+$/);
  bucket.instead = undefined;
  await settled();
  expect(lists(inBucket(crlPath) ?? Buffer.alloc(0))).toBe(true);
  expect((await status()).problems).toEqual([]);
});

/** Who watches is told of it, and traffic still comes. */
async function told(problem: RegExp): Promise<void> {
  const { problems, publish } = await status();
  expect(problems[0]).toMatch(problem);
  expect(publish[0]).toMatchObject({ target: `directory ${directory}`, waiting: 0, problem: null });
  expect(publish[1]?.waiting).toBeGreaterThan(0);
  const { operationsUrl } = authority.server.ready;
  const ready = await fetch(`${operationsUrl}/readyz`);
  expect(ready.status).toBe(200);
  const { checks } = (await ready.json()) as {
    checks: { name: string; problem?: string; degraded?: string }[];
  };
  expect(checks.find(({ name }) => name === 'publish')?.degraded).toMatch(problem);
  const metrics = await (await fetch(`${operationsUrl}/metrics`)).text();
  expect(metrics).toMatch(/^vouch_publish_waiting\{target="s3 [^"]+"\} [1-9]/m);
  expect(metrics).toMatch(/^vouch_publish_failures\{target="directory [^"]+"\} 0$/m);
  expect((await authority.vouch('doctor')).stdout).toContain('not pushed to s3');
}

test('a key that others can read is not used, and nothing that was said holds a key', async () => {
  chmodSync(secretKeyFile, 0o644);
  (await authority.vouch('crl', 'publish')).json();
  await expect
    .poll(async () => (await status()).problems.join(), { timeout: 20_000 })
    .toContain('others can read the key file');
  expect((await authority.vouch('doctor')).stdout).toContain(`${secretKeyFile} can be read by others`);
  chmodSync(secretKeyFile, 0o600);
  await settled();
  const said = `${authority.server.stdout}${JSON.stringify(authority.server.log())}`;
  expect(said).toContain('a target did not take it');
  for (const key of Object.values(keys)) expect(said).not.toContain(key);
});
