import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { verifyPublished } from '../../src/audit/verify-published.ts';
import { FakeClock } from '../fakes/clock.ts';
import { type Authority, bootAuthority, runVouch } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { createToken } from './state-copies.ts';

type Answer = { status: number; body: Buffer };
/** What a mirror between the auditor and the authority makes of an answer. */
type Bend = (path: string, answer: Answer) => Answer;

const asIs: Bend = (_path, answer) => answer;
let authority: Authority;
let mirror: http.Server;
let url: string;
let rootPin: string;
let bend: Bend;
let asked: string[];
/** Paths and bytes of the mirror's answers do not change while it bends them. */
const kept = new Map<string, Answer>();

beforeAll(async () => {
  authority = await bootAuthority();
  const base = authority.server.ready.publicationUrl;
  await Promise.all(Array.from({ length: 300 }, (_, i) => createToken(authority, `many/${i}`)));
  rootPin = (await authority.vouch('status')).json<{ rootPin: string }>().rootPin;
  const size = async () => Number((await (await fetch(`${base}/log/checkpoint`)).text()).split('\n')[1]);
  await eventually(async () => (await size()) > 300);
  mirror = http.createServer((request, response) => {
    const path = request.url ?? '';
    asked.push(path);
    void (async () => {
      const fetched = kept.get(path) ?? (await answerOf(`${base}${path}`));
      kept.set(path, fetched);
      const { status, body } = bend(path, { status: fetched.status, body: Buffer.from(fetched.body) });
      response.writeHead(status).end(body);
    })();
  });
  await new Promise<void>((listening) => mirror.listen(0, '127.0.0.1', listening));
  url = `http://127.0.0.1:${(mirror.address() as AddressInfo).port}`;
}, 60_000);
afterAll(() => void mirror.close());
beforeEach(() => {
  bend = asIs;
  asked = [];
});

async function answerOf(address: string): Promise<Answer> {
  const fetched = await fetch(address);
  return { status: fetched.status, body: Buffer.from(await fetched.arrayBuffer()) };
}

const verify = (clock = new FakeClock(Date.now())) =>
  verifyPublished({ url, rootPin, clock, progress: () => undefined });

test('what the authority publishes has no problem, and all of it was looked at', async () => {
  const result = await verify();
  expect(result).toMatchObject({ problems: [], certificates: 0, revocations: 0 });
  expect(result.treeSize).toBeGreaterThan(300);
  expect(asked).toContain('/log/tile/0/000');
  expect(asked.some((path) => /^\/log\/tile\/0\/001\.p\/\d+$/.test(path))).toBe(true);
  expect(asked).toContain('/log/tile/1/000.p/1');
  expect(asked.some((path) => path.endsWith('.crl'))).toBe(true);
});

const at =
  (path: RegExp, change: (answer: Answer) => Answer): Bend =>
  (asks, answer) =>
    path.test(asks) ? change(answer) : answer;
const missing = (): Answer => ({ status: 404, body: Buffer.from('{}') });
const flipped = ({ status, body }: Answer): Answer => ({ status, body: body.fill((body[5] ?? 0) ^ 1, 5, 6) });
const lastFlipped = ({ status, body }: Answer): Answer => {
  body[body.length - 1] = (body.at(-1) ?? 0) ^ 1;
  return { status, body };
};
const cut = ({ status, body }: Answer): Answer => ({ status, body: body.subarray(0, 20) });
const text =
  (from: RegExp | string, to: string) =>
  ({ status, body }: Answer): Answer => ({
    status,
    body: Buffer.from(body.toString('latin1').replace(from, to), 'latin1'),
  });

describe('what is published wrongly is a problem:', () => {
  test.each<[string, Bend, RegExp]>([
    ['a tile that is missing', at(/tile\/0\/000$/, missing), /tile\/0\/000.*404/],
    ['a tile that was changed', at(/tile\/0\/000$/, flipped), /root over the tiles/],
    ['a tile cut short', at(/tile\/0\/000$/, cut), /tile\/0\/000.*20 bytes/],
    ['a tile of level 1 that is missing', at(/tile\/1\/000/, missing), /tile\/1\/000.*404/],
    ['a tile of level 1 that was changed', at(/tile\/1\/000/, flipped), /tile\/1\/000.*differs/],
    ['a checkpoint that is missing', at(/checkpoint$/, missing), /checkpoint.*404/],
    ['a checkpoint of another size', at(/checkpoint$/, text(/\n\d+\n/, '\n7\n')), /checkpoint.*signature/],
    ['a bundle that is missing', at(/bundle\.json$/, missing), /bundle\.json.*404/],
    [
      'a bundle that is no JSON',
      at(/bundle\.json$/, () => ({ status: 200, body: Buffer.from('{') })),
      /bundle\.json/,
    ],
    [
      'a bundle that is no bundle',
      at(/bundle\.json$/, () => ({ status: 200, body: Buffer.from('{}') })),
      /bundle\.json/,
    ],
    [
      'a statement that was changed',
      at(/bundle\.json$/, text(/"vouch_statement":"(\w+)\./, '"vouch_statement":"$1.A')),
      /statement/,
    ],
    ["the root's CRL missing", at(/\.crl$/, missing), /\.crl.*404/],
    ["the root's CRL changed", at(/\.crl$/, lastFlipped), /\.crl.*signature/],
    ["the root's CRL cut short", at(/\.crl$/, cut), /\.crl/],
  ])('%s', async (_what, bent, says) => {
    bend = bent;
    const { problems } = await verify();
    expect(
      problems.some((problem) => says.test(problem)),
      JSON.stringify(problems),
    ).toBe(true);
  });

  test('a statement and a CRL that have expired', async () => {
    const { problems } = await verify(new FakeClock(Date.now() + 3 * 365 * 86_400_000));
    expect(problems).toEqual([
      expect.stringMatching(/^the root's statement expired at /),
      expect.stringMatching(/\.crl: it is past its nextUpdate/),
    ]);
  });
});

test('problems end the verb with exit 1 and the result on stdout; a server that is away with 75', async () => {
  bend = at(/tile\/0\/000$/, missing);
  const found = await runVouch(['log', 'verify', '--url', url, '--root-pin', rootPin, '--json']);
  expect(found.code).toBe(1);
  expect(JSON.parse(found.stdout)).toMatchObject({ problems: [expect.stringContaining('tile/0/000')] });
  bend = at(/tile\/0\/000$/, () => ({ status: 503, body: Buffer.alloc(0) }));
  expect((await runVouch(['log', 'verify', '--url', url, '--root-pin', rootPin, '--json'])).code).toBe(75);
  const nobody = ['log', 'verify', '--url', 'http://127.0.0.1:9', '--root-pin', rootPin, '--json'];
  expect((await runVouch(nobody)).code).toBe(75);
});

test('another authority than the pinned one is refused', async () => {
  const pin = `sha256:${'0'.repeat(64)}`;
  const ran = await runVouch(['log', 'verify', '--url', url, '--root-pin', pin, '--json']);
  expect([ran.code, ran.problem.code]).toEqual([1, 'denied-server']);
});
