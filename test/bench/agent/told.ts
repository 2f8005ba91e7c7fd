import type { ClientHttp2Stream } from 'node:http2';

/** Counts the whole messages of many streams. */
export class Told {
  #streams = 0;
  #waiting = 0;
  #done: () => void = () => {};

  /** Resolves with the first message. */
  follow(stream: ClientHttp2Stream): Promise<void> {
    this.#streams++;
    let isFirst = true;
    let bytes = 0;
    let length: number | undefined;
    return new Promise((resolve, reject) => {
      stream.once('close', () => reject(new Error('a stream has ended')));
      stream.on('data', (part: Buffer) => {
        // The prefix comes with the first bytes: the server writes both together.
        length ??= part.readUInt32BE(1) + 5;
        bytes += part.length;
        if (bytes < length) return;
        length = undefined;
        bytes = 0;
        if (isFirst) resolve();
        else if (--this.#waiting === 0) this.#done();
        isFirst = false;
      });
    });
  }

  /** Resolves when each stream has one more message. */
  all(): Promise<void> {
    this.#waiting = this.#streams;
    return new Promise((resolve) => {
      this.#done = resolve;
    });
  }
}
