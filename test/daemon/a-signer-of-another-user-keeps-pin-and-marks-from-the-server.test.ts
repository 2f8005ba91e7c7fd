import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, initAuthority, runVouch } from '../support/daemon.ts';
import { eventually, type Ran, type Running } from '../support/running.ts';
import { give, Stage, unusedUids, type User } from '../support/users.ts';

/** The signer's part of a state that `vouch init` made, taken apart as deploy/systemd/README.md says. */
interface Split {
  state: string;
  config: string;
  socket: string;
  pinFile: string;
  credentials: string;
  floor: string;
}

const [serverUid = 0, signerUid = 0, strangerUid = 0] = unusedUids(3);
const server: User = { uid: serverUid, groups: [signerUid] };
const signer: User = { uid: signerUid, groups: [] };
const stranger: User = { uid: strangerUid, groups: [] };

let authority: Authority;
let stage: Stage;
let split: Split;
let signing: Running;
let serving: Running;

function apart(): Split {
  const state = join(authority.folder, 'v-signer');
  mkdirSync(state, { mode: 0o700 });
  cpSync(join(authority.state, 'signer'), join(state, 'signer'), {
    recursive: true,
    preserveTimestamps: true,
  });
  rmSync(join(authority.state, 'signer'), { recursive: true });
  const token = dirname(authority.tokens.online.pinFile);
  // What systemd makes of LoadCredential=pin:/etc/vouch/pin.
  const credentials = join(authority.folder, 'credentials');
  mkdirSync(credentials, { mode: 0o700 });
  const pinFile = join(credentials, 'pin');
  copyFileSync(authority.tokens.online.pinFile, pinFile);
  chmodSync(pinFile, 0o400);
  const run = join(authority.folder, 'run');
  mkdirSync(run, { mode: 0o750 });
  const config = join(authority.folder, 'signer.yaml');
  authority.configure((changed) => {
    changed.hsm.pinFile = 'credential:pin';
  });
  writeFileSync(config, readFileSync(authority.config, 'utf8').replace(/^state: .*$/m, `state: ${state}`));
  const socket = join(run, 'sg');
  authority.configure((changed) => {
    changed.signer = { socket };
  });
  for (const path of [state, token, credentials]) give(path, signer);
  give(run, signer);
  give(authority.state, server);
  return { state, config, socket, pinFile, credentials, floor: join(state, 'signer', 'floor.json') };
}

function startSigner(): Running {
  const args = ['signer', '--config', split.config, '--listen', split.socket, '--group-access'];
  return stage.as(signer, stage.vouch(...args), { env: { CREDENTIALS_DIRECTORY: split.credentials } });
}

/** What the server's user can do once somebody holds it: any command, in the groups of the server. */
const asServer = (...command: readonly string[]): Promise<Ran> => stage.run(server, command);

const signerPid = async (): Promise<number> => {
  const status = await authority.vouch('status');
  return status.json<{ signer: { pid: number } }>().signer.pid;
};

beforeAll(async () => {
  authority = await initAuthority();
  stage = new Stage(authority.folder);
  split = apart();
  signing = startSigner();
  await signing.until(({ stderr }) => stderr.includes('the signer listens'));
  serving = stage.as(server, stage.vouch('server', '--config', authority.config, '--json'));
  await serving.until(({ stdout }) => stdout.includes('"ready"'));
}, 60_000);

it('enrolls, revokes and verifies over the socket, and outlives a signer that is killed', async () => {
  const { serial } = await authority.enroll('orders');
  expect(
    (await authority.vouch('revoke', '--serial', serial, '--reason', 'keyCompromise')).json(),
  ).toMatchObject({
    published: true,
  });
  const before = signing;
  await before.end('SIGKILL');
  signing = startSigner();
  await signing.until(({ stderr }) => stderr.includes('the signer listens'));
  await authority.enroll('billing');
  const verified = await authority.vouch('log', 'verify', '--state', authority.state);
  expect(verified.json()).toMatchObject({ problems: [] });
});

it("the server's user reads neither the PIN nor what the signer may do, and writes no mark", async () => {
  for (const file of [
    split.pinFile,
    authority.tokens.online.pinFile,
    split.floor,
    join(split.state, 'signer/authority.json'),
  ]) {
    // Its owner can: it is there, and is no empty file.
    expect((await stage.run(signer, ['cat', file])).stdout, file).not.toBe('');
    const read = await asServer('cat', file);
    expect([read.code, read.stdout], file).toEqual([1, '']);
    expect(read.stderr, file).toMatch(/Permission denied/);
  }
  const floor = readFileSync(split.floor);
  for (const attack of [
    `echo x >> ${split.floor}`,
    `rm -f ${split.floor}`,
    `mv ${split.state} ${split.state}-away`,
    `mkdir ${split.state}/signer/new`,
  ])
    expect((await asServer('sh', '-c', attack)).code, attack).not.toBe(0);
  expect(statSync(split.floor).size).toBeGreaterThanOrEqual(floor.length);
});

