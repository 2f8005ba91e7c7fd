import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockState } from '../../../src/store/sqlite/lock.ts';
import { createSqliteStore, openSqliteStore } from '../../../src/store/sqlite/store.ts';
import { identity } from '../fixture.ts';
import { killChildren, startChild } from './child-process.ts';
import { temporaryDirectory } from './state.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let lockFile: string;

beforeEach(() => {
  directory = temporaryDirectory();
  lockFile = join(directory.path, 'lock.db');
});
afterEach(() => {
  killChildren();
  directory.remove();
});

const inUse = expect.objectContaining({
  code: 'config-in-use',
  message: expect.stringContaining('stop it first'),
});

describe('I10 the lock of a state', () => {
  it('is held by one process, and freed when it is killed', async () => {
    const child = startChild('holdLock', directory.path);
    await child.next();
    expect(() => lockState(lockFile)).toThrow(inUse);
    child.process.kill('SIGKILL');
    expect(await child.end()).toBe('SIGKILL');
    lockState(lockFile).release();
  });

  it('refuses a second process while this one holds it, also after a refusal here', async () => {
    const lock = lockState(lockFile);
    expect(() => lockState(lockFile)).toThrow(inUse);
    const child = startChild('holdLock', directory.path);
    expect(await child.next()).toEqual({ refused: 'config-in-use' });
    expect(await child.end()).toBe(0);
    lock.release();
    expect(await startChild('holdLock', directory.path).next()).toEqual({ held: true });
  });

  it('is in the way neither of the state nor of its readers', async () => {
    const lock = lockState(lockFile);
    const file = join(directory.path, 'vouch.db');
    const store = createSqliteStore(file, identity);
    const reader = openSqliteStore(file, { readonly: true });
    await store.backup(join(directory.path, 'copy.db'));
    await reader.close();
    await store.close();
    expect(() => lockState(lockFile)).toThrow(inUse);
    lock.release();
  });

  it('is a private file', () => {
    const lock = lockState(lockFile);
    expect(statSync(lockFile).mode & 0o777).toBe(0o600);
    lock.release();
    expect(existsSync(lockFile)).toBe(true);
  });

  it('says where it cannot be', () => {
    expect(() => lockState(join(directory.path, 'no', 'lock.db'))).toThrow(
      expect.objectContaining({ code: 'config-state' }),
    );
    mkdirSync(join(directory.path, 'folder'));
    expect(() => lockState(join(directory.path, 'folder'))).toThrow(
      expect.objectContaining({ code: 'config-state' }),
    );
    writeFileSync(lockFile, 'x'.repeat(4096));
    expect(() => lockState(lockFile)).toThrow(expect.objectContaining({ code: 'config-state' }));
  });
});
