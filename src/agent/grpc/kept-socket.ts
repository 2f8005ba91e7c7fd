import { lstatSync } from 'node:fs';
import net, { type Socket } from 'node:net';
import { dirname } from 'node:path';
import { asVouchError } from '../../core/errors.ts';
import { makeDeliveryFolder } from '../deliver/files.ts';
import { systemSleep } from '../sleep.ts';
import { listenAtSocket, socketFolderProblem } from './unix-socket.ts';

/** How soon it is seen that nobody finds the socket any more; clients come back within seconds, too. */
const lookEveryMs = 2_000;

interface Options {
  /** Absolute. */
  path: string;
  mode: number;
  accept(socket: Socket): void;
  /** A line for the agent's log. */
  notice(line: string): void;
  /** `problem` is another. */
  changed?: (() => void) | undefined;
  lookEveryMs?: number | undefined;
}

/**
 * A unix socket that is to be found at its path. Where its file is gone it is made anew, as at the start; what else is in
 * its place is left alone. Connections that are there go on.
 */
export class KeptSocket {
  readonly #options: Options;
  readonly #stop = new AbortController();
  #server: net.Server | undefined;
  /** Tells the socket's file from others at its path. */
  #file: string | undefined;
  #problem: string | undefined;
  #keeping = Promise.resolve();

  constructor(options: Options) {
    this.#options = options;
  }

  /** Why nobody can connect. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Throws `config-in-use`, `config-invalid` and what `makeDeliveryFolder` does. */
  async open(): Promise<void> {
    await this.#listen();
    this.#keeping = this.#keep();
  }

  /** When this resolves, nobody is accepted. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#keeping;
    // Closing removes whatever is at the path: that may be the socket of somebody else.
    if (this.#found() === 'another') this.#server?.unref();
    else this.#server?.close();
  }

  async #listen(): Promise<void> {
    const { path, mode, accept, notice } = this.#options;
    await makeDeliveryFolder(dirname(path));
    const server = net.createServer(accept);
    await listenAtSocket(server, path, mode);
    this.#server = server;
    this.#file = fileAt(path);
    const problem = socketFolderProblem(path);
    if (problem !== undefined) notice(problem);
  }

  async #keep(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      await systemSleep(this.#options.lookEveryMs ?? lookEveryMs, signal);
      if (signal.aborted) return;
      await this.#look();
    }
  }

  async #look(): Promise<void> {
    const { path, notice } = this.#options;
    const found = this.#found();
    if (found === 'ours') return this.#is(undefined);
    if (found === 'another')
      return this.#is(`${path} is not the agent's socket any more: remove it, and the agent makes it anew`);
    this.#server?.close();
    this.#server = undefined;
    try {
      await this.#listen();
      notice(`the socket ${path} was gone: it is made anew`);
      this.#is(undefined);
    } catch (error) {
      this.#is(`the socket ${path} is gone: ${asVouchError(error).detail}`);
    }
  }

  #is(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    if (problem !== undefined) this.#options.notice(`workloads cannot connect: ${problem}`);
    this.#options.changed?.();
  }

  #found(): 'ours' | 'another' | 'nothing' {
    try {
      const file = fileAt(this.#options.path);
      if (file === undefined) return 'nothing';
      return file === this.#file && this.#server !== undefined ? 'ours' : 'another';
    } catch {
      // We may not look.
      return 'another';
    }
  }
}

/** An inode's number is soon that of another file; when it was made is not, and stays when its mode changes. */
function fileAt(path: string): string | undefined {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return stat && `${stat.dev} ${stat.ino} ${stat.birthtimeNs}`;
}
