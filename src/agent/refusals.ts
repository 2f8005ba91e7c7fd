/** Lines in a minute for all callers. */
const linesMax = 20;
const minuteMs = 60_000;
/** The same is not said again for so long. */
const sameMs = 10 * minuteMs;
/** A caller chooses some of what makes two the same: its path, the names that it asks for. */
const sameMaxChars = 1_000;

/**
 * What any process of the host can make the agent say of it, again and again: each once in ten minutes, and no more than
 * twenty lines a minute, after which one line says how many there were besides.
 */
export class Refusals {
  readonly #notice: (line: string) => void;
  /** When each was said, the oldest first; no more than `linesMax` for each minute of `sameMs`. Times are monotonic. */
  readonly #said = new Map<string, number>();
  #asked = '';
  #lines = 0;
  #more = 0;
  #minute: NodeJS.Timeout | undefined;

  constructor(notice: (line: string) => void) {
    this.#notice = notice;
  }

  /**
   * Says it, unless what is the `same` was said a while ago. The line is made only where it is said. What entries ask for
   * now, where that is given, is another reason once it has changed.
   */
  say(same: string, line: () => string, asked = this.#asked): void {
    if (asked !== this.#asked) this.#said.clear();
    this.#asked = asked;
    const nowMs = performance.now();
    for (const [one, atMs] of this.#said) {
      if (nowMs - atMs < sameMs) break;
      this.#said.delete(one);
    }
    const key = same.slice(0, sameMaxChars);
    if (this.#said.has(key)) return;
    if (this.#minute === undefined) this.#minute = setTimeout(() => this.#nextMinute(), minuteMs).unref();
    this.#lines += 1;
    if (this.#lines > linesMax) {
      this.#more += 1;
      return;
    }
    this.#said.set(key, nowMs);
    this.#notice(line());
  }

  #nextMinute(): void {
    if (this.#more > 0) this.#notice(`and ${this.#more} more refusals of callers within a minute`);
    this.#minute = undefined;
    this.#lines = 0;
    this.#more = 0;
  }
}
