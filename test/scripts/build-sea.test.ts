import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { WorkloadClient, type X509SvidResponse } from '../conformance/workload-api/client.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { newFolder, start } from '../support/running.ts';

const isRoot = process.getuid?.() === 0;
const project = join(import.meta.dirname, '../..');

let authority: Authority;
/** The whole file system of a container: the executable, the C library, a folder for what is temporary. */
let image: string;
/** Runs a command where there is nothing but that image: no Node, no variables. */
let inside: readonly string[];

beforeAll(async () => {
  const built = newFolder();
  execFileSync(process.execPath, [join(project, 'scripts/build-sea.mjs'), '--outdir', built]);
  authority = await bootAuthority();
  image = newFolder();
  for (const folder of ['tmp', 'proc', 'dev', 'state', 'bin']) mkdirSync(join(image, folder));
  copyFileSync(join(built, 'vouch-agent'), join(image, 'bin/vouch-agent'));
  for (const program of ['sh', 'cat'])
    copyWithLibraries(
      execFileSync('sh', ['-c', `command -v ${program}`])
        .toString()
        .trim(),
    );
  copyLibraries(join(image, 'bin/vouch-agent'));
  const mounts =
    'for d in proc dev; do mount --rbind "/$d" "$0/$d"; done; exec env -i "$(command -v chroot)" "$0" "$@"';
  const unshare = ['unshare', ...(isRoot ? [] : ['--user', '--map-root-user']), '--mount'];
  inside = [...unshare, 'sh', '-c', mounts, image];
}, 180_000);

function copyWithLibraries(program: string): void {
  copyFileSync(program, join(image, 'bin', program.split('/').at(-1) ?? ''));
  copyLibraries(program);
}

function copyLibraries(program: string): void {
  const listed = execFileSync('ldd', [program], { encoding: 'utf8' });
  for (const [, path = ''] of listed.matchAll(/(\/\S+) \(0x/g)) {
    mkdirSync(join(image, dirname(path)), { recursive: true });
    copyFileSync(path, join(image, path));
  }
}

/** A join file inside the image. */
async function joinFile(name: string): Promise<string> {
  const { path } = await authority.join(name);
  const file = `/state/${name.replace('/', '-')}`;
  copyFileSync(path, join(image, file));
  return file;
}

const agent = '/bin/vouch-agent';

test('enrolls, in a file system without Node', async () => {
  const flags = ['--join-file', await joinFile('one'), '--out', '/state/held', '--json'];
  const ran = await start([...inside, agent, 'enroll', ...flags]).ended();
  expect(ran.json()).toMatchObject({ spiffeId: authority.id('one') });
  expect(existsSync(join(image, 'state/held/current/svid.key'))).toBe(true);
});

test.each([
  ['a process', []],
  ['PID 1', ['unshare', '--pid', '--fork']],
])('runs a workload that finds its certificate, as %s', async (name, wrapper) => {
  const command = ['--', '/bin/sh', '-c', '/bin/cat "$VOUCH_DIR/current/svid.pem"; exit 7'];
  const flags = [
    '--join-file',
    await joinFile(name.replace(' ', '-').toLowerCase()),
    '--out',
    `/state/run-${name}`,
  ];
  const ran = await start([...inside, agent, 'exec', ...flags, ...command], { wrapper }).ended();
  expect(ran).toMatchObject({ code: 7, stdout: expect.stringContaining('BEGIN CERTIFICATE') as string });
});

test('serves the Workload API with the addon that it carries, and leaves none of it behind', async () => {
  const selectors = ['--parent', authority.id('host'), '--selector', 'unix:uid:0'];
  (await authority.vouch('entry', 'create', '--id', authority.id('web'), ...selectors)).json();
  const flags = [
    '--join-file',
    await joinFile('host'),
    '--dir',
    '/state/agent',
    '--socket',
    '/state/agent.sock',
  ];
  const running = start([...inside, agent, 'agent', ...flags, '--json']);
  await running.until(({ stdout }) => stdout.includes('\n'));
  const client = new WorkloadClient(join(image, 'state/agent.sock'));
  const { svids } = await client.first<X509SvidResponse>('FetchX509SVID');
  client.close();
  expect(svids.map((svid) => svid.spiffe_id)).toEqual([authority.id('web')]);
  expect(readdirSync(join(image, 'tmp'))).toEqual([]);
  expect(await running.end('SIGTERM')).toBe(0);
});

test('says its version and refuses what it does not know', async () => {
  const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { version: string };
  expect(await start([...inside, agent, '--version']).ended()).toMatchObject({
    code: 0,
    stdout: `${version}\n`,
  });
  expect(await start([...inside, agent, 'server']).ended()).toMatchObject({ code: 2 });
});
