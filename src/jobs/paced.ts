import { setImmediate as turn } from 'node:timers/promises';

/** What is done with it takes a millisecond or two: hashing is the slowest. */
const sliceBytes = 512 * 1024;

/** The chunks, with a turn for everybody else after each half mebibyte: a fast reader would have the process to itself. */
export async function* paced(chunks: Iterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  let since = 0;
  for (const chunk of chunks) {
    yield chunk;
    since += chunk.length;
    if (since < sliceBytes) continue;
    since = 0;
    await turn();
  }
}
