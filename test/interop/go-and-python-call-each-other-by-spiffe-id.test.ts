// The programs of docs/integrations/go.md and python.md, on a host with the real agent: each language calls the other.
import { beforeAll, expect, test } from 'vitest';
import { AgentHost } from '../support/agent-host.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { commandOf } from '../support/documents.ts';
import { freePort } from '../support/ports.ts';
import { eventually } from '../support/running.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';
import type { Account, Sdk } from './spiffe-sdks/sdk.ts';
import { bothSdks, Workload } from './spiffe-sdks/workload.ts';

const prepareMs = 400_000;

interface Party {
  sdk: Sdk;
  account: Account;
  id: string;
  port: number;
}

let authority: Authority;
let host: AgentHost;
/** The wall clock of the agent alone. */
let clock: ShiftedClock;
let calls: { client: Party; server: Party }[];

beforeAll(async () => {
  authority = await bootAuthority();
  const sdks = await bothSdks(authority);
  clock = new ShiftedClock(authority.path('clock'));
  host = await AgentHost.of(authority, 'host/a');
  await host.start({ env: clock.env });
  const [go, python] = [await party('orders', sdks.go), await party('billing', sdks.python)];
  calls = [
    { client: python, server: go },
    { client: go, server: python },
  ];
  for (const { client, server } of calls) start(server.sdk.server(server.port, client.id), server.account);
}, prepareMs);

async function party(name: string, sdk: Sdk): Promise<Party> {
  const account = sdk.account();
  const [, ...words] = commandOf(sdk.document, 'vouch', (line) =>
    line
      .replace(/(--id) \S+/, `$1 ${authority.id(name)}`)
      .replace(/(--parent) \S+/, `$1 ${host.id}`)
      .replace(/( --selector \S+)+/, ` --selector ${account.selector}`)
      .replace('prod.example', authority.trustDomain),
  );
  (await authority.vouch(...words)).json();
  return { sdk, account, id: authority.id(name), port: await freePort() };
}

const start = (command: readonly string[], account: Account): Workload =>
  Workload.start(command, account, host.env);

/** The client of the document, to its end. */
const call = (client: Party, { port }: Party, expected: string) =>
  start(client.sdk.client(port, expected), client.account).ended();

test('each is told who the other is', async () => {
  for (const { client, server } of calls) {
    // Until the server listens.
    const said = await eventually(async () => {
      const { code, stdout } = await call(client, server, server.id);
      return code === 0 && stdout;
    }, 20_000);
    expect(said).toBe(`${client.id}\n`);
  }
}, 60_000);

test('a server that is not the expected one is refused, and a caller that is not the allowed one', async () => {
  for (const { client, server } of calls) {
    const misled = await call(client, server, authority.id('elsewhere'));
    expect([misled.code, misled.stdout]).toEqual([1, '']);
    const stranger = await party(`stranger-${server.port}`, client.sdk);
    const turnedAway = await call(stranger, server, server.id);
    expect([turnedAway.code, turnedAway.stdout]).toEqual([1, '']);
  }
}, 60_000);

test('both renew, and no handshake fails', async () => {
  const dials = calls.map(({ client, server }) =>
    start(client.sdk.command('dial', ...client.sdk.target(server.port), server.id), client.account),
  );
  const shown = (dial: Workload) => dial.lines.filter(({ serial }) => serial !== undefined);
  for (const dial of dials) await dial.until(() => shown(dial).length === 1);
  // Past 40 to 60 % of an hour's life: when the server wants a certificate renewed.
  clock.set('+37m');
  for (const dial of dials) await dial.until(() => shown(dial).length === 2);
  for (const [index, dial] of dials.entries()) {
    expect(await dial.end()).toBe(0);
    expect(dial.lines.filter(({ failed }) => failed !== undefined)).toEqual([]);
    expect(shown(dial).map(({ knownAs }) => knownAs)).toEqual(Array(2).fill(calls[index]?.client.id));
    expect(dial.lines.at(-1)?.handshakes).toBeGreaterThan(10);
  }
}, 60_000);
