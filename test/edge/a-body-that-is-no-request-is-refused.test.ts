import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { type Answer, dial, enroll, enrollBody, post, problemIn, send } from './client.ts';
import { limitMs } from '../support/limits.ts';

let authority: Authority;
let url: string;
let joinFile: string;
let good: Record<string, unknown>;

beforeAll(async () => {
  authority = await bootAuthority({
    configure: ({ enrollment }) => {
      enrollment.failuresPerMinute = 100_000;
    },
  });
  url = authority.server.ready.enrollmentUrl;
  joinFile = (await authority.join('orders', '--uses', '2')).path;
  const socket = await dial(url);
  good = enrollBody(socket, joinFile);
  socket.destroy();
});

/** Nothing of how it is built may show: no stack, no file, no library. */
const inside =
  /\.[tj]s\b|node_modules|\n\s+at |SyntaxError|TypeError|RangeError|JSON at position|zod|express|sqlite|dist\//i;

/** A problem of this status within 200 ms, the best of three, that shows nothing of the inside. */
async function expectProblem(ask: () => Promise<Answer>, status: number, code: string): Promise<void> {
  const answers = [await ask(), await ask(), await ask()];
  for (const answer of answers) {
    const problem = problemIn(answer);
    expect(problem).toMatchObject({ status, code, type: `urn:vouch:problem:${code}` });
    expect(answer.status).toBe(status);
    expect(problem.requestId).toBe(answer.headers['x-request-id']);
    expect(answer.text).not.toMatch(inside);
    expect(answer.headers['x-powered-by']).toBeUndefined();
    expect(answer.headers['cache-control']).toBe('no-store');
  }
  expect(Math.min(...answers.map(({ ms }) => ms))).toBeLessThan(limitMs(200));
}

const paths = ['/v1/enroll', '/v1/challenge'];
const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
const objects = (depth: number) => '{"a":'.repeat(depth) + '1' + '}'.repeat(depth);

describe.each(paths)('%s', (path) => {
  it.each<[string, string | Buffer]>([
    ['garbage', '}{'],
    ['half of it', '{"evidence": {"type": "join_tok'],
    ['null', 'null'],
    ['an array', '[]'],
    ['a string', '"csr"'],
    ['a number', '1e400'],
    ['two values', '{} {}'],
    ['NUL bytes', Buffer.alloc(100)],
    ['bytes that are no UTF-8', Buffer.from('{"a":"\xff\xfe"}', 'latin1')],
    ['UTF-16', Buffer.from('{}', 'utf16le')],
    ['an unknown key', '{"frobnicate":1}'],
    ['__proto__ as a key', '{"__proto__":{"polluted":true}}'],
    ['constructor as a key', '{"constructor":{"prototype":{"polluted":true}}}'],
    ['5,000 keys', `{${Array.from({ length: 5000 }, (_, at) => `"k${at}":1`).join()}}`],
    ['arrays 30,000 deep', nested(30_000)],
    ['objects 10,000 deep', objects(10_000)],
  ])('%s', async (_name, body) => {
    await expectProblem(() => post(url, path, body), 400, 'request-malformed');
  });

  it.each([
    ['text/plain', {}],
    ['application/x-www-form-urlencoded', {}],
    ['application/xml', {}],
    ['application/json; charset=utf-16', {}],
    ['application/json; charset=nonsense', {}],
    ['', {}],
    ['application/json', { 'content-encoding': 'nonsense' }],
    ['application/json', { 'content-encoding': 'gzip' }],
    ['application/json', { 'content-encoding': 'br' }],
  ])('of the type %j %j', async (type, headers) => {
    await expectProblem(
      () => post(url, path, '{"a":1}', { headers: { 'content-type': type, ...headers } }),
      400,
      'request-malformed',
    );
  });

  it.each<[string, string | Buffer, Record<string, string>]>([
    ['a byte more than 64 KiB', `"${'a'.repeat(64 * 1024 - 1)}"`, {}],
    ['a megabyte', 'a'.repeat(1 << 20), {}],
    ['a megabyte in chunks', 'a'.repeat(1 << 20), { 'transfer-encoding': 'chunked' }],
  ])('%s', async (_name, body, headers) => {
    await expectProblem(() => post(url, path, body, { headers }), 413, 'request-too-large');
  });

  it('60 MB in 60 KB of gzip are not inflated', async () => {
    const bomb = gzipSync(Buffer.alloc(60 << 20, 32));
    expect(bomb.length).toBeLessThan(64 * 1024);
    const headers = { 'content-encoding': 'gzip' };
    await expectProblem(() => post(url, path, bomb, { headers }), 400, 'request-malformed');
  });

  it('a length of 10 GB is refused before a byte of it comes', async () => {
    const socket = await dial(url);
    const heads = `POST ${path} HTTP/1.1\r\nhost: vouch\r\ncontent-type: application/json\r\ncontent-length: 10000000000\r\n\r\n`;
    const started = performance.now();
    socket.write(heads);
    const [head] = await new Promise<Buffer[]>((done) => socket.once('data', (data) => done([data])));
    expect(head?.toString()).toMatch(/^HTTP\/1\.1 413 /);
    expect(performance.now() - started).toBeLessThan(limitMs(1000));
    socket.destroy();
  });
});

