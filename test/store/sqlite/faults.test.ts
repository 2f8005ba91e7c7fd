import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Serial } from '../../../src/core/serial.ts';
import { connect } from '../../../src/store/sqlite/connection.ts';
import { createSqliteStore, openSqliteStore } from '../../../src/store/sqlite/store.ts';
import { committed, identity, issuerKeyId, operatorMutation } from '../fixture.ts';
import { killChildren, startChild } from './child-process.ts';
import { temporaryDirectory } from './state.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let file: string;

beforeEach(() => {
  directory = temporaryDirectory();
  file = join(directory.path, 'vouch.db');
});
afterEach(() => {
  killChildren();
  directory.remove();
});

describe('kill -9 during commits', () => {
  it('loses nothing that was acknowledged, and leaves no half of anything', async () => {
    await createSqliteStore(file, identity).close();
    const acked: Record<string, unknown>[] = [];
    for (let round = 0; round < 5; round += 1) {
      const child = startChild('commitUntilKilled', directory.path);
      for (let line = 0; line < 20 + 40 * round; line += 1) await child.next();
      child.process.kill('SIGKILL');
      expect(await child.end()).toBe('SIGKILL');
      acked.push(...child.said);
      checkState(acked);
    }
    expect(acked.length).toBeGreaterThanOrEqual(500);
  });
});

/** Every acknowledged certificate is there with its leaf and its token's use; nothing else is half there. */
function checkState(acked: readonly Record<string, unknown>[]): void {
  const store = openSqliteStore(file);
  const size = store.treeSize();
  const leaves = store.leaves(0, size);
  const certificates = store.certificatesByLeaf(0, size + 1);
  expect(new Set(acked.map(({ leafIndex }) => leafIndex)).size).toBe(acked.length);
  for (const { leafIndex, serial, spkiSha256, tokenId } of acked) {
    const certificate = store.certificate(issuerKeyId, serial as Serial);
    expect(certificate).toMatchObject({ leafIndex, tokenId });
    expect(store.certificateOfTokenUse(tokenId as string, spkiSha256 as string)?.serial).toBe(serial);
  }
  expect(certificates.every(({ leafIndex, tbs }) => leaves[leafIndex]?.equals(tbs))).toBe(true);
  const tokens = store.tokens({ limit: 1_000_000 });
  expect(certificates.length * 2).toBe(size);
  expect(tokens.length).toBe(certificates.length);
  expect(tokens.every(({ usesTaken }) => usesTaken === 1)).toBe(true);
  void store.close();
  const db = connect(file, { readonly: true });
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok');
  expect(db.pragma('foreign_key_check')).toEqual([]);
  db.close();
}

describe('a full disk', () => {
  const full = expect.objectContaining({ code: 'unavailable-store' });

  const withMount = mayMount() ? it : undefined;
  withMount?.('refuses commits with nothing written, and goes on when there is room', async () => {
    const mountPoint = join(directory.path, 'small');
    mkdirSync(mountPoint);
    const mounted = [
      'unshare',
      '-m',
      'sh',
      '-c',
      `mount -t tmpfs -o size=4m tmpfs '${mountPoint}' && exec "$@"`,
      'sh',
    ];
    const child = startChild('fillDisk', mountPoint, { command: mounted });
    expect(await child.end()).toBe(0);
    expectRecovery(child.said);
    expect(child.said[3], 'a backup that has no room leaves nothing').toEqual({ backup: full, left: [] });
    expect(child.said[0]?.failure).toMatchObject({
      sqlite: 'SQLITE_FULL',
      message: expect.stringContaining('make room'),
    });
  });

  it('is the same with a limit on the size of files', async () => {
    const limited = ['sh', '-c', `trap '' XFSZ; ulimit -S -f 4096; exec "$@"`, 'sh'];
    const child = startChild('fillDisk', directory.path, {
      command: limited,
      env: { VOUCH_TEST_ROOM: 'prlimit' },
    });
    expect(await child.end()).toBe(0);
    expectRecovery(child.said);
  });

  function expectRecovery(said: Record<string, unknown>[]): void {
    const acked = said[0]?.acked as number;
    expect(acked).toBeGreaterThan(5);
    const sound = { consistent: true, integrity: 'ok', writable: true };
    expect(said.slice(0, 3)).toEqual([
      { acked, failure: full, again: full, treeSize: acked, ...sound },
      { treeSize: acked + 1, ...sound },
      { treeSize: acked + 1, ...sound },
    ]);
  }
});

/** Whether this machine lets us mount a small disk of our own. */
function mayMount(): boolean {
  const { status } = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()], {
    stdio: 'ignore',
  });
  return status === 0;
}

describe('a failed fsync', () => {
  it('fails the commit, and fences the store until it is opened again', async () => {
    const [said] = await withFailingFsync('failCommit', '-wal');
    expect(said).toEqual({
      failure: expect.objectContaining({ code: 'unavailable-store', sqlite: 'SQLITE_IOERR_FSYNC' }),
      later: expect.objectContaining({
        code: 'unavailable-store',
        message: expect.stringContaining('fenced'),
      }),
      treeSize: 1,
      consistent: true,
      integrity: 'ok',
      writable: false,
    });
    const store = openSqliteStore(file);
    expect(store.writable()).toBe(true);
    expect(store.treeSize(), 'what was acknowledged; what failed may be there').toBeGreaterThanOrEqual(1);
    expect(await committed(store, operatorMutation())).toBeGreaterThanOrEqual(1);
    await store.close();
  });

  it('of a checkpoint fences the store too; the commits before it stand', async () => {
    const [said] = await withFailingFsync('failCheckpoint', 'vouch.db');
    const { committed: count } = said as { committed: number };
    expect(said).toMatchObject({
      later: { message: expect.stringContaining('fenced') },
      treeSize: count,
      consistent: true,
      writable: false,
    });
    expect(count).toBeGreaterThan(50);
    const store = openSqliteStore(file);
    expect(store.treeSize()).toBe(count);
    expect(store.certificatesByLeaf(0, 1_000).length).toBe(count);
    await store.close();
  });

  async function withFailingFsync(role: string, suffix: string): Promise<Record<string, unknown>[]> {
    const library = join(directory.path, 'failing-fsync.so');
    const source = fileURLToPath(new URL('failing-fsync.c', import.meta.url));
    execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl']);
    const flag = join(directory.path, 'fail');
    const child = startChild(role, directory.path, {
      env: { LD_PRELOAD: library, VOUCH_TEST_FAIL_FLAG: flag, VOUCH_TEST_FAIL_SUFFIX: suffix },
    });
    expect(await child.end()).toBe('SIGKILL');
    expect(existsSync(flag)).toBe(false);
    return child.said;
  }
});
