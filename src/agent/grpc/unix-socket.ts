import { lstatSync, realpathSync, statSync, unlinkSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
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
 * What to say where somebody but root and this user may put another socket in the place of the one at `path`: a folder
 * above it is another user's, or others may write to it and no sticky bit keeps them to files of their own.
 */
export function socketFolderProblem(path: string): string | undefined {
  let folder = realpathSync(dirname(path));
  for (;;) {
    const { uid, gid, mode } = statSync(folder);
    const why =
      uid !== 0 && uid !== process.geteuid?.()
        ? `belongs to uid ${uid}`
        : (mode & 0o1000) === 0 && ((mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && gid !== 0))
          ? `is writable for others (mode ${(mode & 0o7777).toString(8)})`
          : undefined;
    if (why !== undefined)
      return (
        `${folder} ${why}: who may write there can put a socket of his own in the place of ${path} and hand workloads his own trust; ` +
        'give it to root or to the user of the agent with mode 755, or name another socket'
      );
    if (folder === dirname(folder)) return undefined;
    folder = dirname(folder);
  }
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
