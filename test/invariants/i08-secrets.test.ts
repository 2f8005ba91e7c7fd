// I8 secrets: PINs, tokens and keys never in argv, environment, URLs, logs, errors or metrics; files that others can read
// are refused; only hashes are kept; core dumps are off.
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import https from 'node:https';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { readPin } from '../../src/signer/pkcs11/pin.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import { type Authority, initAuthority, joinContent, runVouch, startVouch } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';
import { codeOf } from './support/refusal.ts';

/** Something in a server's environment that its signer has no business with. */
const foreignSecret = 'canary-of-the-environment-5f1c';

let authority: Authority;
let pins: { online: string; root: string };
/** Tokens whose join files were made: used, unused, sent to the wrong places. */
const tokens: string[] = [];
/** Whole join lines that were pasted somewhere. */
const lines: string[] = [];
/** What everything that was answered and printed said. */
const heard: string[] = [];

beforeAll(async () => {
  authority = await initAuthority({
    configure: (config) => {
      config.log = { level: 'debug' };
    },
  });
  pins = { online: pinOf(authority.tokens.online), root: pinOf(authority.tokens.root) };
  // A machine where core dumps are on, as they are on many.
  const wrapper = ['/bin/sh', '-c', 'ulimit -c unlimited 2>/dev/null; exec "$@"', 'sh'];
  await authority.start({ env: { CANARY: foreignSecret }, wrapper });
  await everythingThatWorks();
  await everythingThatFails();
}, 60_000);
afterAll(() => authority.server.end());

function pinOf({ pinFile }: { pinFile: string }): string {
  return readFileSync(pinFile, 'utf8').trim();
}

async function newJoin(name: string): Promise<{ path: string; token: string }> {
  const { path } = await authority.join(name, '--uses', '3');
  const { token } = joinContent(path);
  tokens.push(token);
  return { path, token };
}

/** A day in the life: tokens, enrollment, renewal, a workload, revocation, every list, a backup. */
async function everythingThatWorks(): Promise<void> {
  const { path } = await newJoin('orders');
  const dir = authority.path('w');
  const enrolled = await authority.vouch('enroll', '--join-file', path, '--out', dir);
  const { serial } = enrolled.json<{ serial: string }>();
  const runs = [
    enrolled,
    await authority.vouch('renew', '--dir', dir),
    await authority.vouch('revoke', '--serial', serial, '--reason', 'superseded', '--yes'),
    ...(await Promise.all([
      authority.vouch('token', 'list'),
      authority.vouch('cert', 'list'),
      authority.vouch('explain', serial),
      authority.vouch('audit'),
      authority.vouch('status'),
      authority.vouch('check-config'),
      authority.vouch('doctor'),
      authority.vouch('entry', 'list'),
    ])),
    await authority.vouch('backup', authority.path('backup')),
  ];
  for (const { stdout, stderr } of runs) heard.push(stdout, stderr);
}

/** Whatever a confused client or an attacker does with a token. */
async function everythingThatFails(): Promise<void> {
  const { path, token } = await newJoin('confused');
  const line = readFileSync(path, 'utf8').trim();
  lines.push(line);
  const dir = authority.path('x');
  const { enrollmentUrl, publicationUrl, operationsUrl } = authority.server.ready;
  const json = (value: unknown) => JSON.stringify(value);
  const bodies = [
    token,
    `{"token": ${token}}`,
    `{"evidence": {"type": "join_token", "data": "${token}\n"}}`,
    json({ evidence: { type: 'join_token', data: token } }),
    json({ evidence: { type: 'join_token', data: token }, csr: 'AAAA', binding: { signature: 'AAAA' } }),
    json({
      evidence: { type: token, data: token },
      csr: 'AAAA',
      binding: { signature: 'AAAA' },
    }),
    json({
      evidence: { type: 'join_token', data: `${token}x` },
      csr: 'AAAA',
      binding: { signature: 'AAAA' },
    }),
    json({
      [token]: token,
      evidence: { type: 'join_token', data: token, [token]: 1 },
      csr: token,
      binding: token,
    }),
    json({ evidence: { type: 'jwt', data: token }, csr: 'AAAA', binding: { signature: 'AAAA' } }),
    `[${json(token)}]`,
    '"' + token,
  ];
  for (const body of bodies) heard.push(await post(`${enrollmentUrl}/v1/enroll`, body));
  const routes = [
    `/v1/enroll?token=${token}`,
    `/v1/${token}`,
    `/v1/enroll#${token}`,
    `/${token}/../v1/enroll`,
  ];
  for (const route of routes)
    heard.push(
      await post(`${enrollmentUrl}${route}`, '{}', { authorization: `Bearer ${token}`, cookie: token }),
    );
  for (const base of [publicationUrl, operationsUrl])
    for (const route of [`/${token}`, `/crl/${token}.crl`, `/livez?token=${token}`])
      heard.push(await get(`${base}${route}`));
  heard.push((await authority.vouch('enroll', '--join-file', authority.config, '--out', dir)).stderr);
  for (const pasted of [token, line]) await pastedInTheWrongPlace(pasted);
}

