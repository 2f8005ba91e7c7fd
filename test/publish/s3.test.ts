import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import S3rver from 's3rver';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openS3Target, type S3Config } from '../../src/publish/s3.ts';
import { longestTurnMs } from '../support/turns.ts';
import { BucketServer, keys, refuse } from './bucket-server.ts';
import { crl, signal } from './support.ts';

let folder: string;
let server: BucketServer;
let config: S3Config;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vouch-s3-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function keyFile(name: string, text: string): string {
  const file = join(folder, name);
  rmSync(file, { force: true });
  writeFileSync(file, text, { mode: 0o600 });
  return file;
}

beforeEach(async () => {
  server = new BucketServer();
  config = {
    endpoint: await server.start(),
    bucket: 'crls',
    prefix: 'pki',
    region: 'eu-central-1',
    accessKeyFile: keyFile('access', `${keys.access}\n`),
    secretKeyFile: keyFile('secret', keys.secret),
    pathStyle: true,
  };
});
afterEach(() => server.stop());

const path = '/crl/abc/3.crl';
const key = '/crls/pki/crl/abc/3.crl';
const put = (version: bigint) => openS3Target(config).put(path, crl(version), signal);

test('a document lies under the path of its URL, signed for, with its type and no long life', async () => {
  await put(5n);
  expect(server.text(key)).toBe('CRL 5');
  expect(server.objects.get(key)?.headers).toMatchObject({
    'content-type': 'application/pkix-crl',
    'cache-control': 'public, max-age=1',
    'x-amz-meta-vouch-version': '5',
    'if-none-match': '*',
  });
  await put(6n);
  expect(server.text(key)).toBe('CRL 6');
});

test('50 MB are sent piece by piece, and nothing stands still for 20 ms meanwhile', async () => {
  const document = crl(1n, 1600);
  const target = openS3Target(config);
  await target.put('/whole', document, signal);
  expect(server.objects.get('/crls/pki/whole')?.body.equals(Buffer.concat(document.chunks))).toBe(true);
  server.isSink = true;
  const longest: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    longest.push(await longestTurnMs(() => target.put('/sunk', document, signal)));
  }
  expect(server.sunkBytes).toBe(3 * document.chunks.reduce((sum, { length }) => sum + length, 0));
  expect(Math.min(...longest)).toBeLessThan(20);
});

test('a lower version never comes in the place of a higher one, and the same is not sent again', async () => {
  await put(10n);
  server.seen.length = 0;
  await put(9n);
  await put(10n);
  expect(server.text(key)).toBe('CRL 10');
  expect(server.seen).toEqual([`HEAD ${key}`, `HEAD ${key}`]);
});

describe('another writer', () => {
  /** Once, between the look and the put. */
  const meanwhile = (work: () => void): void => {
    server.before = (method) => {
      if (method !== 'PUT') return;
      server.before = () => undefined;
      work();
    };
  };

  test('who is first and higher wins, where nothing was there', async () => {
    meanwhile(() => server.set(key, 'CRL 8', 8n));
    await put(7n);
    expect(server.text(key)).toBe('CRL 8');
  });

  test('who is first and higher wins, where something was there', async () => {
    await put(5n);
    meanwhile(() => server.set(key, 'CRL 8', 8n));
    await put(7n);
    expect(server.text(key)).toBe('CRL 8');
  });

  test('who is first and lower loses', async () => {
    await put(5n);
    meanwhile(() => server.set(key, 'CRL 6', 6n));
    await put(7n);
    expect(server.text(key)).toBe('CRL 7');
  });

  test('who deletes it is no reason to give up', async () => {
    await put(5n);
    meanwhile(() => server.objects.delete(key));
    await put(7n);
    expect(server.text(key)).toBe('CRL 7');
  });

  test('who is always faster is not fought for ever', async () => {
    let version = 0n;
    server.before = (method) => {
      version += 1n;
      if (method === 'PUT') server.set(key, `CRL ${version}`, version);
    };
    await expect(put(1000n)).rejects.toMatchObject({ code: 'unavailable-server' });
  });

  test('two of us, forty versions in any order: the highest is there', async () => {
    const versions = Array.from({ length: 40 }, (_, at) => BigInt((at * 17) % 40));
    await Promise.allSettled(versions.map(put));
    await put(39n);
    expect(server.text(key)).toBe('CRL 39');
  });
});