describe('an enrollment', () => {
  const without = (name: string) => Object.fromEntries(Object.entries(good).filter(([key]) => key !== name));
  it.each<[string, () => unknown]>([
    ['without evidence', () => without('evidence')],
    ['without a CSR', () => without('csr')],
    ['without a binding', () => without('binding')],
    ['with a key too many', () => ({ ...good, more: 1 })],
    [
      'with a key too many in its evidence',
      () => ({ ...good, evidence: { ...(good.evidence as object), more: 1 } }),
    ],
    [
      'with a key too many in its binding',
      () => ({ ...good, binding: { ...(good.binding as object), more: 1 } }),
    ],
    ['with a number for evidence', () => ({ ...good, evidence: 1 })],
    ['with an array for evidence', () => ({ ...good, evidence: [] })],
    ['with an object for a CSR', () => ({ ...good, csr: {} })],
    ['with a CSR that is no base64', () => ({ ...good, csr: '***' })],
    ['with a CSR in base64url', () => ({ ...good, csr: '-_-_' })],
    ['with a CSR of base64 with line ends', () => ({ ...good, csr: 'AAAA\nAAAA' })],
    ['with a CSR of 17 KiB', () => ({ ...good, csr: Buffer.alloc(17 * 1024).toString('base64') })],
    [
      'with a signature of 2 KiB',
      () => ({ ...good, binding: { signature: Buffer.alloc(2048).toString('base64') } }),
    ],
    [
      'with a nonce of 64 bytes',
      () => ({
        ...good,
        binding: { ...(good.binding as object), nonce: Buffer.alloc(64).toString('base64') },
      }),
    ],
    ['of nothing at all', () => ''],
    ['with a type in capitals', () => ({ ...good, evidence: { type: 'JOIN_TOKEN', data: 'x' } })],
    ['with empty evidence', () => ({ ...good, evidence: { type: 'join_token', data: '' } })],
    [
      'with evidence of 33 KiB',
      () => ({ ...good, evidence: { type: 'join_token', data: 'a'.repeat(33 * 1024) } }),
    ],
    ['with a tree of less than nothing', () => ({ ...good, treeSize: -1 })],
    ['with half a leaf', () => ({ ...good, treeSize: 1.5 })],
    ['with a tree beyond counting', () => ({ ...good, treeSize: 1e300 })],
    ['with a tree in words', () => ({ ...good, treeSize: 'many' })],
  ])('%s', async (_name, body) => {
    await expectProblem(() => post(url, '/v1/enroll', body()), 400, 'request-malformed');
  });

  it('with evidence of a type that nobody attests', async () => {
    const body = { ...good, evidence: { type: 'palm_reading', data: 'x' } };
    await expectProblem(() => post(url, '/v1/enroll', body), 400, 'request-unknown-type');
  });

  it('with a token that is none', async () => {
    const body = { ...good, evidence: { type: 'join_token', data: 'vjt_x' } };
    await expectProblem(() => post(url, '/v1/enroll', body), 401, 'denied-evidence');
  });

  it('bound to another connection', async () => {
    await expectProblem(() => post(url, '/v1/enroll', good), 400, 'request-binding');
  });

  it('names what is wrong', async () => {
    const detail = async (body: unknown) => problemIn(await post(url, '/v1/enroll', body)).detail;
    expect(await detail(without('csr'))).toBe('csr: is missing or of another type');
    expect(await detail({ ...good, more: 1 })).toMatch(/not known here/);
    expect(await detail({ ...good, evidence: { type: 'join_token', data: '' } })).toMatch(
      /^evidence\.data: /,
    );
  });
});

it('after all of it the server is alive, its prototypes are clean, and the token is unspent', async () => {
  expect(authority.server.code).toBeUndefined();
  for (const one of [await enroll(url, joinFile), await enroll(url, joinFile)]) {
    expect(one.status).toBe(200);
    expect(one.text).not.toContain('polluted');
  }
  expect((await enroll(url, joinFile)).status).toBe(409);
  const errors = authority.server.log().filter((line) => line.level === 'error');
  expect(errors).toEqual([]);
});

it('requests one after the other on one connection are answered, the bad beside the good', async () => {
  const { path } = await authority.join('keep-alive');
  const socket = await dial(url);
  const json = { 'content-type': 'application/json' };
  const bad = await send(socket, { body: '}{', headers: json }, true);
  expect(bad.status).toBe(400);
  const ok = await send(socket, { body: JSON.stringify(enrollBody(socket, path)), headers: json }, true);
  expect(ok.status).toBe(200);
  socket.destroy();
});