/** An operator who takes the token, or the whole join line, for its name. */
async function pastedInTheWrongPlace(pasted: string): Promise<void> {
  const runs = await Promise.all([
    authority.vouch('token', 'revoke', pasted),
    authority.vouch('token', 'create', '--out', authority.path('x'), '--id', pasted),
    authority.vouch('revoke', '--reason', 'superseded', '--yes', '--token', pasted),
    authority.vouch('cert', 'show', pasted),
    authority.vouch('status', pasted),
    authority.vouch(pasted),
    runVouch(['token', pasted]),
    runVouch(['enroll', '--join-file', pasted, '--out', '/nowhere']),
  ]);
  for (const { stdout, stderr } of runs) heard.push(stdout, stderr);
  // A command line of another version, which sends what it was given.
  const socket = join(authority.state, 'admin.sock');
  for (const [path, body] of [
    ['/v1/tokens/revoke', { tokenId: pasted }],
    ['/v1/tokens', { spiffeId: pasted }],
    ['/v1/entries/resume', { entryId: pasted }],
    ['/v1/revocations', { target: { token: pasted }, reason: 'superseded' }],
    ['/v1/revocations', { target: { serial: pasted }, reason: pasted }],
    ['/v1/backup', { file: `/nowhere/${pasted}` }],
  ] as const)
    await callAdmin(socket, 'POST', path, body).catch(() => undefined);
  await callAdmin(socket, 'GET', `/v1/certificates?token=${pasted}`).catch(() => undefined);
  await callAdmin(socket, 'GET', `/v1/explain/${pasted}`).catch(() => undefined);
}

/** Every place in `haystack` where twelve characters of a secret stand in a row. */
function leaksIn(haystack: string | Buffer, secret: string): string[] {
  const found: string[] = [];
  for (let at = 0; at + 12 <= secret.length; at += 1) {
    const part = secret.slice(at, at + 12);
    if (haystack.includes(part)) found.push(part);
  }
  return found;
}

/** The secret part of a token: `vjt_` and the checksum tell nothing. */
const secretOf = (token: string): string => token.slice(4, -6);

/** The part of a join line that encodes the secret part of its token. */
function secretOfLine(line: string): string {
  const encoded = line.slice('vouch1.'.length);
  const at = Buffer.from(encoded, 'base64url').indexOf('"token":"vjt_') + '"token":"vjt_'.length;
  return encoded.slice(Math.ceil((at * 4) / 3), Math.floor(((at + 43) * 4) / 3));
}

function secrets(): [string, string][] {
  return [
    ['online PIN', pins.online],
    ['root PIN', pins.root],
    ...tokens.map((token, n): [string, string] => [`token ${n}`, secretOf(token)]),
    ...lines.map((line, n): [string, string] => [`join line ${n}`, secretOfLine(line)]),
    ["server's key", keyOf(join(authority.state, 'server/svid.key'))],
  ];
}