test('what Vouch did not put there stays', async () => {
  server.set(key, 'CRL of somebody');
  await expect(put(5n)).rejects.toMatchObject({
    code: 'config-state',
    detail: `${key} was not put there by Vouch: delete it`,
  });
  expect(server.text(key)).toBe('CRL of somebody');
});

test.each([
  [403, 'InvalidAccessKeyId', 'config-invalid'],
  [404, 'NoSuchBucket', 'config-invalid'],
  [301, 'PermanentRedirect', 'config-invalid'],
  [503, 'SlowDown', 'unavailable-server'],
  [500, 'InternalError', 'unavailable-server'],
  [400, 'RequestTimeout', 'unavailable-server'],
])('%i %s is told by its name and by nothing else of the answer', async (status, code, kind) => {
  server.instead = (response) => refuse(response, status, code);
  const document = { chunks: [Buffer.from('PEM')], contentType: 'x' };
  await expect(openS3Target(config).put('/bundle.pem', document, signal)).rejects.toMatchObject({
    code: kind,
    detail: `PUT was answered with ${status} ${code}`,
  });
});

test('nobody there, a connection that ends, an answer that is none: it is tried again later', async () => {
  server.instead = (response) => response.destroy();
  await expect(put(1n)).rejects.toMatchObject({ code: 'unavailable-server', detail: 'ECONNRESET' });
  server.stop();
  await expect(put(1n)).rejects.toMatchObject({ code: 'unavailable-server', detail: 'ECONNREFUSED' });
});

test('stopping ends a request that hangs', async () => {
  server.instead = () => undefined;
  const stopping = new AbortController();
  const putting = openS3Target(config).put(path, crl(1n), stopping.signal);
  await expect.poll(() => server.seen.length).toBe(1);
  stopping.abort();
  await expect(putting).rejects.toMatchObject({ code: 'unavailable-server' });
});

describe('a key file', () => {
  test('that others can read is refused, before anything is sent', async () => {
    chmodSync(config.secretKeyFile, 0o640);
    await expect(put(1n)).rejects.toMatchObject({ code: 'config-secret-readable' });
    expect(server.seen).toEqual([]);
  });

  test.each(['', 'two\nlines', 'a b', 'x'.repeat(2000)])(
    'that holds no key is refused, unsaid: %#',
    async (text) => {
      keyFile('secret', text);
      const detail = `the key file ${config.secretKeyFile} does not hold one line with a key`;
      await expect(put(1n)).rejects.toMatchObject({ code: 'config-invalid', detail });
    },
  );

  test('that is replaced is used at once', async () => {
    keyFile('secret', 'old');
    await expect(put(1n)).rejects.toMatchObject({ code: 'config-invalid' });
    keyFile('secret', keys.secret);
    await put(1n);
    expect(server.text(key)).toBe('CRL 1');
  });
});

/** It knows no conditions and checks no SigV4, which our own does; but it is another's notion of paths and metadata. */
describe('s3rver', () => {
  let other: S3rver;
  beforeAll(async () => {
    const directory = join(folder, 'buckets');
    const buckets = [{ name: 'crls', configs: [] }];
    other = new S3rver({ port: 0, address: '127.0.0.1', silent: true, directory, configureBuckets: buckets });
    const { port } = await other.run();
    otherEndpoint = `http://127.0.0.1:${port}`;
  });
  afterAll(() => other.close());
  let otherEndpoint: string;

  test.each(['', 'pki/v1'])('takes what we put, under the prefix %j, and gives it back', async (prefix) => {
    config = {
      ...{ ...config, endpoint: otherEndpoint, prefix },
      accessKeyFile: keyFile('other-access', 'S3RVER'),
      secretKeyFile: keyFile('other-secret', 'S3RVER'),
    };
    await put(4n);
    await put(6n);
    await put(5n);
    const url = `${otherEndpoint}/crls/${prefix && `${prefix}/`}crl/abc/3.crl`;
    const [response] = (await once(http.get(url), 'response')) as [http.IncomingMessage];
    const read = Buffer.concat(await response.toArray()).toString();
    expect(read).toBe('CRL 6\n');
  });
});
