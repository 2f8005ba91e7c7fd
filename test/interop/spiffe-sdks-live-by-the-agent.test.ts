// Workloads of two languages with their SPIFFE libraries as they are published, on a host with the real agent.
import { existsSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { AgentHost } from '../support/agent-host.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { eventually, type Json } from '../support/running.ts';
import type { Account, Sdk } from './spiffe-sdks/sdk.ts';
import { bothSdks, took, Workload } from './spiffe-sdks/workload.ts';

const prepareMs = 400_000;
/** From the operator's word to what a workload sees. */
const limitMs = 1000;
/** How long go-spiffe waits before it asks again for a stream that ended. */
const goBackoffMs = 1000;

let authority: Authority;
let host: AgentHost;
let sdks: { go: Sdk; python: Sdk };

beforeAll(async () => {
  authority = await bootAuthority();
  sdks = await bothSdks(authority);
  host = await AgentHost.of(authority, 'host/a');
  await host.start();
}, prepareMs);

const run = (sdk: Sdk, account: Account, ...words: [string, ...string[]]): Workload =>
  Workload.start(sdk.command(...words), account, host.env);

/** Runs it to its end and returns what it said. */
async function ask(sdk: Sdk, account: Account, ...words: [string, ...string[]]): Promise<Json[]> {
  const workload = run(sdk, account, ...words);
  const { code, stderr } = await workload.ended();
  if (code !== 0) throw new Error(stderr);
  return workload.lines;
}

const operate = (path: string, body: object): Promise<Json> =>
  callAdmin(authority.server.ready.adminSocket, 'POST', path, body);

const newEntry = (id: string, selector: string, { id: parentId } = host): Promise<Json> =>
  operate(adminPaths.entries, { spiffeId: id, parentId, selectors: [selector] });

const revoke = (serial: string | undefined): Promise<Json> =>
  operate(adminPaths.revocations, { target: { serial }, reason: 'keyCompromise' });

describe.each(['go', 'python'] as const)('%s', (language) => {
  const id = (name: string) => authority.id(`${language}/${name}`);

  test('sees its own identities and the trust domain, and each change within a second', async () => {
    const sdk = sdks[language];
    const account = sdk.account();
    const first = await host.entry(`${language}/orders`, account.selector, '--hint', 'inside');
    await newEntry(id('stranger'), sdk.account().selector);
    const watching = run(sdk, account, 'watch');
    await watching.until(() => watching.states.length > 0);
    expect(watching.ids).toEqual([id('orders')]);
    expect(watching.states[0]?.bundles).toEqual({ [authority.trustDomain]: 1 });
    if (language === 'go') expect(watching.states[0]?.svids[0]?.hint).toBe('inside');
    // The other library has no stream of X.509 bundles.
    for (const stream of language === 'go' ? ['x509Bundle', 'jwtBundle'] : ['jwtBundle']) {
      await watching.until(() => watching.lines.some((line) => stream in line));
      expect(watching.lines).toContainEqual({ [stream]: authority.trustDomain, authorities: 1 });
    }

    const grown = await took(
      () => newEntry(id('other'), account.selector),
      watching,
      ({ ids }) => ids?.length === 2,
    );
    expect(watching.ids).toEqual([id('orders'), id('other')]);
    const deleted = () => operate(adminPaths.entryDelete, { entryId: first });
    const shrunk = await took(deleted, watching, ({ ids }) => ids?.length === 1);
    expect(watching.ids).toEqual([id('other')]);
    expect(Math.min(grown, shrunk)).toBeLessThan(limitMs);
    await watching.end();
  });

  test('a revoked certificate is replaced', async () => {
    const sdk = sdks[language];
    const account = sdk.account();
    await newEntry(id('revoked'), account.selector);
    const watching = run(sdk, account, 'watch');
    const times = [];
    for (let index = 0; index < 3; index += 1) {
      const before = await watching.until(() => watching.serial);
      times.push(
        await took(
          () => revoke(before),
          watching,
          ({ serial }) => serial !== before,
        ),
      );
      expect(watching.ids).toEqual([id('revoked')]);
    }
    expect(Math.min(...times)).toBeLessThan(limitMs + (language === 'go' ? goBackoffMs : 0));
    await watching.end();
  });

  test('its token is valid for whom it is meant and nobody else, by the bundle and by the agent, in both languages', async () => {
    const account = sdks[language].account();
    await newEntry(id('caller'), account.selector);
    await ask(sdks.go, account, 'await');
    const [minted] = await ask(sdks[language], account, 'jwt', 'payments', 'reports');
    expect(minted).toMatchObject({ id: id('caller'), audience: ['payments', 'reports'] });
    const token = String(minted?.token);
    const forged = token.replace(/[^.]+$/, 'A'.repeat(86));
    for (const sdk of [sdks.go, sdks.python]) {
      const verifier = sdk.account();
      await newEntry(id('verifier'), verifier.selector);
      await ask(sdks.go, verifier, 'await');
      const pairs = [
        ['reports', token],
        ['elsewhere', token],
        ['reports', forged],
      ].flat();
      expect(await ask(sdk, verifier, 'validate', authority.trustDomain, ...pairs)).toEqual([
        { offline: id('caller'), agent: id('caller') },
        { offline: 'refused', agent: 'InvalidArgument' },
        { offline: 'refused', agent: 'InvalidArgument' },
      ]);
    }
  });

  test('who is nobody is refused, and is somebody within a second of the entry (SPIRE 7198)', async () => {
    const sdk = sdks[language];
    const times = [];
    for (let index = 0; index < 3; index += 1) {
      const account = sdk.account();
      const waiting = run(sdk, account, 'await');
      await waiting.until(() => waiting.errors.length > 0);
      expect(waiting.errors).toEqual(['PermissionDenied']);
      const late = id(`late-${index}`);
      times.push(
        await took(
          () => newEntry(late, account.selector),
          waiting,
          ({ ids }) => ids?.[0] === late,
        ),
      );
    }
    expect(Math.min(...times)).toBeLessThan(limitMs);
  });

  test('a watcher goes on when it is nobody any more, and when it is somebody again', async () => {
    const sdk = sdks[language];
    const account = sdk.account();
    const watching = run(sdk, account, 'watch');
    // The other library says nothing of what it tries again.
    if (language === 'go') await watching.until(() => watching.errors.length > 0);
    const { entryId } = await newEntry(id('watcher'), account.selector);
    await watching.until(() => watching.states.length === 1);
    await operate(adminPaths.entryDelete, { entryId });
    await newEntry(id('again'), account.selector);
    await watching.until(() => watching.ids?.[0] === id('again'));
    expect(new Set(watching.errors)).toEqual(new Set(language === 'go' ? ['PermissionDenied'] : []));
    await watching.end();
  });
});

test('CRLs of every CA are in both streams, and what is revoked in both within a second', async () => {
  const account = sdks.go.account();
  await newEntry(authority.id('crls'), account.selector);
  await ask(sdks.go, account, 'await');
  const reading = run(sdks.go, account, 'crls');
  const streams = (lines: Json[]) => new Set(lines.map(({ stream }) => stream)).size;
  await reading.until(() => streams(reading.lines) === 2);
  for (const line of reading.lines) expect(line).toMatchObject({ crls: 2 });
  const times = [];
  const victims = await Promise.all(['a', 'b', 'c'].map((name) => authority.enroll(`victim/${name}`)));
  for (const { serial } of victims) {
    const listed = () => reading.lines.filter(({ revoked }) => (revoked as string[]).includes(serial));
    times.push(
      await took(
        () => revoke(serial),
        reading,
        () => streams(listed()) === 2,
      ),
    );
  }
  expect(Math.min(...times)).toBeLessThan(limitMs);
});

test('the agent starts anew: everybody finds it again and is who they were', async () => {
  const watching = [];
  for (const sdk of [sdks.go, sdks.python]) {
    const account = sdk.account();
    await newEntry(authority.id('restarted'), account.selector);
    await ask(sdks.go, account, 'await');
    const workload = run(sdk, account, 'watch');
    await workload.until(() => workload.serial);
    watching.push(workload);
  }
  expect(await host.agent.end('SIGTERM')).toBe(0);
  await host.start();
  for (const workload of watching) {
    await workload.until(() => workload.states.length === 2);
    const [before, after] = workload.states;
    expect(after).toEqual(before);
    await workload.end();
  }
});

test('an agent that has nothing yet is unavailable; who asks goes on until it has', async () => {
  const other = await AgentHost.of(authority, 'host/slow');
  const cases: { verb: string; account: Account; command: string[] }[] = [];
  for (const sdk of [sdks.go, sdks.python])
    for (const verb of ['watch', 'await']) {
      const account = sdk.account();
      await newEntry(authority.id(verb), account.selector, other);
      cases.push({ verb, account, command: sdk.command(verb) });
    }
  authority.server.signal('SIGSTOP');
  other.launch();
  await eventually(() => existsSync(other.socket));
  const waiting = cases.map(({ command, account }) => Workload.start(command, account, other.env));
  const asking = waiting.filter((_, index) => cases[index]?.verb === 'await');
  for (const workload of asking) await workload.until(() => workload.errors.length > 0);
  authority.server.signal('SIGCONT');
  for (const [index, workload] of waiting.entries()) {
    await workload.until(() => workload.ids);
    expect(workload.ids).toEqual([authority.id(cases[index]?.verb ?? '')]);
    expect(workload.errors.every((error) => error === 'Unavailable')).toBe(true);
    await workload.end();
  }
}, 60_000);
