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
    const head = Buffer.alloc(5);
    return new Promise((resolve, reject) => {
      stream.once('close', () => reject(new Error('a stream has ended')));
      stream.on('data', (part: Buffer) => {
        // One message at a time, in pieces of any size: the prefix may be one of its own.
        if (bytes < head.length) part.copy(head, bytes);
        bytes += part.length;
        if (bytes < head.length || bytes < head.readUInt32BE(1) + head.length) return;
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
