import { createHash, X509Certificate } from 'node:crypto';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, joinContent } from '../support/daemon.ts';
import { type Answer, dial, enroll, enrollBody, post, problemIn, send } from './client.ts';

let authority: Authority;
let url: string;

beforeAll(async () => {
  authority = await bootAuthority();
  url = authority.server.ready.enrollmentUrl;
});

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const ask = (headers: Record<string, string>): Promise<Answer> => post(url, '/v1/enroll', {}, { headers });
/** The lines of one request, once the last of them is there. */
const linesOf = (requestId: string) =>
  authority.server.until((server) => {
    const lines = server.log().filter((line) => line.requestId === requestId);
    return lines.some((line) => line.msg === 'answered') && lines;
  });
const idOf = ({ headers }: Answer) => String(headers['x-request-id']);

it('an id that the peer sends comes back in header and problem, and stands in every line of the log', async () => {
  const answer = await ask({ 'x-request-id': 'job-17_a.b' });
  expect(idOf(answer)).toBe('job-17_a.b');
  expect(problemIn(answer).requestId).toBe('job-17_a.b');
  const lines = await linesOf('job-17_a.b');
  expect(lines.map((line) => line.msg)).toEqual(['refused', 'answered']);
  expect(lines[1]).toMatchObject({
    listener: 'enrollment',
    method: 'POST',
    route: '/v1/enroll',
    status: 400,
    ms: expect.any(Number) as unknown,
  });
});

it.each(['', ' ', 'a b', 'a\tb', 'ä', '{"level":"fatal"}', '../../etc', 'a'.repeat(65), '$(id)', '<script>'])(
  'one like %j is replaced by ours',
  async (given) => {
    const answer = await ask({ 'x-request-id': given });
    expect(idOf(answer)).toMatch(uuid);
    expect(problemIn(answer).requestId).toBe(idOf(answer));
  },
);

it('two requests never share one of ours', async () => {
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask({})));
  expect(new Set(answers.map(idOf)).size).toBe(20);
});

const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
const parent = '00f067aa0ba902b7';

it.each([`00-${trace}-${parent}-01`, `cc-${trace}-${parent}-01`, `cc-${trace}-${parent}-01-more`])(
  'a traceparent such as %s is logged by its trace id',
  async (traceparent) => {
    const traced = await ask({ traceparent });
    expect((await linesOf(idOf(traced))).at(-1)).toMatchObject({ traceId: trace });
  },
);

it.each([
  '00-xyz',
  `00-${trace}-${parent}`,
  `00-${trace}-${parent}-01-more`,
  `ff-${trace}-${parent}-01`,
  `00-${'0'.repeat(32)}-${parent}-01`,
  `00-${trace}-${'0'.repeat(16)}-01`,
  `00-${trace.toUpperCase()}-${parent}-01`,
  '"}{',
])('one such as %s is not', async (traceparent) => {
  const answer = await ask({ traceparent });
  expect((await linesOf(idOf(answer))).at(-1)).not.toHaveProperty('traceId');
});

it('every line names the address it came from, and a refusal the token it was about', async () => {
  const { path, tokenId } = await authority.join('used');
  expect((await enroll(url, path)).status).toBe(200);
  const stolen = await enroll(url, path);
  expect(problemIn(stolen).code).toBe('policy-key-conflict');
  const lines = await linesOf(idOf(stolen));
  expect(lines.map((line) => line.msg)).toEqual(['refused', 'answered']);
  for (const line of lines) expect(line).toMatchObject({ peerAddress: '127.0.0.1', tokenId });
  expect(JSON.stringify(lines)).not.toContain(joinContent(path).token);
});

it('a line of the admin socket names the operator', async () => {
  (await authority.vouch('status')).json();
  const line = authority.server.log().find(({ listener }) => listener === 'admin');
  expect(line).toMatchObject({ operator: `uid:${process.getuid?.()}` });
  expect(line).not.toHaveProperty('peerAddress');
});

it('the id of an enrollment stands in the decision that `vouch explain` shows, and its token nowhere', async () => {
  const { path } = await authority.join('orders');
  const socket = await dial(url);
  const headers = { 'content-type': 'application/json', 'x-request-id': 'deploy-42' };
  const answer = await send(socket, { body: JSON.stringify(enrollBody(socket, path)), headers });
  const { chain } = JSON.parse(answer.text) as { chain: string[] };
  const { serialNumber } = new X509Certificate(Buffer.from(chain[0] ?? '', 'base64'));
  const { token } = joinContent(path);
  const explained = await authority.vouch('explain', serialNumber.toLowerCase());
  expect(explained.json()).toMatchObject({
    decision: {
      kind: 'enrollment',
      requestId: 'deploy-42',
      spiffeId: authority.id('orders'),
      profile: 'default',
      profileSha256: expect.stringMatching(/^[0-9a-f]{64}$/) as unknown,
      evidenceSha256: createHash('sha256').update(`join_token\0${token}`).digest('hex'),
    },
  });
  expect(explained.stdout + answer.text + authority.server.stderr).not.toContain(token);
});

it('every line of the log is one JSON object, whatever peers send', async () => {
  await post(url, '/v1/enroll', '{"evidence":"\\n{\\"level\\":\\"fatal\\"}"}', {
    headers: { 'user-agent': 'x"}' },
  });
  const lines = authority.server.stderr.trim().split('\n');
  for (const line of lines) expect(() => JSON.parse(line) as unknown, line).not.toThrow();
  expect(authority.server.log().filter((line) => line.level === 'fatal')).toEqual([]);
});
