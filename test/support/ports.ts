import { createServer } from 'node:net';

/** Below what Linux gives to outgoing connections (32768 and up), of which one that has just ended keeps its port from everybody. */
const first = 10_000;
const count = 22_000;
/** Each process of tests has so many in a row before it meets another's. */
const each = 64;

let taken = 0;

/** A port that nobody has, of 127.0.0.1 or any other address, and that nobody is given meanwhile. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = first + ((process.pid * each + taken++) % count);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = createServer();
  probe.once('error', () => resolve(false));
  probe.listen({ port }, () => probe.close(() => resolve(true)));
  return promise;
}