/** The part of a P-256 key's PEM that is its private number: 32 bytes behind the 36 that every PKCS#8 begins with. */
function keyOf(pemFile: string): string {
  return readFileSync(pemFile, 'utf8').split('\n').slice(1, -2).join('').slice(48, 90);
}

function expectNone(haystack: string | Buffer, where: string): void {
  for (const [what, secret] of secrets())
    expect(leaksIn(haystack, secret), `${what} in ${where}`).toEqual([]);
}

/** The server, its signer, and whatever else descends from it. */
function processes(): { pid: number; argv: string; environ: string }[] {
  const signer = authority.server.ready.signerPid ?? 0;
  return [authority.server.pid, signer].map((pid) => ({
    pid,
    argv: readFileSync(`/proc/${pid}/cmdline`, 'utf8'),
    environ: readFileSync(`/proc/${pid}/environ`, 'utf8'),
  }));
}

describe('a running server and its signer', () => {
  test('carry no secret in arguments or environment', () => {
    const found = processes();
    expect(found.map(({ argv }) => argv.split('\0').includes('signer'))).toEqual([false, true]);
    for (const { pid, argv, environ } of found) {
      expectNone(argv, `argv of ${pid}`);
      expectNone(environ, `environ of ${pid}`);
    }
  });

  test('share no environment but what the signer needs', () => {
    const [server, signer] = processes();
    expect(server?.environ).toContain(foreignSecret);
    expect(signer?.environ).not.toContain(foreignSecret);
    const names = (signer?.environ ?? '')
      .split('\0')
      .map((line) => line.split('=')[0])
      .filter(Boolean);
    const needed = new Set([
      'PATH',
      'TZ',
      'CREDENTIALS_DIRECTORY',
      'NODE_COMPILE_CACHE',
      'SOFTHSM2_CONF',
      'PWD',
      '_',
      'SHLVL',
    ]);
    expect(names.filter((name) => !needed.has(name ?? ''))).toEqual([]);
  });

  test('write no secret into the log, whatever is sent to them', () => {
    const log = authority.server.stderr;
    expect(authority.server.log().length).toBeGreaterThan(20);
    expectNone(log, 'the log');
  });

  test('show none in an answer, an error, a metric or a list', async () => {
    const { operationsUrl, publicationUrl } = authority.server.ready;
    const urls = [
      `${operationsUrl}/metrics`,
      `${operationsUrl}/readyz`,
      `${operationsUrl}/livez`,
      `${publicationUrl}/bundle.json`,
    ];
    for (const url of urls) heard.push(await get(url));
    expect(heard.length).toBeGreaterThan(30);
    expect(heard.filter((one) => one.includes('"code"')).length).toBeGreaterThan(10);
    for (const one of heard) expectNone(one, one.slice(0, 200));
  });

  test('keep none at rest: of a token only its hash, of a PIN nothing', () => {
    const files = filesBelow(authority.state).filter(
      (file) => !file.endsWith('svid.key') && !file.endsWith('.sock'),
    );
    expect(files.some((file) => file.endsWith('vouch.db-wal') || file.endsWith('vouch.db'))).toBe(true);
    for (const file of [...files, ...filesBelow(authority.folder).filter((one) => /backup-\d+$/.test(one))])
      expectNone(contentOf(file), file);
    const store = openSqliteStore(join(authority.state, 'vouch.db'), { readonly: true });
    for (const token of tokens)
      expect(store.tokenBySecret(createHash('sha256').update(token).digest())?.tokenId).toMatch(/^t_/);
    void store.close();
  });

  test('leave nothing that others can read or write', () => {
    const open = filesBelow(authority.state).filter(
      (file) => ((statSync(file, { throwIfNoEntry: false })?.mode ?? 0) & 0o077) !== 0,
    );
    // Tiles of the log are served to everybody; the folder above keeps others out all the same.
    expect(open.filter((file) => !file.includes('/log/tile/'))).toEqual([]);
    expect(statSync(authority.state).mode & 0o777).toBe(0o700);
  });

  test('know only what is theirs: the server has neither PIN in its memory', () => {
    const memory = memoryOf(authority.server.pid);
    // It is the right memory: the server knows its trust domain.
    expect(memory.includes(authority.trustDomain)).toBe(true);
    for (const pin of [pins.online, pins.root]) expect(memory.includes(pin)).toBe(false);
  });

  test('dump no core: the signer, though the machine would', () => {
    expect(coreLimit(authority.server.ready.signerPid ?? 0)).toBe('0 0');
  });

  test('dump no core: the server, or it says that it would', () => {
    const says = authority.server.log().some((line) => /core dump/.test(JSON.stringify(line)));
    expect(coreLimit(authority.server.pid) === '0 0' || says).toBe(true);
  });
});

