import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { IssuedCertificate } from '../../src/issuance/issue.ts';
import { caOf } from '../../src/issuance/issuer.ts';
import { openStatement } from '../../src/log/statement.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { Checker } from './checker.ts';
import type { KillsEvent, Verdict } from './history.ts';
import { readState } from './state-reading.ts';
import { Verdicts } from './verdicts.ts';
import { joinedCrl } from '../../src/x509/crl-tbs.ts';

const verdictNames = ['lost', 'duplicates', 'orphans', 'regressions', 'faults'] as const;

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let served: PublishedCrl[];
let verdicts: Verdicts;
let checker: Checker;
let nowNs: number;

beforeEach(async () => {
  authority = await softwareAuthority();
  served = [];
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: (crl) => served.push(crl),
    alarm: () => undefined,
  });
  await publisher.start();
  await expect.poll(() => publisher.current().length).toBe(18);
  verdicts = new Verdicts(() => undefined);
  checker = new Checker({ ...checkerParts(), verdicts });
  nowNs = 0;
});

afterEach(async () => {
  await publisher.close();
  await authority.close();
});

/** Verdicts that are not zero. */
function found(): Verdict[] {
  return verdictNames.filter((name) => verdicts.count(name) > 0);
}

const database = (): string => join(authority.folder, 'vouch.db');

function compare(): void {
  checker.compare(readState(database(), checker.shownSizes));
}

/** Takes it as sent and answered one after the other, later than all before. */
function take(event: Record<string, unknown> & { kind: KillsEvent['kind'] }): void {
  nowNs += 2;
  checker.take({ sentNs: nowNs - 1, atNs: nowNs, ...event } as KillsEvent);
}

async function issue(
  uses = 1,
): Promise<{ tokenId: string; first: IssuedCertificate; again: () => Promise<IssuedCertificate> }> {
  const { entry, tokenId } = await registered(authority, 'orders', { uses });
  const again = () => authority.issuance.issue(requestFor(entry, tokenId));
  return { tokenId, first: await again(), again };
}

function takeAnswer(issued: IssuedCertificate, members: { acked?: boolean; tokenId?: string } = {}): void {
  const { leafIndex, checkpoint } = issued.proof;
  const proof = {
    index: leafIndex,
    timeMs: issued.timeMs,
    context: issued.context,
    checkpoint: checkpoint.note,
  };
  take({ kind: 'certificate', der: issued.der, acked: true, proof, ...members });
}

async function revoke({ record }: IssuedCertificate): Promise<void> {
  const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  await revocation.revoke({ by: 'serial', serial: record.serial, only: false }, 'superseded', 'uid:0');
  take({ kind: 'revoked', serials: [record.serial], published: true });
}

function takeFullCrls(): PublishedCrl[] {
  const full = served.filter((crl) => crl.scope === 'full');
  for (const { url, der } of full) take({ kind: 'crl', url, der: joinedCrl(der) });
  return full;
}

/** What a mistake in the program, or an operator with a tool, could do to the file. */
function damage(trigger: string, sql: string): void {
  const db = new Database(database());
  db.pragma('foreign_keys = OFF');
  db.exec(`DROP TRIGGER ${trigger}; ${sql}`);
  db.close();
}

test('what holds gives no verdict', async () => {
  const { tokenId, first } = await issue();
  take({ kind: 'token', tokenId });
  takeAnswer(first, { tokenId, acked: false });
  takeAnswer(first, { tokenId });
  takeFullCrls();
  await revoke(first);
  for (const { url, der } of served.slice(-3)) take({ kind: 'crl', url, der: joinedCrl(der) });
  take({ kind: 'checkpoint', note: authority.sequencer.checkpoint()?.note ?? '' });
  checker.finish();
  compare();
  expect(found()).toEqual([]);
  expect([checker.acked, checker.revoked]).toEqual([1, 1]);
});

test('an acked certificate without its row is lost', async () => {
  const { first } = await issue();
  takeAnswer(first);
  damage('certificates_stay', 'DELETE FROM certificates');
  compare();
  expect(found()).toEqual(['lost']);
});