it("the server's user can neither look into the signer, attach to it, nor signal it", async () => {
  const pid = await signerPid();
  expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(new RegExp(`^Uid:\\t${signer.uid}\\t`, 'm'));
  for (const part of ['mem', 'environ', 'maps', 'auxv']) {
    const looked = await asServer('head', '-c', '1', `/proc/${pid}/${part}`);
    expect([looked.code, looked.stderr], part).toEqual([1, expect.stringMatching(/Permission denied/)]);
  }
  for (const part of ['fd', 'map_files', 'cwd/'])
    expect((await asServer('ls', `/proc/${pid}/${part}`)).stderr, part).toMatch(/Permission denied/);
  const attach = join(authority.folder, 'attach');
  execFileSync('cc', ['-o', attach, join(import.meta.dirname, '../support/attach.c')]);
  // The attack works where nothing stands in its way: on a process of the same user.
  const own = stage.as(server, ['sleep', '60']);
  await eventually(() => readFileSync(`/proc/${own.pid}/comm`, 'utf8') === 'sleep\n');
  expect((await asServer(attach, String(own.pid))).stdout).toBe('attached\n');
  expect((await asServer(attach, String(pid))).stdout).toBe('Operation not permitted\n');
  const killed = await asServer('sh', '-c', `kill -9 ${pid}`);
  expect([killed.code, killed.stderr]).toEqual([1, expect.stringMatching(/not permitted/i)]);
  await own.end('SIGKILL');
  expect(await signerPid()).toBe(pid);
});

it('nothing of the PIN stands in its environment or arguments', async () => {
  const pid = await signerPid();
  const pin = readFileSync(split.pinFile, 'utf8').trim();
  for (const part of ['environ', 'cmdline'])
    expect(readFileSync(`/proc/${pid}/${part}`, 'utf8')).not.toContain(pin);
});

it('a third user reaches the socket no more than the folder that it lies in', async () => {
  const connects = (path: string) => [
    ...stage.vouch().slice(0, 1),
    '-e',
    `require('node:net').connect(${JSON.stringify(path)}).on('connect', () => { console.log('connected'); process.exit(0); }).on('error', (error) => { console.log(error.code); process.exit(1); })`,
  ];
  expect((await stage.run(stranger, connects(split.socket))).stdout).toBe('EACCES\n');
  chmodSync(dirname(split.socket), 0o755);
  expect((await stage.run(stranger, connects(split.socket))).stdout).toBe('EACCES\n');
  chmodSync(dirname(split.socket), 0o750);
  expect((await asServer(...connects(split.socket))).stdout).toBe('connected\n');
});

it('doctor misses none of what is not the server’s, and says so where the PIN is', async () => {
  const findings = async (): Promise<string[]> => {
    const ran = await runVouch(['doctor', '--config', authority.config, '--json']);
    return (JSON.parse(ran.stdout) as { findings: { what: string }[] }).findings.map(({ what }) => what);
  };
  expect(await findings()).toEqual([]);
  const pinFile = join(authority.folder, 'pin-of-server');
  writeFileSync(pinFile, 'x', { mode: 0o600 });
  authority.configure((changed) => {
    changed.hsm.pinFile = pinFile;
  });
  give(pinFile, server);
  expect(await findings()).toEqual([expect.stringContaining(`${pinFile} belongs to the server's user`)]);
});

it('the signer takes no orders from a file that another user can exchange', async () => {
  const folder = join(split.state, 'signer');
  const refusedAs = async (): Promise<string> => {
    const args = ['signer', '--config', split.config, '--listen', `${split.socket}2`];
    const ran = await stage.run(signer, stage.vouch(...args), {
      env: { CREDENTIALS_DIRECTORY: split.credentials },
    });
    expect(ran.code).toBe(78);
    return ran.stderr;
  };
  await signing.end();
  chmodSync(split.state, 0o755);
  give(folder, server);
  chmodSync(folder, 0o755);
  chmodSync(join(folder, 'authority.json'), 0o644);
  expect(await refusedAs()).toContain(`belongs to uid ${server.uid}, who can exchange it`);
  give(folder, signer);
  chmodSync(folder, 0o775);
  expect(await refusedAs()).toContain(`${folder} can be written by others`);
  chmodSync(folder, 0o700);
  chmodSync(split.state, 0o700);
});
