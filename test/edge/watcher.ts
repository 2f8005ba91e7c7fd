import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { onTestFinished } from 'vitest';
import { crlEventSchema } from '../../src/wire/watch.ts';
import { dial, type DialOptions } from './client.ts';

/** One event as it came. */
export interface Heard {
  id: string | undefined;
  event: string;
  data: Record<string, unknown>;
}

/** An open stream with what it has said so far. */
export interface Watcher {
  socket: TLSSocket;
  status: number;
  heard: Heard[];
  /** All of it, comments too. */
  text: () => string;
  /** The id that a reconnect names. */
  lastEventId: () => string | undefined;
  /** Resolves to the first event that passes, past or to come. */
  until: (passes: (heard: Heard) => boolean, timeoutMs?: number) => Promise<Heard>;
  closed: Promise<void>;
  close: () => void;
}

/** Opens `GET /v1/watch`; `headers` as given. */
export async function watch(
  url: string,
  { headers, ...options }: DialOptions & { headers?: Record<string, string> },
): Promise<Watcher> {
  const socket = await dial(url, options);
  const path = '/v1/watch';
  const asked = request({ path, headers: { host: 'vouch', ...headers }, createConnection: () => socket });
  asked.on('error', () => undefined);
  const { promise, resolve, reject } = Promise.withResolvers<Watcher>();
  socket.once('close', () => reject(new Error('the connection was cut')));
  asked.end();
  asked.on('response', (response) => {
    const heard: Heard[] = [];
    let text = '';
    let rest = '';
    let last: string | undefined;
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const blocks = (rest + chunk).split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
        last = field('id') ?? last;
        const event = field('event');
        if (event !== undefined)
          heard.push({ id: field('id'), event, data: JSON.parse(field('data') ?? '{}') as Heard['data'] });
      }
    });
    response.on('error', () => undefined);
    const until: Watcher['until'] = async (passes, timeoutMs = 30_000) => {
      for (const deadline = performance.now() + timeoutMs; ; await sleep(5)) {
        const found = heard.find(passes);
        if (found) return found;
        if (performance.now() > deadline || socket.destroyed)
          throw new Error(`not heard: ${passes.toString()}\n${text}`);
      }
    };
    const closed = new Promise<void>((done) => void socket.once('close', () => done()));
    onTestFinished(() => void socket.destroy());
    const close = () => void socket.destroy();
    resolve({
      ...{ socket, heard, until, closed, close },
      ...{ status: response.statusCode ?? 0, text: () => text, lastEventId: () => last },
    });
  });
  return promise;
}

/** The `crl` events among what was heard, decoded. */
export function crlsHeard(heard: readonly Heard[]) {
  return heard.filter(({ event }) => event === 'crl').map(({ data }) => crlEventSchema.parse(data));
}