test('an acked token and an acked revocation without their rows are lost', async () => {
  const { tokenId, first } = await issue();
  take({ kind: 'token', tokenId });
  await revoke(first);
  damage('join_tokens_stay', 'DELETE FROM join_tokens');
  damage('revocations_stay', 'DELETE FROM revocations');
  compare();
  expect(found()).toEqual(['lost']);
  expect(verdicts.count('lost')).toBe(2);
});

test('a certificate that nobody acked and no leaf names is an orphan', async () => {
  const before = join(authority.folder, 'before.db');
  await authority.store.backup(before);
  const { first } = await issue();
  take({ kind: 'certificate', der: first.der, acked: false });
  checker.compare(readState(before, checker.shownSizes));
  expect(found()).toEqual(['orphans']);
});

test('a proof that speaks of another leaf is an orphan, whatever else is in the log', async () => {
  const { first } = await issue();
  takeAnswer({ ...first, timeMs: first.timeMs + 1 });
  compare();
  expect(found()).toEqual(['orphans']);
});

test('a served CRL that no leaf names is an orphan', async () => {
  const before = join(authority.folder, 'before.db');
  await authority.store.backup(before);
  await revoke((await issue()).first);
  const [crl] = served.slice(-1);
  take({ kind: 'crl', url: crl?.url ?? '', der: crl && joinedCrl(crl.der) });
  checker.compare(readState(before, checker.shownSizes));
  expect(found()).toContain('orphans');
});

test('half a certificate is no witness', async () => {
  const { first } = await issue();
  take({ kind: 'certificate', der: first.der.subarray(0, -9), acked: false });
  compare();
  expect(found()).toEqual([]);
});

test('two certificates by a token of one use are duplicates', async () => {
  const { tokenId, first, again } = await issue(2);
  takeAnswer(first, { tokenId });
  takeAnswer(await again(), { tokenId });
  expect(found()).toEqual(['duplicates']);
});

test('a CRL that falls behind one that was served is a regression', async () => {
  takeFullCrls();
  publisher.publishAll(true);
  await expect.poll(() => takeFullCrls().length).toBeGreaterThan(1);
  expect(found()).toEqual(['regressions']);
});

test('a CRL without a revocation that was answered before is a regression, in whatever order they are heard', async () => {
  const { first } = await issue();
  const [old] = served.filter((crl) => crl.scope === 'full');
  await revoke(first);
  take({ kind: 'crl', url: old?.url ?? '', der: old && joinedCrl(old.der) });
  expect(found()).toEqual(['regressions']);

  const late = new Verdicts(() => undefined);
  const listener = new Checker({ ...checkerParts(), verdicts: late });
  listener.take({
    kind: 'crl',
    url: old?.url ?? '',
    der: old ? joinedCrl(old.der) : Buffer.alloc(0),
    sentNs: 7,
    atNs: 8,
  });
  listener.take({ kind: 'revoked', serials: [first.record.serial], published: true, sentNs: 5, atNs: 6 });
  expect(late.count('regressions')).toBe(1);
});

test('a revocation that was only recorded may be missing until the end', async () => {
  const { first } = await issue();
  take({ kind: 'revoked', serials: [first.record.serial], published: false });
  takeFullCrls();
  expect(found()).toEqual([]);
  checker.finish();
  expect(found()).toEqual(['regressions']);
});

test('a tree that falls behind one that was answered is a regression', async () => {
  const old = authority.sequencer.checkpoint()?.note ?? '';
  take({ kind: 'checkpoint', note: old });
  takeAnswer((await issue()).first);
  take({ kind: 'checkpoint', note: old });
  expect(found()).toEqual([]);
  take({ kind: 'killed' });
  take({ kind: 'ready' });
  take({ kind: 'checkpoint', note: old });
  expect(found()).toEqual(['regressions']);
});

test('a store that is not the tree that was shown is a regression', async () => {
  const before = join(authority.folder, 'before.db');
  await authority.store.backup(before);
  takeAnswer((await issue()).first, { acked: false });
  checker.compare(readState(before, checker.shownSizes));
  expect(found()).toEqual(['orphans', 'regressions']);
});

function checkerParts(): Omit<ConstructorParameters<typeof Checker>[0], 'verdicts'> {
  const { logKeys } = openStatement(authority.store.statement() ?? '', caOf(authority.rootDer).publicKey);
  const [logKey] = logKeys;
  if (logKey === undefined) throw new Error('no log key');
  return { issuer: authority.issuer, logKey };
}