describe('a workload', () => {
  test('finds neither token nor key in its own arguments and environment, nor in those of what started it', async () => {
    const { path, token } = await newJoin('billing');
    const dir = authority.path('w');
    const script =
      'for p in self $PPID; do tr "\\0" "\\n" </proc/$p/cmdline; tr "\\0" "\\n" </proc/$p/environ; done';
    const running = startVouch(['exec', '--join-file', path, '--out', dir, '--', '/bin/sh', '-c', script]);
    const { stdout, stderr, code } = await running.ended();
    expect([code, stdout.includes(`VOUCH_DIR=${dir}`)]).toEqual([0, true]);
    for (const secret of [secretOf(token), keyOf(join(dir, 'current/svid.key'))]) {
      expect(leaksIn(stdout, secret)).toEqual([]);
      expect(leaksIn(stderr, secret)).toEqual([]);
    }
  });

  test('finds its key readable by nobody else, and its token nowhere among what was delivered', async () => {
    const { path, token } = await newJoin('shipping');
    const dir = authority.path('w');
    expect((await authority.vouch('enroll', '--join-file', path, '--out', dir)).code).toBe(0);
    const files = filesBelow(dir);
    expect(files.some((file) => file.endsWith('svid.key'))).toBe(true);
    for (const file of files) {
      const content = readFileSync(file, 'utf8');
      expect(leaksIn(content, secretOf(token)), file).toEqual([]);
      if (content.includes('PRIVATE KEY')) expect(statSync(file).mode & 0o777, file).toBe(0o600);
    }
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });
});

