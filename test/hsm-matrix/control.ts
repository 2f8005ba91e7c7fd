import { renameSync, writeFileSync } from 'node:fs';

/** What the simulated token does from now on: `hsm-sim/README.md` has the language of its rules. */
export class Control {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  set(...rules: string[]): void {
    writeFileSync(`${this.#file}.new`, rules.map((rule) => `${rule}\n`).join(''));
    renameSync(`${this.#file}.new`, this.#file);
  }

  calm(): void {
    this.set();
  }
}
