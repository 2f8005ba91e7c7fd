import { closeSync, fsyncSync, lstatSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { VouchError } from '../core/errors.ts';

/**
 * A secret file (0600) that appears under its name whole and fsynced, or not at all. The constructor throws
 * `usage-invalid` where it cannot be written; what is there already is replaced, unless it is no file.
 */
export class NewFile {
  readonly path: string;
  readonly #partial: string;
  readonly #descriptor: number;

  constructor(path: string) {
    this.path = path;
    this.#partial = `${path}.${process.pid}.partial`;
    // A rename would put a file in the place of a link, a pipe or /dev/stdout.
    if (lstatSync(path, { throwIfNoEntry: false })?.isFile() === false)
      throw new VouchError('usage-invalid', `${path} is no file; \`--out -\` writes to standard output`);
    try {
      this.#descriptor = openSync(this.#partial, 'wx', 0o600);
    } catch (cause) {
      throw new VouchError(
        'usage-invalid',
        `cannot write ${this.#partial}: does its folder exist, and may you write there?`,
        { cause },
      );
    }
  }

  write(text: string): void {
    try {
      writeSync(this.#descriptor, text);
      fsyncSync(this.#descriptor);
      closeSync(this.#descriptor);
      renameSync(this.#partial, this.path);
    } catch (error) {
      unlinkSync(this.#partial);
      throw error;
    }
  }

  discard(): void {
    closeSync(this.#descriptor);
    unlinkSync(this.#partial);
  }
}
