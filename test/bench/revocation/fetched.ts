import { Agent, get, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Serial, serialBytes } from '../../../src/core/serial.ts';
import { tlv } from '../../../src/x509/der.ts';

/** Pause between two conditional requests. */
const pauseMs = 10;
const timeoutMs = 60_000;

/** One published CRL, asked for by conditional GETs for as long as somebody waits for a serial to be on it. */
export class WatchedCrl {
  readonly #url: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #waiting = new Map<Serial, (atMs: number) => void>();
  #etag: string | undefined;
  #running: Promise<void> | undefined;

  constructor(url: string) {
    this.#url = url;
  }

  /** Fetches it for the first time. */
  async prime(): Promise<void> {
    await this.#ask();
  }

  /** When (`performance.now()`) a fetched CRL had the serial. Rejects after a minute. */
  listed(serial: Serial): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#waiting.set(serial, resolve);
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
    return Promise.race([promise, this.#running.then(() => promise)]);
  }

  close(): void {
    this.#agent.destroy();
  }

  /** The DER of the last one. */
  der = Buffer.alloc(0);

  async #run(): Promise<void> {
    const startMs = performance.now();
    while (this.#waiting.size > 0) {
      if (performance.now() - startMs > timeoutMs)
        throw new Error(`${this.#url} lacks a serial after a minute`);
      if (await this.#ask()) this.#tell(performance.now());
      else await sleep(pauseMs);
    }
  }

  /** True for a CRL other than before. */
  async #ask(): Promise<boolean> {
    const headers = this.#etag === undefined ? {} : { 'if-none-match': this.#etag };
    const response = await new Promise<IncomingMessage>((done, failed) => {
      get(this.#url, { agent: this.#agent, headers, timeout: timeoutMs }, done).on('error', failed);
    });
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    if (response.statusCode === 304) return false;
    if (response.statusCode !== 200) throw new Error(`${this.#url} answers ${response.statusCode}`);
    this.#etag = response.headers.etag;
    this.der = Buffer.concat(chunks);
    return true;
  }

  #tell(atMs: number): void {
    for (const [serial, resolve] of this.#waiting) {
      // Its INTEGER: random as it is, nothing else has these bytes.
      if (!this.der.includes(tlv(0x02, serialBytes(serial)))) continue;
      this.#waiting.delete(serial);
      resolve(atMs);
    }
  }
}
