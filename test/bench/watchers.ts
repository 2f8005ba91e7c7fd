import tls, { type TLSSocket } from 'node:tls';

/** A client certificate and its key, PEM. */
export interface Shown {
  cert: string;
  key: string;
}

/** What an event says of a CRL, found without reading the rest. */
const crlForm = /^data: \{"issuerKeyId":"[0-9a-f]{40}","scope":"(full|delta)","crlNumber":(\d+)/gm;

/**
 * Simulated agents: open streams of events in this process, which note when they hear of a CRL and do nothing else.
 * Imports nothing of Vouch's, so that a benchmark can run it in a process and on a core of its own.
 */
export class Watchers {
  readonly #sockets: TLSSocket[] = [];
  /** By scope and number: by `performance.now`, when each heard of it. */
  readonly #heard = new Map<string, number[]>();
  #lost = 0;

  /** Opens a stream for each certificate in the list, some at once. Rejects where one is refused. */
  static async open(url: string, shown: readonly Shown[], atOnce = 32): Promise<Watchers> {
    const watchers = new Watchers();
    const left = [...shown];
    const openSome = async (): Promise<void> => {
      for (let next = left.pop(); next; next = left.pop()) await watchers.#open(url, next);
    };
    await Promise.all(Array.from({ length: atOnce }, openSome));
    return watchers;
  }

  get size(): number {
    return this.#sockets.length;
  }

  /** Streams that ended before `close`. */
  get lost(): number {
    return this.#lost;
  }

  /** When each heard of this CRL, once all have; rejects after `timeoutMs`. */
  async heard(scope: 'full' | 'delta', crlNumber: number, timeoutMs = 30_000): Promise<readonly number[]> {
    const key = `${scope} ${crlNumber}`;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const times = this.#heard.get(key) ?? [];
      if (times.length >= this.size) return times;
      if (performance.now() > deadline)
        throw new Error(`${times.length} of ${this.size} heard of CRL ${key}`);
      await new Promise((done) => setTimeout(done, 5));
    }
  }

  close(): void {
    for (const socket of this.#sockets.splice(0)) socket.destroy();
  }

  #open(url: string, shown: Shown): Promise<void> {
    const { hostname, port } = new URL(url);
    const socket = tls.connect({ host: hostname, port: Number(port), rejectUnauthorized: false, ...shown });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let rest = '';
    let isOpen = false;
    socket.setEncoding('latin1');
    socket.on('secureConnect', () => socket.write('GET /v1/watch HTTP/1.1\r\nhost: vouch\r\n\r\n'));
    socket.on('data', (chunk: string) => {
      const nowMs = performance.now();
      if (!isOpen) {
        if (!chunk.startsWith('HTTP/1.1 200')) return reject(new Error(`refused: ${chunk.slice(0, 300)}`));
        isOpen = true;
        this.#sockets.push(socket);
        resolve();
      }
      const text = rest + chunk;
      const whole = text.lastIndexOf('\n') + 1;
      rest = text.slice(whole);
      for (const [, scope, number] of text.slice(0, whole).matchAll(crlForm))
        this.#note(`${scope} ${number}`, nowMs);
    });
    socket.on('error', reject);
    socket.on('close', () => {
      const at = this.#sockets.indexOf(socket);
      if (at < 0) return reject(new Error('the connection was cut'));
      this.#sockets.splice(at, 1);
      this.#lost += 1;
    });
    return promise;
  }

  #note(key: string, nowMs: number): void {
    const times = this.#heard.get(key);
    if (times) times.push(nowMs);
    else this.#heard.set(key, [nowMs]);
  }
}

/** The value below or at which this share of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
