import { X509Certificate } from 'node:crypto';
import { connect as connectPlain, type Socket } from 'node:net';
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import type { PeerIdentity } from './tls-peer.ts';

/** What is said, and what all that is answered has to match; bytes as latin1. */
interface Turn {
  say: string;
  answer: RegExp;
}

/** How a caller finds out whether it is served. */
export interface Exchange {
  /** Before TLS. */
  plain?: Turn;
  first: Turn;
  /** Later on a connection that stayed. */
  again: Turn;
}

/** Of the protocols that are spoken over TLS. */
export const exchanges = {
  http: (host: string): Exchange => {
    const say = `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
    // 421: this connection has to be opened anew (haproxy after a change of its CRL), and nobody was refused.
    return { first: { say, answer: /HTTP\/1\.1 (?:200|421) / }, again: { say, answer: /HTTP\/1\.1 200 / } };
  },
  redis: (): Exchange => {
    const ping = { say: 'PING\r\n', answer: /^\+PONG\r\n/ };
    return { first: ping, again: ping };
  },
  /** MQTT 3.1.1 §3.1, §3.2, §3.12: CONNECT without a client id, CONNACK with return code 0, PINGREQ. */
  mqtt: (): Exchange => ({
    first: { say: '\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0', answer: /^\x20\x02\0\0/ },
    again: { say: '\xc0\0', answer: /^\xd0\0/ },
  }),
  /** PostgreSQL's protocol 3.0: SSLRequest, StartupMessage, AuthenticationOk, Query. */
  postgres: (user: string, database: string): Exchange => ({
    plain: { say: '\0\0\0\x08\x04\xd2\x16\x2f', answer: /^S$/ },
    first: {
      say: withLength(`\0\x03\0\0user\0${user}\0database\0${database}\0\0`),
      answer: /^R\0\0\0\x08\0\0\0\0/,
    },
    again: { say: `Q${withLength('select 1\0')}`, answer: /SELECT 1\0/ },
  }),
};

/** A message of PostgreSQL's, whose length counts itself. */
function withLength(message: string): string {
  return `\0\0\0${String.fromCharCode(message.length + 4)}${message}`;
}

/** How long an answer may take. */
const answerMs = 10_000;

/** Serial of an identity's certificate, in hex. */
export function serialOf({ cert }: Pick<PeerIdentity, 'cert'>): string {
  return new X509Certificate(cert).serialNumber.toLowerCase();
}

/** Makes connections with the certificate of one identity as it was delivered. */
export class TlsCaller {
  /** Of its certificate, in hex. */
  readonly serial: string;
  readonly #target: { host: string; port: number };
  readonly #serverName: string;
  readonly #context: SecureContext;
  readonly #exchange: Exchange;
  #session: Buffer | undefined;

  constructor(
    { serverName, ...target }: { host: string; port: number; serverName: string },
    { cert, key, ca }: PeerIdentity,
    exchange: Exchange,
  ) {
    this.serial = serialOf({ cert });
    this.#target = target;
    this.#serverName = serverName;
    this.#context = createSecureContext({ cert, key, ca });
    this.#exchange = exchange;
  }

  /** A connection of its own, with the last session where `resume`. Serial of the server's certificate; rejects where it is not served. */
  async ask({ resume = false } = {}): Promise<string> {
    const socket = await this.#open(resume);
    const shown = socket.getPeerX509Certificate();
    socket.destroy();
    return shown?.serialNumber.toLowerCase() ?? '';
  }

  /** A connection that stays; says whether it is served still. */
  async stay(): Promise<() => Promise<boolean>> {
    const socket = await this.#open(false);
    return () =>
      took(socket, this.#exchange.again).then(
        () => true,
        () => false,
      );
  }

  async #open(resume: boolean): Promise<TLSSocket> {
    const { plain, first } = this.#exchange;
    const socket = connectPlain(this.#target);
    try {
      if (plain) await took(socket, plain);
      const secured = this.#secure(socket, resume);
      await took(secured, first);
      return secured;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  #secure(socket: Socket, resume: boolean): TLSSocket {
    const secured = connect({
      socket,
      servername: this.#serverName,
      secureContext: this.#context,
      ...(resume && this.#session && { session: this.#session }),
    });
    return secured.on('session', (session: Buffer) => (this.#session = session));
  }
}

/** Rejects where the connection ends, or too much time passes, before the answer is there. */
function took(socket: Socket, { say, answer }: Turn): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let received = '';
  const take = (part: Buffer): void => {
    received += part.toString('latin1');
    if (answer.test(received)) resolve();
  };
  const failed = (error?: unknown): void =>
    reject(
      error instanceof Error ? error : new Error(`closed after ${JSON.stringify(received.slice(0, 100))}`),
    );
  const late = setTimeout(failed, answerMs, new Error('no answer in time'));
  socket.on('data', take).on('error', failed).on('close', failed);
  // Where it ended before.
  if (socket.destroyed) failed();
  else socket.write(say, 'latin1');
  return promise.finally(() => {
    clearTimeout(late);
    socket.off('data', take).off('close', failed);
  });
}
