import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { eventually, newFolder, type Ran, start } from './running.ts';

/** What units have by default, here without anything that touches the machine. */
const targets = ['sysinit', 'basic', 'shutdown', 'network-online'];

/**
 * `$0` holds the units. systemd is PID 1 of namespaces of its own, with a /run of its own and a control group below one that
 * goes with it, on machines with either version of control groups.
 */
const script = `set -eu
mount -t tmpfs -o mode=755 none /run
mkdir /run/cgroup
mount -t cgroup2 none /run/cgroup
own=/run/cgroup/vouch-$$
mkdir $own
echo $$ >$own/cgroup.procs
unshare --cgroup --pid --fork --kill-child --mount-proc sh -c '
  mount -t cgroup2 none /sys/fs/cgroup
  umount -l /run/cgroup
  export container=other SYSTEMD_UNIT_PATH="$0"
  exec /lib/systemd/systemd --system --unit=basic.target --show-status=no --log-target=console --log-level=info' "$0" || true
echo $$ >/run/cgroup/cgroup.procs
find $own -depth -type d -exec rmdir {} +`;

/** A host whose PID 1 is a real systemd with no units but a test's. It has the machine's files but /run, and its network. */
export class SystemdHost {
  /** A command that runs the rest of its arguments on this host. */
  readonly inside: readonly string[];
  readonly #units: string;

  private constructor(pid: number, units: string) {
    this.inside = ['nsenter', `--target=${pid}`, '--mount', '--pid', '--cgroup'];
    this.#units = units;
  }

  /** Ends with the test. */
  static async boot(): Promise<SystemdHost> {
    if (process.getuid?.() !== 0) throw new Error('only root starts a systemd; run this test as root');
    const units = newFolder();
    for (const name of targets)
      writeFileSync(join(units, `${name}.target`), '[Unit]\nDefaultDependencies=no\n');
    const keeper = start(['unshare', '--mount', 'sh', '-c', script, units]);
    const pid = await keeper.until(() => childOf(childOf(keeper.pid)));
    onTestFinished(async () => {
      // systemd goes with all of its services, and then the script with their control groups.
      process.kill(pid, 'SIGKILL');
      await keeper.ended();
    });
    const host = new SystemdHost(pid, units);
    await eventually(async () => (await host.systemctl('is-active', 'basic.target')).code === 0);
    return host;
  }

  /** Writes a unit, and what is changed of it. */
  unit(name: string, text: string, dropIn = ''): void {
    const folder = join(this.#units, `${name}.d`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(this.#units, name), text);
    writeFileSync(join(folder, 'test.conf'), dropIn);
  }

  /** Runs this machine's systemctl on this host, to its end. */
  systemctl(...args: readonly string[]): Promise<Ran> {
    return start(['/bin/systemctl', ...args], { wrapper: this.inside }).ended();
  }
}

/** Number of a process's first child. */
function childOf(pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined;
  try {
    const [first = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    return first === '' ? undefined : Number(first);
  } catch {
    return undefined;
  }
}
