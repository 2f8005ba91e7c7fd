import { type FSWatcher, watch } from 'node:fs';

/**
 * Calls `look` when something in `dir` or in the current generation's folder changes, and every `pollMs` besides:
 * inotify does not see changes on every file system. `folder` is asked anew after each call. Neither keeps the
 * process alive. Returns what stops it.
 */
export function watchDelivered(options: {
  dir: string;
  folder: () => string;
  look: () => void;
  pollMs: number;
}): () => void {
  const watchers = new Map<string, FSWatcher>();
  const follow = (): void => {
    const wanted = [options.dir, options.folder()];
    for (const [path, watcher] of watchers) {
      if (wanted.includes(path)) continue;
      watcher.close();
      watchers.delete(path);
    }
    for (const path of wanted) if (!watchers.has(path)) open(path);
  };
  const look = (): void => {
    options.look();
    follow();
  };
  const open = (path: string): void => {
    try {
      const watcher = watch(path, { persistent: false }, look);
      watcher.on('error', () => {
        watcher.close();
        watchers.delete(path);
      });
      watchers.set(path, watcher);
    } catch {
      // Out of inotify watches, or the folder is gone: the poll below sees what changes.
    }
  };
  follow();
  const timer = setInterval(look, options.pollMs).unref();
  return () => {
    clearInterval(timer);
    for (const watcher of watchers.values()) watcher.close();
    watchers.clear();
  };
}
