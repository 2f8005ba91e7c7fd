import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { readResult } from '../../src/ceremony/files.ts';
import { takeRenewal } from '../../src/ceremony/program/import.ts';
import type { Recorder } from '../../src/ceremony/program/record.ts';
import { statePaths } from '../../src/config/config.ts';
import { commitAll } from '../../src/store/commit.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { runVouch } from '../support/daemon.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';
import { jsonOf, madeOnTwoMachines } from '../support/two-machines.ts';

interface Imported {
  statementSequence: number;
  crlNumber: string;
  operators: string[];
  served: boolean;
}

let machines: Awaited<ReturnType<typeof madeOnTwoMachines>>;
const key = { key: { use: { label: 'vouch-root' } } };

/** The file of a renewal of what is served now. */
async function served(publicationUrl: string) {
  const { bundle, crl, sequence } = await machines.served(publicationUrl);
  const { crlNumber = 0n } = parseCrl(readFileSync(crl));
  const { rootPin } = (await machines.authority.vouch('status')).json<{ rootPin: string }>();
  return { renew: { renew: { bundle }, crl: { last: crl }, root: key }, sequence, crlNumber, rootPin };
}

/** Brings one result several times at one moment: it is taken once, and recorded once. */
async function atOnce(result: string, times: number): Promise<Imported> {
  const socket = join(machines.authority.state, 'admin.sock');
  const files = [...readResult(result)].map(([name, bytes]) => ({ name, content: bytes.toString('base64') }));
  const bring = (): Promise<Imported> => callAdmin(socket, 'POST', adminPaths.ceremonyImport, { files });
  const settled = await Promise.allSettled(Array.from({ length: times }, bring));
  const refused = settled.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : []));
  expect(refused).toHaveLength(times - 1);
  for (const reason of refused) expect(reason).toContain('not newer');
  const [taken] = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  if (!taken) throw new Error('none was taken');
  return taken;
}

beforeAll(async () => {
  machines = await madeOnTwoMachines();
}, 60_000);

it('a renewal taken in while the server runs is served at once, and agents follow it', async () => {
  const { authority, root } = machines;
  const { ready } = await authority.start();
  const workload = await authority.enroll('orders');
  const before = await served(ready.publicationUrl);
  const first = await root.hold(before.renew);
  const second = await root.hold(before.renew);
  const imported = await atOnce(first, 3);
  expect(imported).toMatchObject({ statementSequence: 2, operators: ['Ada', 'Grace'], served: true });
  const after = await served(ready.publicationUrl);
  expect(after.sequence).toBe(before.sequence + 1);
  expect(after.crlNumber > before.crlNumber).toBe(true);
  expect(String(after.crlNumber)).toBe(imported.crlNumber);
  expect((await authority.vouch('renew', '--dir', workload.dir)).code, 'a held identity goes on').toBe(0);
  const verified = await authority.vouch(
    'log',
    'verify',
    '--url',
    ready.publicationUrl,
    '--root-pin',
    after.rootPin,
  );
  expect(verified.json()).toMatchObject({ problems: [] });

  const replayed = await machines.importRenewal(first);
  expect(replayed.problem.code, 'the same again').toBe('policy-conflict');
  const sibling = await machines.importRenewal(second);
  expect(sibling.problem.code, 'another one of the same sequence').toBe('policy-conflict');

  const third = await root.hold(after.renew);
  await authority.server.end();
  expect((await machines.importRenewal(third)).json<Imported>()).toMatchObject({
    statementSequence: 3,
    served: false,
  });
  expect((await machines.importRenewal(first)).problem.code, 'an older one').toBe('policy-conflict');
  expect(await machines.logProblems()).toEqual([]);
  const restarted = await authority.start();
  expect((await served(restarted.ready.publicationUrl)).sequence).toBe(before.sequence + 2);
  expect((await authority.vouch('renew', '--dir', workload.dir)).code).toBe(0);
  await authority.server.end();
  expect(await machines.logProblems()).toEqual([]);
}, 90_000);

