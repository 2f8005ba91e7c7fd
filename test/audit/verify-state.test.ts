import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { type Known, lived, tampered, verified } from './state-copies.ts';
import { inAuthorities, inCrls, inFiles } from './ca-tamperings.ts';
import { type Case, inCertificates, inLeaves, inRegistrations, inRevocations } from './tamperings.ts';

let authority: Authority;
let known: Known;
let rootPin: string;

beforeAll(async () => {
  authority = await bootAuthority();
  rootPin = (await authority.vouch('status')).json<{ rootPin: string }>().rootPin;
  known = await lived(authority);
}, 60_000);

test('a state that nobody touched has no problem', () => {
  const result = verified(authority.state, rootPin);
  expect(result).toMatchObject({ revocations: 2, problems: [] });
  expect(result.certificates).toBeGreaterThanOrEqual(5);
  expect(result.treeSize).toBeGreaterThan(256);
});

test('another root than the pinned one is a problem', () => {
  expect(verified(authority.state, `sha256:${'0'.repeat(64)}`).problems).toEqual([
    'the root is not the one that was pinned',
  ]);
});

describe.each([
  ['leaves', inLeaves],
  ['certificates', inCertificates],
  ['revocations and blocked keys', inRevocations],
  ['tokens, their uses and entries', inRegistrations],
  ['authorities, statements and marks', inAuthorities],
  ['CRLs and their scopes', inCrls],
  ['files', inFiles],
])('what an intruder does to %s is found:', (_table, cases: Case[]) => {
  test.each(cases)('%s', (_what, how, names, says) => {
    const { problems } = verified(tampered(authority.state, how));
    const row = typeof names === 'string' ? new RegExp(known[names]) : names;
    expect(
      problems.some((problem) => row.test(problem) && says.test(problem)),
      `${String(row)} and ${String(says)} in ${JSON.stringify(problems)}`,
    ).toBe(true);
  });
});

test('what a crash leaves is no problem: a certificate and a CRL without signature', () => {
  const lost = `UPDATE certificates SET signature = NULL WHERE serial = '${known.renewed}'`;
  expect(verified(tampered(authority.state, lost)).problems).toEqual([]);
  const unsigned =
    "UPDATE crls SET signature = NULL WHERE leaf_index = (SELECT max(leaf_index) FROM crls WHERE scope = 'full')";
  expect(verified(tampered(authority.state, unsigned)).problems).toEqual([]);
});

test.each(Array.from({ length: 10 }, (_, index) => index))(
  'leaf %i is not taken a second time, past the checkpoint',
  (index) => {
    let next = 0;
    const copy = tampered(authority.state, (db) => {
      next = db.prepare<[], number>('SELECT max(leaf_index) + 1 FROM leaves').pluck().get() ?? 0;
      db.prepare('INSERT INTO leaves SELECT ?, hash, bytes FROM leaves WHERE leaf_index = ?').run(
        next,
        index,
      );
    });
    expect(verified(copy).problems.join('\n')).toContain(`leaf ${next}`);
  },
);

test('a signer with a state of its own keeps its floor there', () => {
  const copy = tampered(authority.state, (_db, state) => rmSync(join(state, 'signer'), { recursive: true }));
  expect(verified(copy).problems).toEqual([]);
});

test('many problems are counted, not all said', () => {
  const { problems } = verified(tampered(authority.state, "UPDATE join_tokens SET created_by = 'uid:1'"));
  expect(problems).toHaveLength(101);
  expect(problems.at(-1)).toMatch(/^and \d+ more/);
});
