import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { verifyState } from '../../src/audit/verify-state.ts';
import { MassRevocations } from '../../src/revocation/mass.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import {
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { tampered } from './state-copies.ts';

let authority: SoftwareAuthority;
let massRevocation: number;

beforeEach(async () => {
  authority = await softwareAuthority();
  const { entry, tokenId } = await registered(authority);
  await authority.issuance.issue(requestFor(entry, tokenId));
  const publisher = { add: () => undefined, published: () => Promise.resolve(undefined) };
  const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  const mass = new MassRevocations({
    ...authority,
    revocation,
    failed: (error) => expect.fail(String(error)),
  });
  massRevocation = await mass.begin(
    { by: 'operator', operator: 'uid:0' },
    { reason: 'superseded', operator: 'uid:9' },
  );
  while ((await mass.progress(massRevocation, 100)).result === undefined);
  await authority.sequencer.storeSigned();
});
afterEach(() => authority.close());

/** What is wrong with the mass revocation; CRLs there are none. */
function problemsOf(folder: string): string[] {
  const store = openSqliteStore(path.join(folder, 'vouch.db'), { readonly: true });
  try {
    return verifyState(store, undefined, () => undefined).problems.filter((one) =>
      one.includes('mass revocation'),
    );
  } finally {
    void store.close();
  }
}

test('one that ended is no problem', () => {
  expect(problemsOf(authority.folder)).toEqual([]);
});

test.each([
  ['another target', `UPDATE mass_revocations SET target = '{}'`, /target/],
  ['another reason', `UPDATE mass_revocations SET reason = 'unspecified'`, /reason/],
  ['another operator', `UPDATE mass_revocations SET operator = 'uid:7'`, /operator/],
  ['another time', 'UPDATE mass_revocations SET started_at_ms = 1', /startedAtMs/],
  ['an invalidity date', 'UPDATE mass_revocations SET invalidity_date_seconds = 1', /invalidityDateSeconds/],
  ['another end', 'UPDATE mass_revocations SET ended_by = ended_by + 1', /ended/],
  ['no end', 'UPDATE mass_revocations SET ended_by = NULL', /ended/],
  ['no row', 'DELETE FROM mass_revocations', /not in the store/],
  ['another leaf', 'UPDATE mass_revocations SET leaf_index = leaf_index - 1', /not in the/],
])('%s is told', (_what, how, words) => {
  expect(problemsOf(tampered(authority.folder, how)).join()).toMatch(words);
});
