import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';

/** Where a server listens. */
export interface Target {
  host: string;
  port: number;
}

/** PEM: leaf and issuers, their key, and the root. */
export interface PeerIdentity {
  cert: string;
  key: string;
  ca: string;
}

/** What `vouch enroll` left in `dir`. */
export function deliveredIdentity(dir: string): PeerIdentity {
  const read = (name: string): string => readFileSync(join(dir, 'current', name), 'utf8');
  return { cert: read('svid.pem'), key: read('svid.key'), ca: read('bundle.pem') };
}

/** How a peer comes: on a connection of its own, with a session from before, on a connection that stays. */
export type Way = 'fresh' | 'resumed' | 'open';
export const ways: readonly Way[] = ['fresh', 'resumed', 'open'];

/** Milliseconds until each way was refused. */
export type Refusals = Record<Way, number>;

/** Pause between two attempts: what is measured is never off by more than this and one handshake. */
const pauseMs = 10;
/** How long an answer may take. */
const answerMs = 5_000;

/** A caller with a delivered identity. Everything but 200 is a refusal: nginx says 400, haproxy an alert or 421. */
export class TlsPeer {
  readonly #target: Target;
  readonly #context: SecureContext;
  #session: Buffer | undefined;

  constructor({ cert, key, ca }: PeerIdentity, target: Target) {
    this.#target = target;
    this.#context = createSecureContext({ cert, key, ca });
  }

  /** A request over a connection of its own, with the last session where `resume`. Why it was refused, or undefined. */
  async ask({ resume = false } = {}): Promise<string | undefined> {
    try {
      const connection = await this.#open(resume);
      try {
        return refusalOf(await connection.request());
      } finally {
        connection.close();
      }
    } catch (error) {
      return String(error);
    }
  }

  /** A connection that stays. Rejects where it is refused at once. */
  async stay(): Promise<{ request: () => Promise<string>; close: () => void }> {
    return this.#open(false);
  }

  /** Milliseconds from `startMs` (of `performance.now()`) until each way is refused. Rejects after `timeoutMs`. */
  async refusals(
    stayed: { request: () => Promise<string> },
    startMs: number,
    timeoutMs = 15_000,
  ): Promise<Refusals> {
    const give: Record<Way, () => Promise<string | undefined>> = {
      fresh: () => this.ask(),
      resumed: () => this.ask({ resume: true }),
      open: async () => refusalOf(await stayed.request().catch(String)),
    };
    const measured = await Promise.all(
      ways.map(async (way) => {
        while ((await give[way]()) === undefined) {
          if (performance.now() - startMs > timeoutMs)
            throw new Error(`${way}: still served after ${timeoutMs} ms`);
          await sleep(pauseMs);
        }
        return [way, performance.now() - startMs] as const;
      }),
    );
    return Object.fromEntries(measured) as Refusals;
  }

  async #open(resume: boolean): Promise<Connection> {
    const session = resume && this.#session ? { session: this.#session } : {};
    const socket = connect({
      ...this.#target,
      ...session,
      secureContext: this.#context,
      // Delivered servers are known by a SPIFFE ID; here the trust domain is enough.
      checkServerIdentity: () => undefined,
    });
    socket.on('session', (fresh) => (this.#session = fresh));
    const connection = new Connection(socket);
    await connection.secured;
    return connection;
  }
}

/** Undefined for 200. */
function refusalOf(answer: string): string | undefined {
  return answer.startsWith('HTTP/1.1 200 ') ? undefined : answer.split('\r\n', 1)[0];
}

/** HTTP/1.1 by hand: one request at a time, and nobody who quietly opens another connection. */
class Connection {
  readonly secured: Promise<void>;
  readonly #socket: TLSSocket;
  #received = '';
  #ended: string | undefined;
  #changed = (): void => undefined;

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.secured = promise;
    const ended = (why: string): void => {
      this.#ended ??= why;
      reject(new Error(why));
      this.#changed();
    };
    socket.setTimeout(answerMs, () => socket.destroy(new Error('no answer in time')));
    socket.setNoDelay(true);
    socket.once('secureConnect', resolve);
    socket.on('error', (error: Error) => ended(error.message));
    socket.on('close', () => ended('closed'));
    socket.setEncoding('latin1').on('data', (part: string) => {
      this.#received += part;
      this.#changed();
    });
  }

  /** The head of the answer. Rejects where the connection ends before. */
  async request(): Promise<string> {
    this.#received = '';
    this.#socket.write('GET / HTTP/1.1\r\nHost: service\r\n\r\n');
    for (;;) {
      const [head, body] = this.#received.split('\r\n\r\n', 2);
      const length = Number(/^content-length: *(\d+)/im.exec(head ?? '')?.[1] ?? 0);
      if (head !== undefined && body !== undefined && body.length >= length) return head;
      if (this.#ended !== undefined) throw new Error(this.#ended);
      await new Promise<void>((done) => (this.#changed = done));
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
