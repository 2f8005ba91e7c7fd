import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

/** The two ends of a proxied connection; `plain` allows half-open ones. */
export interface Ends {
  secure: TLSSocket;
  /** What `secure` runs over: TLS itself cannot reset a connection. */
  carrier: Socket;
  plain: Socket;
}

/** In milliseconds, without a byte either way: always, and once one side has said that it sends no more. */
export interface LinkLimits {
  idleMs: number | undefined;
  halfClosedMs: number;
}

/**
 * Two ends that live and die together. An end of one direction is passed on, and the other direction goes on. What broke
 * off is passed on as a reset and never as an end: half an upload must not look like a whole one.
 */
export class Link {
  readonly ends: Ends;
  readonly #limits: LinkLimits;
  #isJoined = false;

  /** `closed` is called once neither end is left. */
  constructor(ends: Ends, limits: LinkLimits, closed: () => void) {
    this.ends = ends;
    this.#limits = limits;
    const { secure, plain } = ends;
    let left = 2;
    const gone = (end: Socket, other: Socket): void => {
      this.#follow(end, other);
      left -= 1;
      if (left === 0) closed();
    };
    // What is wrong with it its `close` says.
    for (const end of Object.values(ends) as Socket[]) end.on('error', () => undefined);
    secure.once('close', () => gone(secure, plain));
    plain.once('close', () => gone(plain, secure));
  }

  /** Whether bytes pass. */
  get isJoined(): boolean {
    return this.#isJoined;
  }

  /** Bytes pass from here on. `silent` is called where none did for too long, before the connection is cut. */
  join(silent: () => void): void {
    const { secure, plain } = this.ends;
    const { idleMs, halfClosedMs } = this.#limits;
    this.#isJoined = true;
    secure.allowHalfOpen = true;
    const bound = (ms: number): void => {
      secure.setTimeout(ms);
      plain.setTimeout(ms);
    };
    bound(idleMs ?? 0);
    for (const end of [secure, plain]) {
      end.setNoDelay(true).setKeepAlive(true, keepAliveMs);
      end.once('end', () => bound(Math.min(idleMs ?? Infinity, halfClosedMs)));
      end.once('timeout', () => {
        silent();
        this.cut();
      });
    }
    secure.pipe(plain);
    plain.pipe(secure);
  }

  /** Ends both at once, by a reset. */
  cut(): void {
    const { secure, carrier, plain } = this.ends;
    secure.unpipe(plain);
    plain.unpipe(secure);
    reset(plain);
    // Not below TLS while it may be at work further up this very stack: the process would crash.
    setImmediate(() => {
      reset(carrier);
      secure.destroy();
    });
  }

  /** After one end closed: the other is given the time to take what was said in full, or else reset. */
  #follow(closed: Socket, other: Socket): void {
    const wasWhole = this.#isJoined && closed.readableEnded;
    const wasRefused = !this.#isJoined && closed === this.ends.plain && this.ends.secure.authorized;
    if (wasWhole || wasRefused) other.destroySoon();
    else this.cut();
  }
}

/** Finds peers that vanished without a word. */
const keepAliveMs = 60_000;

/** A unix socket has no reset. */
function reset(socket: Socket): void {
  if (socket.connecting || socket.remoteAddress === undefined) socket.destroy();
  else socket.resetAndDestroy();
}
