import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Ran, type Running, start, type StartOptions } from './running.ts';

const project = resolve(import.meta.dirname, '../..');

/** A user by number alone, with a group of the same number; nothing else on this machine is theirs. */
export interface User {
  uid: number;
  /** Further groups. */
  groups: readonly number[];
}

/** As many numbers that no user, group or process has. */
export function unusedUids(count: number): number[] {
  const taken = new Set(
    ['passwd', 'group'].flatMap((what) =>
      spawnSync('getent', [what], { encoding: 'utf8' })
        .stdout.split('\n')
        .map((line) => Number(line.split(':')[2])),
    ),
  );
  const first = 40_000 + ((process.pid * 8) % 20_000);
  const found: number[] = [];
  for (let uid = first; found.length < count; uid += 1) if (!taken.has(uid)) found.push(uid);
  return found;
}

/**
 * A place where other users find the program: a checkout may lie in a folder that only its owner opens. Seen by what
 * `as` starts alone, since it is mounted in a name space of each command's own.
 */
export class Stage {
  readonly folder: string;
  readonly #program: string;

  constructor(folder: string) {
    if (process.getuid?.() !== 0)
      throw new Error('only root can start processes of other users; run this test as root');
    chmodSync(folder, 0o711);
    this.folder = folder;
    this.#program = join(folder, 'program');
    mkdirSync(this.#program, { mode: 0o755 });
  }

  /** Starts a command as another user, without any privilege, in the environment of nobody. */
  as(user: User, command: readonly string[], options: StartOptions = {}): Running {
    const script = 'mount --bind "$0" "$1" && shift && exec "$@"';
    const identity = [`--reuid=${user.uid}`, `--regid=${user.uid}`, '--inh-caps=-all', '--no-new-privs'];
    const groups = user.groups.length > 0 ? `--groups=${user.groups.join()}` : '--clear-groups';
    const setpriv = ['setpriv', ...identity, groups, '--bounding-set=-all'];
    const environment = [
      'env',
      '-i',
      `PATH=${process.env.PATH}`,
      ...Object.entries(options.env ?? {}).map(pair),
    ];
    const wrapped = ['unshare', '--mount', 'sh', '-c', script, project, this.#program];
    return start([...wrapped, ...setpriv, ...environment, ...command], { cwd: '/' });
  }

  /** The same to its end. */
  run(user: User, command: readonly string[], options: StartOptions = {}): Promise<Ran> {
    return this.as(user, command, options).ended();
  }

  /** The command line of `vouch` where other users find it. */
  vouch(...args: readonly string[]): string[] {
    const inside = (path: string): string => {
      if (!path.startsWith(`${project}/`)) return path;
      return join(this.#program, path.slice(project.length + 1));
    };
    return [inside(process.execPath), inside(join(project, 'dist/vouch.js')), ...args];
  }
}

function pair([name, value]: [string, string | undefined]): string {
  return `${name}=${value ?? ''}`;
}

/** Gives a file or a whole folder to a user. */
export function give(path: string, { uid }: User): void {
  chownSync(path, uid, uid);
  if (!statSync(path).isDirectory()) return;
  for (const name of readdirSync(path, { recursive: true, encoding: 'utf8' }))
    chownSync(join(path, name), uid, uid);
}
