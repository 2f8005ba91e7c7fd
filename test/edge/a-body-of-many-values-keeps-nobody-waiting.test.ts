// What is in a body decides how long it takes to read, not only its size.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type ErrorRequestHandler } from 'express';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { jsonUpTo, parseBody } from '../../src/http/parse.ts';
import { failureOf } from '../../src/http/request-context.ts';
import { svidsMax, svidsRequestMaxBytes, svidsRequestSchema } from '../../src/wire/agent.ts';
import { longestTurnMs } from '../support/turns.ts';

let server: Server;
let url: string;

beforeAll(async () => {
  const app = express();
  const refused: ErrorRequestHandler = (error, _request, response, _next) => {
    response.status(400).send(failureOf(error).code);
  };
  app.post('/', ...jsonUpTo(svidsRequestMaxBytes), (request, response) => {
    response.send(String(parseBody(svidsRequestSchema, request.body).requests.length));
  });
  app.use(refused);
  server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});
afterAll(() => void server.close());

async function post(body: string | Buffer, type = 'application/json'): Promise<string> {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': type }, body });
  return answer.text();
}

const item = { entryId: 'e_0123456789abcdef', csr: 'A'.repeat(1900), predecessor: '2a'.repeat(17) };
const keys = Array.from({ length: 80_000 }, (_, at) => `"k${at}":1`).join();

it('as many certificates as can be asked for at once', async () => {
  const checkpoint = 'example.org/log\n1000000\nAAAA\n\n— example.org AAAA\n';
  const body = { requests: Array.from({ length: svidsMax }, () => item), treeSize: 1_000_000, checkpoint };
  expect(await post(JSON.stringify(body))).toBe(String(svidsMax));
});

it.each<[string, string]>([
  ['a number', `{"requests":[${'1,'.repeat(500_000)}1]}`],
  ['an object', `{"requests":[${'{},'.repeat(340_000)}{}]}`],
  ['an array in an array', `{"requests":${'['.repeat(500_000)}${']'.repeat(500_000)}}`],
  ['a key of an item', `{"requests":[{"entryId":"e","csr":"x",${keys}}]}`],
  ['a key', `{"requests":[],${keys}}`],
])('hundreds of thousands of times %s takes less than 20 ms', async (_what, body) => {
  expect(body.length).toBeLessThan(svidsRequestMaxBytes);
  const turns = [];
  for (let round = 0; round < 3; round += 1)
    turns.push(
      await longestTurnMs(async () => {
        expect(await post(body)).toBe('request-malformed');
      }),
    );
  expect(Math.min(...turns)).toBeLessThan(20);
});

it('in another encoding than UTF-8, which could hide them, it is refused', async () => {
  expect(await post('{"requests":+AFs-+AF0-}', 'application/json; charset=utf-7')).toBe('request-malformed');
  const utf16 = Buffer.from(JSON.stringify({ requests: [item] }), 'utf16le');
  expect(await post(utf16, 'application/json; charset=utf-16le')).toBe('request-malformed');
});
