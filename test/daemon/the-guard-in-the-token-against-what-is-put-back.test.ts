import { cpSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { beforeAll, beforeEach, expect, it } from 'vitest';
import { type Authority, bootAuthority, newToken, type Workload } from '../support/daemon.ts';
import { pkcs11Tool } from '../support/pkcs11-tool.ts';

let authority: Authority;
let workload: Workload;
let stateThen: string;
let tokenThen: string;

const tokenFolder = (): string => dirname(authority.tokens.online.pinFile);

function putBack(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  cpSync(from, to, { recursive: true });
}

beforeAll(async () => {
  authority = await bootAuthority();
  workload = await authority.enroll('orders');
  await authority.server.end();
  stateThen = authority.path('state-then');
  tokenThen = authority.path('token-then');
  cpSync(authority.state, stateThen, { recursive: true });
  cpSync(tokenFolder(), tokenThen, { recursive: true });
  await authority.start();
  expect((await authority.vouch('renew', '--dir', workload.dir)).code).toBe(0);
  await authority.enroll('since');
  await authority.server.end();
}, 60_000);

let stateNow: string;
let tokenNow: string;

/** Each begins with the server stopped, whatever became of the last one, state and token as they last were. */
beforeEach(async () => {
  await authority.server.end();
  if (stateNow) {
    putBack(stateNow, authority.state);
    putBack(tokenNow, tokenFolder());
    return;
  }
  stateNow = authority.path('state-now');
  tokenNow = authority.path('token-now');
  cpSync(authority.state, stateNow, { recursive: true });
  cpSync(tokenFolder(), tokenNow, { recursive: true });
});

it('a state of then with the token of now, whose guard alone can tell: refused, and what to do', async () => {
  putBack(stateThen, authority.state);
  const refused = await authority.refusal();
  expect([refused.code, refused.problem.code]).toEqual([1, 'integrity-rewind']);
  expect(refused.problem.detail).toMatch(
    /signed \d+: the state was put back; bring the newer state, or use `vouch restore`/,
  );
});

it('a token of then with the state of now loses nothing: it starts, and brings the guard up again', async () => {
  putBack(tokenThen, tokenFolder());
  await authority.start();
  await authority.enroll('later');
  await authority.server.end();
  // From now on a state of then is refused again.
  putBack(stateThen, authority.state);
  expect((await authority.refusal()).problem.code).toBe('integrity-rewind');
});

it('both of then look true here; one who saw the log since stops the issuing, over restarts too', async () => {
  putBack(stateThen, authority.state);
  putBack(tokenThen, tokenFolder());
  await authority.start();
  const renewed = await authority.vouch('renew', '--dir', workload.dir);
  expect([renewed.code, renewed.problem.code]).toEqual([1, 'denied-certificate']);
  const problems = async () => (await authority.vouch('status')).json<{ problems: string[] }>().problems;
  expect(await problems()).toEqual([expect.stringMatching(/an agent has seen \d+ leaves.*it was set back/)]);
  await authority.server.end();
  await authority.start();
  expect(await problems()).toEqual([expect.stringMatching(/it was set back/)]);
  await authority.server.end();
});

it('another token of the same label is not taken for it', async () => {
  rmSync(tokenFolder(), { recursive: true });
  await newToken(authority.folder, 'online');
  await authority.start();
  const { problems } = (await authority.vouch('status')).json<{ problems: string[] }>();
  expect(problems[0]).toMatch(
    /shows no token online \(serial [0-9a-f]+\); it shows online \(serial [0-9a-f]+\)/,
  );
  await authority.server.end();
});

it('a token whose guards were taken away is refused: was it exchanged?', async () => {
  const { online } = authority.tokens;
  for (let left = 2; left > 0; left -= 1)
    pkcs11Tool(online, '--delete-object', '--type', 'data', '--label', 'vouch-guard');
  const refused = await authority.refusal();
  expect([refused.code, refused.problem.code]).toEqual([1, 'integrity-state']);
  expect(refused.problem.detail).toMatch(
    /holds no guard for this log.* was the token exchanged\? Use `vouch restore`/,
  );
});
