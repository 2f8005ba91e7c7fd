import { start } from './running.ts';

const isRoot = process.getuid?.() === 0;
const unshare = isRoot ? ['unshare', '--mount'] : ['unshare', '--user', '--map-root-user', '--mount'];
const nsenter = isRoot ? ['nsenter', '--mount'] : ['nsenter', '--user', '--preserve-credentials', '--mount'];

/** Moves a folder onto a file system of its own at the same path. */
const script =
  'cp -a "$0" "$0.copy" && mount -t tmpfs -o "$1" none "$0" && cp -a "$0.copy/." "$0" && echo mounted && exec sleep 600';

/**
 * Mounts a file system in memory over `folder`, which keeps its content. Returns the wrapper for commands that are to see
 * it: nobody else does, and it goes with the test file.
 */
export async function mountOver(folder: string, options: string): Promise<string[]> {
  const keeper = start([...unshare, 'sh', '-c', script, folder, options]);
  await keeper.until(({ stdout }) => stdout.includes('mounted'));
  return [...nsenter, '--target', String(keeper.pid)];
}
