import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDirectoryTarget } from '../../src/publish/directory.ts';
import { lockState } from '../../src/store/sqlite/lock.ts';
import { crl, signal } from './support.ts';
import { limitMs } from '../support/limits.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vouch-publish-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const open = () => openDirectoryTarget({ directory, lock: (file) => lockState(file, 0) });
const path = '/crl/abc/3.crl';
const text = (at = path): string => readFileSync(join(directory, at), 'utf8').split('\n', 1)[0] ?? '';

test('a document lies under the path of its URL, for a web server to read', async () => {
  const before = process.umask(0o077);
  try {
    await open().put(path, crl(5n), signal);
  } finally {
    process.umask(before);
  }
  expect(text()).toBe('CRL 5');
  expect(statSync(join(directory, path)).mode & 0o777).toBe(0o644);
  expect(statSync(join(directory, 'crl/abc')).mode & 0o777).toBe(0o755);
  expect(statSync(join(directory, '.vouch')).mode & 0o777).toBe(0o700);
  expect(readdirSync(join(directory, '.vouch')).toSorted()).toEqual(['crl,abc,3.crl.version', 'lock.db']);
});

test('a lower version never comes in the place of a higher one, after a restart either; the same may', async () => {
  await open().put(path, crl(10n), signal);
  await open().put(path, crl(9n), signal);
  expect(text()).toBe('CRL 10');
  rmSync(join(directory, path));
  await open().put(path, crl(9n), signal);
  expect(existsSync(join(directory, path))).toBe(false);
  await open().put(path, crl(10n), signal);
  expect(text()).toBe('CRL 10');
  await open().put(path, crl(2n ** 70n), signal);
  await open().put(path, crl(11n), signal);
  expect(text()).toBe(`CRL ${2n ** 70n}`);
});

test('many at once, in any order: the highest is there', async () => {
  const [one, other] = [open(), open()];
  const versions = Array.from({ length: 40 }, (_, at) => BigInt((at * 17) % 40));
  const puts = versions.map((version) => (version % 2n === 0n ? one : other).put(path, crl(version), signal));
  await Promise.allSettled(puts);
  await one.put(path, crl(39n), signal);
  expect(text()).toBe('CRL 39');
});

test('after a crash between version and file the older one is refused, and the same put again', async () => {
  await open().put(path, crl(5n), signal);
  writeFileSync(join(directory, '.vouch/crl,abc,3.crl.version'), '6\n');
  await open().put(path, crl(5n), signal);
  await open().put(path, crl(6n), signal);
  expect(text()).toBe('CRL 6');
});

test('while another process writes there it is tried later; killed, it is in nobody’s way', async () => {
  await open().put(path, crl(1n), signal);
  const script = `
    import Database from 'better-sqlite3';
    new Database(${JSON.stringify(join(directory, '.vouch/lock.db'))}).exec('BEGIN EXCLUSIVE');
    console.log('locked');
    setInterval(() => undefined, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const began = performance.now();
  await expect(open().put(path, crl(2n), signal)).rejects.toMatchObject({ code: 'unavailable-server' });
  expect(performance.now() - began).toBeLessThan(limitMs(200));
  expect(text()).toBe('CRL 1');
  child.kill('SIGKILL');
  await once(child, 'exit');
  await open().put(path, crl(2n), signal);
  expect(text()).toBe('CRL 2');
});

test('a reader sees the one or the other, never a part', async () => {
  const target = open();
  const [before, after] = [crl(1n, 64), crl(2n, 64)].map(({ chunks }) => Buffer.concat(chunks));
  await target.put(path, crl(1n, 64), signal);
  let isDone = false;
  const putting = target.put(path, crl(2n, 64), signal).finally(() => {
    isDone = true;
  });
  while (!isDone) {
    const read = readFileSync(join(directory, path));
    expect(read.equals(before ?? read) || read.equals(after ?? read)).toBe(true);
    await new Promise(setImmediate);
  }
  await putting;
  expect(readFileSync(join(directory, path)).equals(after ?? Buffer.alloc(0))).toBe(true);
});

test('what Vouch did not put there stays, and what was being written long ago goes', async () => {
  mkdirSync(join(directory, 'crl/abc'), { recursive: true });
  writeFileSync(join(directory, path), 'CRL of somebody');
  const refused = {
    code: 'config-state',
    detail: expect.stringContaining('was not put there by Vouch') as string,
  };
  await expect(open().put(path, crl(1n), signal)).rejects.toMatchObject(refused);
  expect(text()).toBe('CRL of somebody');
  const [old, young] = ['old.new', 'young.new'].map((name) => join(directory, '.vouch', name));
  writeFileSync(old ?? '', '');
  writeFileSync(young ?? '', '');
  utimesSync(old ?? '', 1, 1);
  await open().put('/bundle.pem', { chunks: [Buffer.from('PEM')], contentType: 'x' }, signal);
  expect(readFileSync(join(directory, 'bundle.pem'), 'utf8')).toBe('PEM');
  expect([existsSync(old ?? ''), existsSync(young ?? '')]).toEqual([false, true]);
});

test('a directory that is away is not made, and is taken when it is back', async () => {
  rmSync(directory, { recursive: true });
  const target = open();
  await expect(target.put(path, crl(1n), signal)).rejects.toMatchObject({
    code: 'unavailable-server',
    detail: 'ENOENT',
  });
  expect(existsSync(directory)).toBe(false);
  mkdirSync(directory);
  await target.put(path, crl(1n), signal);
  expect(text()).toBe('CRL 1');
});

test.each(['/../x', '/a/../../x', '/a//b', 'a', '/.vouch/lock.db', '/a\0', ''])(
  '%j is no path',
  async (at) => {
    await expect(open().put(at, crl(1n), signal)).rejects.toThrow('no path to publish at');
    expect(readdirSync(directory)).toEqual([]);
  },
);
