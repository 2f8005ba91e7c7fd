import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { delimiter, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import * as z from 'zod/mini';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { proxyConfig } from '../../src/config/proxy-config.ts';
import { type Authority, bootAuthority, startVouch, vouchEntry } from '../support/daemon.ts';
import { freePort } from '../support/ports.ts';
import { eventually, type Running, start } from '../support/running.ts';
import { limitMs } from '../support/limits.ts';

// docs/sidecar.md, by the commands that stand there, and `vouch agent proxy` beside files that nobody renews.

const run = promisify(execFile);
const doc = readFileSync(resolve(import.meta.dirname, '../../docs/sidecar.md'), 'utf8');
const blocks = (language: string): string[] =>
  [...doc.matchAll(new RegExp(`^\`\`\`${language}\\n([^\`]+)\`\`\`$`, 'gm'))].map(([, text = '']) => text);

const service = createServer((_request, response) => response.end('served'));
let authority: Authority;
let servicePort: number;

beforeAll(async () => {
  authority = await bootAuthority({ trustDomain: 'prod.example' });
  await new Promise<void>((done) => service.listen(0, '127.0.0.1', done));
  servicePort = (service.address() as AddressInfo).port;
});
afterAll(() => service.close());

/** A `vouch` for a shell, which names the configuration where an operator's verb wants it. */
function shellVouch(): NodeJS.ProcessEnv {
  const bin = authority.path('bin');
  mkdirSync(bin);
  const vouch = `'${process.execPath}' '${vouchEntry}'`;
  const script = `#!/bin/sh\ncase $1 in token|revoke) exec ${vouch} "$@" --config '${authority.config}' ;; esac\nexec ${vouch} "$@"\n`;
  writeFileSync(join(bin, 'vouch'), script);
  chmodSync(join(bin, 'vouch'), 0o755);
  return { PATH: `${bin}${delimiter}${process.env.PATH}` };
}

/** Resolves to the page, or to what curl says where there is none. */
async function curl(port: number): Promise<string> {
  const asked = run('curl', ['-sS', '--max-time', '5', `http://127.0.0.1:${port}/`]);
  return asked.then(
    ({ stdout }) => stdout,
    (error: unknown) => `no page: ${String(error)}`,
  );
}

test('docs/sidecar.md: two services, one way in, one way out, and a revocation that bites', async () => {
  const env = shellVouch();
  const [tokens = '', wayIn = '', wayOut = ''] = blocks('sh');
  const [inPort, outPort] = [await freePort(), await freePort()];
  const here = authority.path('here');
  mkdirSync(here);
  const placed = (script: string): string =>
    script
      .replaceAll('0.0.0.0:8443', `127.0.0.1:${inPort}`)
      .replaceAll('web.internal:8443', `localhost:${inPort}`)
      .replaceAll('127.0.0.1:8080', `127.0.0.1:${servicePort}`)
      .replaceAll('127.0.0.1:8081', `127.0.0.1:${outPort}`)
      .replaceAll('/run/vouch', join(here, 'run'));
  const shell = (script: string): Running => start(['sh', '-ec', placed(script)], { env, cwd: here });

  expect((await shell(tokens).ended()).code).toBe(0);
  const [into, out] = [shell(`exec ${wayIn}`), shell(`exec ${wayOut}`)];
  for (const running of [into, out]) await running.until(({ stdout }) => stdout.includes(' to '));
  expect(await curl(outPort)).toBe('served');

  const session = connect({ host: '127.0.0.1', port: outPort });
  const over = new Promise((done) => void session.once('close', done).on('error', () => undefined));
  session.write('GET / HTTP/1.1\r\nhost: web\r\nconnection: keep-alive\r\n\r\n');
  await new Promise((done) => void session.once('data', done));
  const revoked = await authority.vouch(
    'revoke',
    '--id',
    authority.id('gateway'),
    '--reason',
    'keyCompromise',
    '--yes',
  );
  const from = performance.now();
  expect(revoked.code).toBe(0);
  await over;
  expect(performance.now() - from).toBeLessThan(limitMs(2000));
  expect(into.stderr).toContain(`cut ${authority.id('gateway')}`);
  expect(await curl(outPort)).toContain('no page');
  await into.until(({ stderr }) => stderr.includes('denied-revoked'));
  expect(await into.end('SIGTERM')).toBe(0);
});

test("docs/sidecar.md: the agent's configuration is one", () => {
  const [yaml = ''] = blocks('yaml');
  const { proxy } = parse(yaml) as { proxy: unknown[] };
  expect(proxy.map((one) => z.parse(proxyConfig, one))).toHaveLength(2);
});

describe('vouch agent proxy', () => {
  const proxy = (...args: readonly string[]) => startVouch(['agent', 'proxy', ...args]);

  test('says in JSON when it takes connections, and ends on SIGTERM when those that are open have', async () => {
    const web = await authority.enroll('web', '--allowed-client', authority.id('*'));
    const gateway = await authority.enroll('gateway2');
    const into = proxy(
      '--dir',
      web.dir,
      '--listen',
      '127.0.0.1:0',
      '--to',
      `127.0.0.1:${servicePort}`,
      '--json',
    );
    await into.until(({ stdout }) => stdout.includes('\n'));
    const ready = JSON.parse(into.stdout) as Record<string, unknown>;
    expect(ready).toEqual({
      event: 'ready',
      listen: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      to: `127.0.0.1:${servicePort}`,
      spiffeId: authority.id('web'),
      pid: into.child.pid,
    });
    const expected = ['--expect', authority.id('web'), '--expect', authority.id('other')];
    const out = proxy(
      '--dir',
      gateway.dir,
      '--listen',
      '127.0.0.1:0',
      '--to',
      String(ready.listen),
      ...expected,
      '--json',
    );
    await out.until(({ stdout }) => stdout.includes('\n'));
    const port = Number((JSON.parse(out.stdout) as { listen: string }).listen.split(':')[1]);
    const session = connect({ host: '127.0.0.1', port });
    session.write('GET / HTTP/1.1\r\nhost: web\r\n');
    await eventually(async () => (await curl(port)) === 'served');
    into.child.kill('SIGTERM');
    await eventually(async () => (await curl(port)).includes('no page'));
    let page = '';
    session.on('data', (chunk: Buffer) => {
      page += chunk.toString();
    });
    session.end('connection: close\r\n\r\n');
    await eventually(() => page.includes('served'));
    expect((await into.ended()).code).toBe(0);
    expect(await out.end('SIGTERM')).toBe(0);
  });

  test('says what to set right', async () => {
    const { dir } = await authority.enroll('web3');
    const cases: [string[], number, RegExp][] = [
      [['--listen', '127.0.0.1:0'], 2, /--to is missing/],
      [['--listen', '127.0.0.1', '--to', '127.0.0.1:1'], 2, /--listen must be HOST:PORT/],
      [
        ['--listen', '0.0.0.0:0', '--to', 'db:1', '--expect', authority.id('db')],
        2,
        /--listen is reached by other machines/,
      ],
      [
        ['--listen', '127.0.0.1:0', '--to', '127.0.0.1:1', '--allow', 'web'],
        2,
        /--allow must be a SPIFFE ID/,
      ],
      [['--listen', '127.0.0.1:0', '--to', '127.0.0.1:1', '--connections', 'many'], 2, /--connections/],
      [
        ['--listen', '127.0.0.1:0', '--to', '127.0.0.1:1', '--dir', authority.folder],
        78,
        /no delivered certificate/,
      ],
      [
        ['--listen', `127.0.0.1:${servicePort}`, '--to', '127.0.0.1:1', '--dir', dir],
        78,
        /cannot listen on .* in use/,
      ],
    ];
    for (const [args, code, said] of cases) {
      const ran = await proxy(...args).ended();
      expect(ran.stderr).toMatch(said);
      expect(ran.code).toBe(code);
    }
  });
});
