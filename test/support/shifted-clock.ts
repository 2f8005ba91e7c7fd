import { writeFileSync } from 'node:fs';

/** Where Debian's `libfaketime` puts it, which scripts/setup installs. */
const library = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';

/** The wall clock of processes that are started with `env`; their timers go on as ever. */
export class ShiftedClock {
  readonly #file: string;

  /** `file` tells them the time; it is made here, and is right at first. */
  constructor(file: string) {
    this.#file = file;
    this.set('+0');
  }

  /** An offset such as `-1h` or `+10d`, at once. */
  set(offset: string): void {
    writeFileSync(this.#file, offset);
  }

  get env(): Record<string, string> {
    return {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
  }
}
