import { describe, expect, test } from 'vitest';
import * as z from 'zod/mini';
import { problemsOf } from '../../src/config/config-problem.ts';
import { addressText, proxyConfig } from '../../src/config/proxy-config.ts';

const web = 'spiffe://prod.example/web';
const wayIn = { id: web, listen: '0.0.0.0:8443', to: '127.0.0.1:8080' };
const wayOut = {
  id: web,
  listen: '127.0.0.1:5433',
  to: 'db.internal:5432',
  expect: 'spiffe://prod.example/db',
};

/** `path: problem` of each. */
function problems(document: unknown): string[] {
  const parsed = z.safeParse(proxyConfig, document);
  if (parsed.success) return [];
  return parsed.error.issues.flatMap(problemsOf).map(({ path, problem }) => `${path}: ${problem}`);
}

test('a way in and a way out, with their defaults', () => {
  expect(z.parse(proxyConfig, wayIn)).toEqual({
    id: web,
    listen: { host: '0.0.0.0', port: 8443 },
    to: { host: '127.0.0.1', port: 8080 },
    listenAnywhere: false,
    socketMode: 0o600,
    proxyProtocol: false,
    alpn: [],
    limits: {
      connections: 10_000,
      handshakes: 512,
      handshakesPerSource: 64,
      handshake: 5,
      connect: 5,
      halfClosed: 300,
    },
  });
  const { listen, expect: expected } = z.parse(proxyConfig, { ...wayOut, listen: 'unix:/run/db.sock' });
  expect(listen).toEqual({ path: '/run/db.sock' });
  expect(expected).toEqual(['spiffe://prod.example/db']);
});

test('addresses are written as they are read', () => {
  for (const text of ['[::1]:80', '10.0.0.1:1', 'db.internal:5432', 'unix:/run/app.sock'])
    expect(addressText(z.parse(proxyConfig, { ...wayIn, to: text }).to)).toBe(text);
});

describe('a way out listens where only this machine reaches it:', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', '[::1]', 'localhost'])
    test(`${host} is fine`, () => expect(problems({ ...wayOut, listen: `${host}:1` })).toEqual([]));
  for (const host of [
    '0.0.0.0',
    '[::]',
    '10.0.0.1',
    '[::ffff:10.0.0.1]'.replace('10.0.0.1', 'a00:1'),
    'app.internal',
  ])
    test(`${host} is not, unless it is meant`, () => {
      expect(problems({ ...wayOut, listen: `${host}:1` })).toEqual([
        expect.stringMatching(/^listen: .*listenAnywhere/),
      ]);
      expect(problems({ ...wayOut, listen: `${host}:1`, listenAnywhere: true })).toEqual([]);
    });
});

describe('refused:', () => {
  const cases: Record<string, [Record<string, unknown>, RegExp]> = {
    'no identity': [{ ...wayIn, id: undefined }, /^id: must be there/],
    'two identities': [{ ...wayIn, entry: 'e_1' }, /^id: .*one of them/],
    'an id that is none': [{ ...wayIn, id: 'spiffe://prod.example' }, /^id: must be a SPIFFE ID/],
    'an allow that is none': [
      { ...wayIn, allow: ['spiffe://prod.example/../x'] },
      /^allow\.0: must be a SPIFFE ID/,
    ],
    'a prefix in expect': [{ ...wayOut, expect: ['spiffe://prod.example/*'] }, /^expect/],
    'an empty expect': [{ ...wayOut, expect: [] }, /^expect/],
    'allow and expect': [{ ...wayOut, allow: [web] }, /^allow: .*one of them/],
    'mTLS on a unix socket': [{ ...wayIn, listen: 'unix:/run/in.sock' }, /^listen: .*TCP/],
    'mTLS to a unix socket': [{ ...wayOut, to: 'unix:/run/in.sock' }, /^to: .*TCP/],
    'a way out that tells who calls': [{ ...wayOut, proxyProtocol: 'v2' }, /^proxyProtocol/],
    'no port': [{ ...wayOut, listen: '127.0.0.1' }, /^listen: must be HOST:PORT/],
    'nowhere to go': [{ ...wayIn, to: undefined }, /^to: is missing/],
    'a port past the last': [{ ...wayIn, listen: '127.0.0.1:65536' }, /^listen: .*65535/],
    'port 0 to go to': [{ ...wayIn, to: '127.0.0.1:0' }, /^to: .*above 0/],
    'a socket mode that is a number': [{ ...wayOut, socketMode: 384 }, /^socketMode/],
    'a misspelt key': [{ ...wayIn, alow: [] }, /^alow: .*not a key/],
  };
  for (const [what, [document, problem]] of Object.entries(cases))
    test(`of a proxy: ${what}`, () => expect(problems(document).join('\n')).toMatch(problem));
});