describe('a file that others can read is refused', () => {
  const modes = ['640', '604', '660', '644', '666', '620', '601', '777'];

  test.each(modes)('[guard] a PIN file of mode %s, where it is read', async (mode) => {
    const file = join(newFolder(), 'pin');
    writeFileSync(file, 'secret-pin-1234\n', { mode: 0o600 });
    expect(await codeOf(() => readPin(file))).toBe('allowed');
    chmodSync(file, Number.parseInt(mode, 8));
    expect(await codeOf(() => readPin(file))).toBe('config-secret-readable');
  });

  test('[guard] a PIN file behind a link, and a credential of systemd', async () => {
    const folder = newFolder();
    const file = join(folder, 'pin');
    writeFileSync(file, 'secret-pin-1234\n', { mode: 0o600 });
    chmodSync(file, 0o644);
    symlinkSync(file, join(folder, 'link'));
    expect(await codeOf(() => readPin(join(folder, 'link')))).toBe('config-secret-readable');
    expect(await codeOf(() => readPin('credential:pin', { CREDENTIALS_DIRECTORY: folder }))).toBe(
      'config-secret-readable',
    );
  });

  test('a PIN that is no file, none, or two, and no message has a word of it', async () => {
    const folder = newFolder();
    mkdirSync(join(folder, 'folder'));
    const write = (name: string, content: string) => {
      writeFileSync(join(folder, name), content, { mode: 0o600 });
      return join(folder, name);
    };
    const files = [
      join(folder, 'folder'),
      write('empty', ''),
      write('two', 'canary-one\ncanary-two\n'),
      write('long', 'canary'.repeat(99)),
      'credential:../pin',
    ];
    for (const file of files) {
      const thrown = await Promise.resolve()
        .then(() => readPin(file))
        .catch((error: unknown) => error);
      expect(thrown).toBeInstanceOf(Error);
      expect(String(thrown)).not.toContain('canary');
    }
  });

  test('[guard] the PIN file of a server: it does not start, says why, and starts when that is mended', async () => {
    const other = await initAuthority();
    const { pinFile } = other.tokens.online;
    chmodSync(pinFile, 0o640);
    const refused = await other.refusal();
    expect(refused.code).toBe(78);
    expect(refused.problem).toMatchObject({
      code: 'config-secret-readable',
      detail: expect.stringContaining('chmod 600') as unknown,
    });
    expect(refused.stdout).toBe('');
    chmodSync(pinFile, 0o600);
    await other.start();
    expect(await other.server.end()).toBe(0);
  });

  test('[guard] the PIN files of an init: nothing is made', async () => {
    for (const which of ['online', 'root'] as const) {
      const folder = newFolder();
      for (const name of ['online', 'root'] as const) {
        const token = authority.tokens[name];
        const pinFile = join(folder, `${name}.pin`);
        copyFileSync(token.pinFile, pinFile);
        chmodSync(pinFile, name === which ? 0o640 : 0o600);
        writeFileSync(join(folder, `${name}.json`), JSON.stringify({ ...token, pinFile }));
      }
      const files = ['--hsm-file', join(folder, 'online.json'), '--root-hsm-file', join(folder, 'root.json')];
      const state = join(folder, 's');
      const ran = await runVouch([
        'init',
        '--state',
        state,
        '--trust-domain',
        'x.example',
        '--dev',
        '--json',
        ...files,
      ]);
      expect(ran.code).toBe(78);
      expect(ran.problem.code).toBe('config-secret-readable');
      expect(readdirSync(folder)).not.toContain('s');
    }
  });

  test('a join file: the agent does not even connect', async () => {
    const { path } = await newJoin('readable');
    const asked = () => authority.server.log().filter((line) => line.route === '/v1/enroll').length;
    const before = asked();
    for (const mode of ['640', '604', '644']) {
      chmodSync(path, Number.parseInt(mode, 8));
      const ran = await authority.vouch('enroll', '--join-file', path, '--out', authority.path('x'));
      expect([ran.code, ran.problem.code], mode).toEqual([78, 'config-secret-readable']);
    }
    expect(asked()).toBe(before);
  });
});

function coreLimit(pid: number): string {
  const line = readFileSync(`/proc/${pid}/limits`, 'utf8')
    .split('\n')
    .find((one) => one.startsWith('Max core file size'));
  return (line ?? '').replace('Max core file size', '').replace('bytes', '').trim().replaceAll(/\s+/g, ' ');
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile())
    .map((one) => join(one.parentPath, one.name));
}

/** Of a file that a running process has renamed since it was listed nothing: marks are written beside their place first. */
function contentOf(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}

/** What a process has written into its memory: every private writable mapping that can be read. */
function memoryOf(pid: number): Buffer {
  const file = openSync(`/proc/${pid}/mem`, 'r');
  try {
    const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
    return Buffer.concat(maps.flatMap((line) => mapping(file, line)));
  } finally {
    closeSync(file);
  }
}

function mapping(file: number, line: string): Buffer[] {
  const [range = '', rights = ''] = line.split(' ');
  const [from = '0', to = '0'] = range.split('-');
  const start = Number.parseInt(from, 16);
  const size = Number.parseInt(to, 16) - start;
  if (!rights.startsWith('rw') || size > 512 * 1024 * 1024) return [];
  try {
    const bytes = Buffer.alloc(size);
    return [bytes.subarray(0, readSync(file, bytes, 0, size, start))];
  } catch {
    return [];
  }
}

async function post(url: string, body: string, headers: Record<string, string> = {}): Promise<string> {
  const all = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...headers };
  // The answer is what counts here, not who gives it.
  const request = https.request(url, { method: 'POST', headers: all, rejectUnauthorized: false });
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return `${response.statusCode} ${JSON.stringify(response.headers)} ${await text(response)}`;
}

async function get(url: string): Promise<string> {
  const response = await fetch(url);
  return `${response.status} ${JSON.stringify([...response.headers])} ${await response.text()}`;
}