it('a renewal cut short at any step leaves an authority that serves, and is taken in by the next attempt', async () => {
  const { authority, root } = machines;
  const { ready } = await authority.start();
  const { renew } = await served(ready.publicationUrl);
  await authority.server.end();
  const result = await root.hold(renew);
  const files = readResult(result);
  const { keyId: rootKeyId } = jsonOf(result, 'transcript.json').root as { keyId: string };
  // Transcript, revocations, CRL, its signature; then, the CRL being there, the statement.
  for (const failing of [1, 2, 3, 4, 4]) {
    const store = openSqliteStore(statePaths(authority.state).database);
    let step = 0;
    const counted = <T>(work: () => Promise<T>): Promise<T> => {
      step += 1;
      return step === failing ? Promise.reject<T>(new Error('cut short')) : work();
    };
    const recorder: Recorder = {
      ...{ store, operator: 'uid:0', nowMs: Date.now() },
      commit: async (mutations) => {
        // Of a pair, the first one may be in a batch that the second one is not in.
        if (step + 1 === failing) await commitAll(store, mutations.slice(0, -1));
        return counted(() => commitAll(store, mutations));
      },
      storeSigned: (signed) => counted(() => store.storeSigned(signed)),
    };
    await expect(takeRenewal(files, recorder)).rejects.toThrow('cut short');
    await store.close();
    const again = await authority.start();
    const crl = await fetch(`${again.ready.publicationUrl}/crl/${rootKeyId}.crl`);
    expect(crl.status, `after step ${failing}`).toBe(200);
    await authority.server.end();
  }
  (await machines.importRenewal(result)).json();
  expect(await machines.logProblems()).toEqual([]);
}, 90_000);

it('a renewal of an older bundle or an older CRL than was read out is refused where the root is', async () => {
  const { authority, root } = machines;
  const { ready } = await authority.start();
  const { renew, sequence } = await served(ready.publicationUrl);
  await authority.server.end();
  const sha256Of = (file: string): string => hash('sha256', readFileSync(file), 'hex');
  const read = { bundle: sha256Of(renew.renew.bundle), crl: sha256Of(renew.crl.last) };
  const shown = async (bundle: string, crl: string) => {
    const { file } = root.file({
      ...renew,
      renew: { ...renew.renew, sha256: bundle },
      crl: { ...renew.crl, sha256: crl },
    });
    return root.vouch(['ceremony', '--file', file, '--json']);
  };
  const dryRun = (await shown(read.bundle, read.crl)).json<{
    warnings: string[];
    items: { number?: string }[];
  }>();
  expect(dryRun.warnings).toEqual([]);
  expect(
    dryRun.items.map(({ number }) => number),
    'what people compare',
    // One more than the last statement's, which is one less than the bundle's: that counts a key of JWT-SVIDs.
  ).toEqual([expect.any(String), String(sequence)]);
  const other = 'ab'.repeat(32);
  expect((await shown(other, read.crl)).problem.detail).toContain('renew.sha256');
  expect((await shown(read.bundle, other)).problem.detail).toContain('crl.sha256');
  const unsaid = root.file(renew);
  const { warnings } = (await root.vouch(['ceremony', '--file', unsaid.file, '--json'])).json<{
    warnings: string[];
  }>();
  expect(warnings).toEqual([expect.stringContaining('renew.sha256'), expect.stringContaining('crl.sha256')]);
}, 60_000);

it('doctor, which warned of the end, is content after a renewal', async () => {
  const { authority, root } = machines;
  const clock = new ShiftedClock(authority.path('time'));
  const roots = async (): Promise<string[]> => {
    const ran = await runVouch(['doctor', '--config', authority.config, '--json'], { env: clock.env });
    const { findings } = JSON.parse(ran.stdout) as { findings: { what: string; remedy: string }[] };
    return findings.filter(({ what }) => what.startsWith("the root's")).map(({ remedy }) => remedy);
  };
  const { ready } = await authority.start();
  const { renew } = await served(ready.publicationUrl);
  await authority.server.end();
  clock.set('+350d');
  const due = await roots();
  expect(due).toHaveLength(2);
  expect(due[0]).toContain('vouch ceremony --import');
  const result = await root.hold(renew, { env: clock.env });
  const args = ['ceremony', '--import', result, '--yes', '--config', authority.config, '--json'];
  (await runVouch(args, { env: clock.env })).json();
  expect(await roots()).toEqual([]);
}, 60_000);

it('a first ceremony is not taken for a renewal', async () => {
  const asRenewal = await machines.importRenewal(machines.result);
  expect(asRenewal.problem.detail).toContain('vouch init --ceremony-in');
});
