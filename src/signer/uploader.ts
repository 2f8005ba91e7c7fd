import { type Request, uploadPartBytes, uploadsAtOnce } from './protocol.ts';

/** Parts on their way before the first of them is answered: the signer need not wait, and an append is soon served. */
const partsAhead = 2;

/** Sends CRLs in parts, several at once, so that appends and other CRLs come between. */
export class Uploader {
  readonly #ask: (request: Request) => Promise<Buffer>;
  readonly #waiting: (() => void)[] = [];
  #underWay = 0;
  #number = 0;

  constructor(ask: (request: Request) => Promise<Buffer>) {
    this.#ask = ask;
  }

  /** Resolves when all of it is read there. `onPart` is called at each answer; what it throws ends the upload. */
  async upload(chunks: Iterable<Buffer>, onPart: () => void): Promise<void> {
    if (this.#underWay < uploadsAtOnce) this.#underWay += 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      await this.#send(chunks, onPart);
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#underWay -= 1;
    }
  }

  async #send(chunks: Iterable<Buffer>, onPart: () => void): Promise<void> {
    const upload = this.#number++ % 2 ** 32;
    const asked: Promise<Buffer>[] = [];
    for (const { part, last } of partsOf(chunks, uploadPartBytes)) {
      const answer = this.#ask({ op: 'upload', upload, part, last });
      // It is awaited below, unless one before it was refused.
      answer.catch(() => undefined);
      asked.push(answer);
      if (asked.length < partsAhead) continue;
      await asked.shift();
      onPart();
    }
    await Promise.all(asked);
  }
}

/** Joins and cuts chunks to parts of `size` bytes; the last one may have less, also none. */
function* partsOf(chunks: Iterable<Buffer>, size: number): Generator<{ part: Buffer; last: boolean }> {
  let held: Buffer[] = [];
  let room = size;
  for (const chunk of chunks)
    for (let at = 0; at < chunk.length; ) {
      if (room === 0) {
        yield { part: Buffer.concat(held), last: false };
        held = [];
        room = size;
      }
      const piece = chunk.subarray(at, at + room);
      held.push(piece);
      room -= piece.length;
      at += piece.length;
    }
  yield { part: Buffer.concat(held), last: true };
}
