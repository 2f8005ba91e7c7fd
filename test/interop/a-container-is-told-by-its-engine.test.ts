import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { signalContainer } from '../../src/agent/deliver/container.ts';
import { current, deliverTo, FakeServed } from '../agent/support/served.ts';
import { eventually, newFolder, start } from '../support/running.ts';

// A real Podman, which speaks Docker's API, with containers that see what is delivered as docs/delivery.md says: `dir` is mounted.

const folder = newFolder();
const image = join(folder, 'image');
const dir = join(folder, 'delivered');
const said = join(image, 'tmp/said');
const engine = join(folder, 'engine.sock');

/**
 * An engine and two containers, in namespaces that they end with; what it keeps is in the folder. `web` tells on each HUP
 * which certificate it sees.
 */
const script = `set -eu
mount -t tmpfs -o mode=755 none /run
mount -t cgroup2 none /sys/fs/cgroup
engine() {
  podman --root '${folder}/root' --runroot '${folder}/run' --tmpdir '${folder}/tmp' --storage-driver vfs --runtime crun \\
    --cgroup-manager cgroupfs --events-backend file "$@"
}
run() {
  engine run -d --network none --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \\
    -v '${dir}:/vouch:ro' --name "$1" --rootfs '${image}' sh -c "$2"
}
run web 'trap "sha256sum /vouch/current/svid.pem >>/tmp/said" HUP; echo up >>/tmp/said; while :; do sleep 0.1; done'
run ended true
engine system service --time 0 'unix://${engine}'`;

beforeAll(async () => {
  if (process.getuid?.() !== 0) throw new Error('only root runs this engine; run this test as root');
  makeImage();
  mkdirSync(dir);
  const apart = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const podman = start([...apart, 'sh', '-c', script]);
  await podman.until(() => existsSync(engine) && existsSync(said));
});

/** busybox with its libraries: an image that no registry has to serve. */
function makeImage(): void {
  for (const name of ['bin', 'proc', 'sys', 'dev', 'tmp', 'etc', 'run', 'vouch'])
    mkdirSync(join(image, name), { recursive: true });
  const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim();
  copyFileSync(busybox, join(image, 'bin/busybox'));
  for (const name of ['sh', 'sleep', 'sha256sum', 'true']) symlinkSync('busybox', join(image, 'bin', name));
  const libraries = execFileSync('ldd', [busybox], { encoding: 'utf8' });
  for (const [, path = ''] of libraries.matchAll(/(\/\S+) \(0x/g)) {
    mkdirSync(join(image, dirname(path)), { recursive: true });
    copyFileSync(path, join(image, path));
  }
}

test('a service in a container is told of each certificate, and sees it', async () => {
  const { deliver, settled } = deliverTo({
    dir,
    reload: { container: 'web', signal: 'HUP', engine, on: ['certificate'] },
  });
  const fake = new FakeServed();
  for (let times = 0; times < 2; times += 1) {
    deliver.take(fake.served());
    expect((await settled()).reload).toEqual({ lastSuccess: expect.any(String) });
    const seen = createHash('sha256').update(current(dir, 'svid.pem')).digest('hex');
    await eventually(() => readFileSync(said, 'utf8').includes(seen));
  }
});

test.each([
  ['nobody', /answers 404: no container with name or ID "nobody" found/],
  ['ended', /answers \d+: can only kill running containers/],
])('of %s the engine’s refusal is told', async (container, refusal) => {
  expect(await signalContainer({ container, signal: 'SIGHUP', engine }, AbortSignal.timeout(10_000))).toMatch(
    refusal,
  );
});
