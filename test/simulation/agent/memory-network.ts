import { X509Certificate } from 'node:crypto';
import { Agent, type Server } from 'node:http';
import { Duplex } from 'node:stream';
import type { ConnectionOptions } from 'node:tls';

/** As an ESM import would be another object: what the agent looks at. */
const tls = process.getBuiltinModule('node:tls');

/** Why nothing gets through: refused at once, or packets vanish. */
export type Outage = 'refused' | 'silent';

/** What the server is, to those who come over this network. */
export interface Ends {
  /** Gets connections that are through the handshake. */
  enrollment: Server;
  publication: Server;
  /** DER. */
  root: Buffer;
  /** Unix milliseconds. */
  nowMs: () => number;
}

/**
 * TLS and TCP without machine: bytes go from one end to the other in turns of this event loop. What TLS proves, who the
 * client is, is taken from the certificate that it would show; one that is over is refused as a server does.
 */
export class MemoryNetwork {
  readonly #ends: Ends;
  readonly #open = new Set<Wire>();
  readonly #real = {
    connect: tls.connect,
    createConnection: Reflect.get(Agent.prototype, 'createConnection') as unknown,
  };
  outage: Outage | undefined;
  /** Asked for each connection: whether the answer to what is sent over it is lost. */
  losesAnswer: () => boolean = () => false;
  /** When somebody tried to reach the enrollment listener, Unix milliseconds. */
  attempts: number[] = [];

  constructor(ends: Ends) {
    this.#ends = ends;
  }

  get connections(): number {
    return this.#open.size;
  }

  install(): void {
    const connect = (options: ConnectionOptions): Wire => {
      this.attempts.push(this.#ends.nowMs());
      const { cert } = options;
      const certificate = typeof cert === 'string' ? new X509Certificate(cert) : undefined;
      return this.#connect(this.#ends.enrollment, certificate, 'secureConnection');
    };
    const createConnection = (): Wire => this.#connect(this.#ends.publication, undefined, 'connection');
    Object.assign(tls, { connect });
    Object.assign(Agent.prototype, { createConnection });
  }

  restore(): void {
    this.cut();
    Object.assign(tls, { connect: this.#real.connect });
    Object.assign(Agent.prototype, { createConnection: this.#real.createConnection });
  }

  /** What was on its way while packets vanished arrives late, as TCP sends it again. */
  heal(): void {
    this.outage = undefined;
    for (const wire of this.#open) wire.arrive();
  }

  /** Every connection is reset. */
  cut(): void {
    for (const wire of this.#open) wire.destroy(failure('ECONNRESET'));
  }

  #connect(server: Server, certificate: X509Certificate | undefined, event: string): Wire {
    const [client, accepted] = wires(() => this.outage !== undefined);
    client.root = this.#ends.root;
    accepted.certificate = certificate;
    const isOver = certificate !== undefined && Date.parse(certificate.validTo) < this.#ends.nowMs();
    const isLossy = this.losesAnswer();
    process.nextTick(() => {
      if (this.outage === 'refused') client.destroy(failure('ECONNREFUSED'));
      else if (isOver) client.destroy(failure('ERR_SSL_TLSV1_ALERT_CERTIFICATE_EXPIRED'));
      if (this.outage !== undefined || isOver || client.destroyed) return;
      accepted.isMute = isLossy;
      for (const wire of [client, accepted]) {
        this.#open.add(wire);
        wire.once('close', () => this.#open.delete(wire));
      }
      server.emit(event, accepted);
      client.emit('connect');
      client.emit('secureConnect');
    });
    return client;
  }
}

function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}

function wires(isLost: () => boolean): [Wire, Wire] {
  const pair: [Wire, Wire] = [new Wire(isLost), new Wire(isLost)];
  pair[0].other = pair[1];
  pair[1].other = pair[0];
  return pair;
}

/** One end of a connection, with as much of a TLS socket as is asked of it. */
class Wire extends Duplex {
  other: Wire | undefined;
  certificate: X509Certificate | undefined;
  root: Buffer | undefined;
  /** What it would say ends the connection instead. */
  isMute = false;
  readonly #isLost: () => boolean;
  readonly #late: (Buffer | null)[] = [];
  #hasEnded = false;

  constructor(isLost: () => boolean) {
    super({ allowHalfOpen: false });
    this.#isLost = isLost;
    this.on('error', () => undefined);
  }

  override _read(): void {
    // What is sent is pushed.
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (this.isMute) this.destroy();
    else this.other?.receive(chunk);
    done();
  }

  override _final(done: () => void): void {
    this.other?.receive(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.other?.receive(null);
    done(error);
  }

  receive(chunk: Buffer | null): void {
    this.#late.push(chunk);
    if (!this.#isLost()) this.arrive();
  }

  arrive(): void {
    for (const chunk of this.#late.splice(0)) {
      if (this.destroyed || this.#hasEnded) return;
      this.#hasEnded = chunk === null;
      this.push(chunk);
    }
  }

  getPeerX509Certificate(): X509Certificate | undefined {
    return this.certificate;
  }

  getPeerCertificate(): { raw: Buffer | undefined } {
    return { raw: this.root };
  }

  exportKeyingMaterial(bytes: number): Buffer {
    return Buffer.alloc(bytes, 7);
  }

  destroySoon(): void {
    this.end();
  }

  setTimeout(): this {
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }
}
