// Run by Node itself in a process of its own, to be killed, limited or made to fail.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

Object.assign(globalThis, { __VOUCH_WITHOUT__: process.env.VOUCH_WITHOUT ?? '' });
const { createSqliteStore, openSqliteStore } = await import('../../../src/store/sqlite/store.ts');
const { lockState } = await import('../../../src/store/sqlite/lock.ts');
const { connect } = await import('../../../src/store/sqlite/connection.ts');
const fixture = await import('../fixture.ts');
type SqliteStore = ReturnType<typeof openSqliteStore>;

const [role, directory = ''] = process.argv.slice(2);
const file = join(directory, 'vouch.db');
const roles: Record<string, () => Promise<void>> = {
  holdLock,
  commitUntilKilled,
  fillDisk,
  failCommit,
  failCheckpoint,
};
await roles[role ?? '']?.();

/** Written at once: what was said before a kill was said. */
function say(value: object): void {
  writeSync(1, `${JSON.stringify(value)}\n`);
}

async function holdLock(): Promise<void> {
  try {
    lockState(join(directory, 'lock.db'));
    say({ held: true });
    setInterval(() => undefined, 1_000);
  } catch (error) {
    say({ refused: (error as { code?: string }).code });
  }
}

/** Eight clients that redeem tokens, each acknowledged as soon as its batch is durable. */
async function commitUntilKilled(): Promise<void> {
  const store = openSqliteStore(file);
  const client = async () => {
    for (;;) {
      const token = fixture.tokenMutation();
      const redemption = fixture.redemption(token, { tbs: randomBytes(600) });
      const outcomes = await store.commitBatch(
        [token, { ...redemption, leaf: fixture.leaf(redemption.certificate.tbs) }],
        {
          signatures: [],
          checkpointNote: randomBytes(100).toString('hex'),
        },
      );
      const leafIndex = outcomes[1]?.status === 'committed' ? outcomes[1].leafIndex : -1;
      const { serial, spkiSha256 } = redemption.certificate;
      say({ leafIndex, serial, spkiSha256, tokenId: token.token.tokenId });
      await new Promise(setImmediate);
    }
  };
  await Promise.all(Array.from({ length: 8 }, client));
}

/** Commits until the disk is full, makes room as it was told, and goes on. */
async function fillDisk(): Promise<void> {
  const ballast = join(directory, 'ballast');
  writeFileSync(ballast, Buffer.alloc(512 * 1024));
  const store = createSqliteStore(file, fixture.identity);
  let acked = 0;
  for (;;) {
    const failure = await attempt(store, 40_000);
    if (failure !== undefined) {
      say({
        acked,
        failure,
        again: await attempt(store, 40_000),
        ...seen(store),
      });
      break;
    }
    acked += 1;
  }
  const limited = process.env.VOUCH_TEST_ROOM === 'prlimit';
  if (limited) execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=unlimited']);
  else rmSync(ballast);
  say({ failure: await attempt(store, 10_000), ...seen(store) });
  await store.close();
  const reopened = openSqliteStore(file);
  say(seen(reopened));
  if (!limited) {
    while ((await attempt(reopened, 10_000)) === undefined);
    say(await failingBackup(reopened));
  }
  await reopened.close();
}

/** A backup that the disk has no room for, and what it left. */
async function failingBackup(store: SqliteStore): Promise<object> {
  try {
    await store.backup(join(directory, 'copy.db'));
    return { backup: undefined };
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    return {
      backup: { code, message },
      left: readdirSync(directory).filter((name) => name.startsWith('copy')),
    };
  }
}

async function failCommit(): Promise<void> {
  const flag = process.env.VOUCH_TEST_FAIL_FLAG ?? '';
  const store = createSqliteStore(file, fixture.identity);
  const before = await attempt(store, 100);
  writeFileSync(flag, '');
  const failure = await attempt(store, 100);
  rmSync(flag);
  say({ before, failure, later: await attempt(store, 100), ...seen(store) });
  process.kill(process.pid, 'SIGKILL');
}

/** Enough pages for a checkpoint, which then fails; the commits before it stand. */
async function failCheckpoint(): Promise<void> {
  const flag = process.env.VOUCH_TEST_FAIL_FLAG ?? '';
  const store = createSqliteStore(file, fixture.identity);
  writeFileSync(flag, '');
  const failures: unknown[] = [];
  for (let round = 0; round < 120; round += 1) failures.push(await attempt(store, 60_000));
  const writableBefore = store.writable();
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
  rmSync(flag);
  say({
    committed: failures.filter((failure) => failure === undefined).length,
    writableBefore,
    later: await attempt(store, 100),
    ...seen(store),
  });
  process.kill(process.pid, 'SIGKILL');
}

/** One commit with a certificate of that size; what it failed with. */
async function attempt(store: SqliteStore, bytes: number): Promise<object | undefined> {
  const mutation = fixture.certificateMutation({ tbs: randomBytes(bytes) });
  try {
    await store.commitBatch(
      [{ ...mutation, leaf: fixture.leaf(mutation.certificate.tbs) }],
      fixture.nothingSigned,
    );
    return undefined;
  } catch (error) {
    const { code, message, cause } = error as Error & { code?: string; cause?: { code?: string } };
    return { code, message, sqlite: cause?.code };
  }
}

function seen(store: SqliteStore): object {
  const size = store.treeSize();
  const certificates = store.certificatesByLeaf(0, size + 1);
  const leaves = store.leaves(0, size);
  const db = connect(file, { readonly: true });
  const integrity: unknown = db.pragma('integrity_check', { simple: true });
  db.close();
  return {
    treeSize: size,
    consistent:
      certificates.length === size && certificates.every(({ tbs }, index) => leaves[index]?.equals(tbs)),
    integrity,
    writable: store.writable(),
  };
}
