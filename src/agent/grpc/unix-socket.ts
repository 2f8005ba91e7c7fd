import { lstatSync, readlinkSync, type Stats, unlinkSync } from 'node:fs';
import net from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { VouchError } from '../../core/errors.ts';

/** `sun_path` holds 108 bytes with its NUL (unix(7)). */
const pathMaxBytes = 107;

/** Listens at `path` with `mode`, never wider. A dead socket there is replaced; a live one and any other file are not. */
export async function listenAtSocket(server: net.Server, path: string, mode: number): Promise<void> {
  if (Buffer.byteLength(path) > pathMaxBytes)
    throw new VouchError('config-invalid', `the socket path is longer than ${pathMaxBytes} bytes: ${path}`);
  await removeDeadSocket(path);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new VouchError('config-invalid', `cannot listen on ${path}`, { cause })),
    );
    // It is bound before `listen` returns: no other file of the process is made under this mask. Not by chmod: in a folder
    // of others the path may be a link to any file by then.
    const before = process.umask(0o777 & ~mode);
    try {
      server.listen({ path, backlog: 4096 }, resolve);
    } finally {
      process.umask(before);
    }
  });
}

/**
 * What to say where somebody but root and this user may put another socket in the place of the one at `path`: a folder or
 * link on the way to it is another user's, or others may write to one and no sticky bit keeps them to files of their own.
 * In the last, that does not: while the agent is away anybody may make a socket there.
 */
export function socketFolderProblem(path: string): string | undefined {
  const way = wayTo(dirname(resolve(path)));
  for (const [index, found] of way.entries()) {
    const why = whyUnsafe(found.stat, index < way.length - 1);
    if (why !== undefined)
      return (
        `${found.path} ${why}: who may write there can put a socket of his own in the place of ${path} and hand workloads his own trust; ` +
        'give it to root or to the user of the agent with mode 755, or name another socket'
      );
  }
  return undefined;
}

function whyUnsafe(stat: Stats, isOnTheWay: boolean): string | undefined {
  const { uid, gid, mode } = stat;
  if (uid !== 0 && uid !== process.geteuid?.()) return `belongs to uid ${uid}`;
  if (stat.isSymbolicLink() || (isOnTheWay && (mode & 0o1000) !== 0)) return undefined;
  const isWritable = (mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && gid !== 0);
  return isWritable ? `is writable for others (mode ${(mode & 0o7777).toString(8)})` : undefined;
}

/** The folders and symbolic links that a path leads through, the folder itself last. */
function wayTo(folder: string): { path: string; stat: Stats }[] {
  const way = [{ path: '/', stat: lstatSync('/') }];
  const names = folder.split('/').filter((name) => name !== '');
  let path = '/';
  for (const [index, name] of names.entries()) {
    path = join(path, name);
    const stat = lstatSync(path);
    way.push({ path, stat });
    if (stat.isSymbolicLink())
      return [...way, ...wayTo(resolve(dirname(path), readlinkSync(path), ...names.slice(index + 1)))];
  }
  return way;
}

async function removeDeadSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new VouchError('config-invalid', `${path} exists and is no socket`);
  if (!(await refuses(path)))
    throw new VouchError(
      'config-in-use',
      `another program answers at ${path}: stop it, or name another socket`,
    );
  unlinkSync(path);
}

/** True where nobody listens; a full backlog is somebody. */
function refuses(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
}
