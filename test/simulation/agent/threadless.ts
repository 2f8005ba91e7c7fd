import crypto from 'node:crypto';
import fs from 'node:fs';
import fsPromises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { promisify } from 'node:util';

/** Of `node:fs/promises`, those that have a twin that blocks. */
const calls = [
  'access',
  'chmod',
  'lstat',
  'mkdir',
  'readdir',
  'readFile',
  'readlink',
  'rename',
  'rm',
  'stat',
  'symlink',
  'unlink',
  'writeFile',
] as const;

/**
 * Files and keys of this process without threads: each call is done whole in a turn of the event loop of its own, in the
 * order in which calls were made. So what happens beside each other happens in the same order each time.
 */
export class Threadless {
  /** Calls that were begun. */
  steps = 0;
  /** Told of each call that was done. */
  done: (name: string) => void = () => undefined;
  readonly #real = { ...fsPromises };
  readonly #generateKeyPair = crypto.generateKeyPair;

  install(): void {
    const calling: Calling =
      (name, work) =>
      (...args) =>
        this.#call(name, () => work(...(args as never[])));
    const blocking = calls.map((name) => [name, calling(name, fs[`${name}Sync`])]);
    Object.assign(fsPromises, Object.fromEntries(blocking), {
      open: calling('open', (path: string, flags?: string, mode?: number) =>
        handle(fs.openSync(path, flags ?? 'r', mode), calling),
      ),
    });
    const { generateKeyPairSync } = crypto;
    Object.assign(crypto, {
      generateKeyPair: Object.assign(() => assertUnused(), {
        [promisify.custom]: calling('generateKeyPair', generateKeyPairSync),
      }),
    });
    syncBuiltinESMExports();
  }

  restore(): void {
    Object.assign(fsPromises, this.#real);
    Object.assign(crypto, { generateKeyPair: this.#generateKeyPair });
    syncBuiltinESMExports();
  }

  async #call(name: string, work: () => unknown): Promise<unknown> {
    this.steps += 1;
    await new Promise<void>((turn) => void setImmediate(turn));
    const result = work();
    this.done(name);
    return result;
  }
}

type Calling = (
  name: string,
  work: (...args: never[]) => unknown,
) => (...args: unknown[]) => Promise<unknown>;

/** What `open` gives, with as much as is asked of it. */
function handle(fd: number, calling: Calling): object {
  return {
    chmod: calling('chmod', (mode: number) => fs.fchmodSync(fd, mode)),
    chown: calling('chown', (uid: number, gid: number) => fs.fchownSync(fd, uid, gid)),
    writeFile: calling('writeFile', (content: string | Buffer) => fs.writeFileSync(fd, content)),
    sync: calling('sync', () => fs.fsyncSync(fd)),
    close: calling('close', () => fs.closeSync(fd)),
  };
}

function assertUnused(): never {
  throw new Error('keys are made by promise here');
}
