import type { IncomingMessage } from 'node:http';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { enrollmentPaths } from '../wire/enrollment.ts';
import { heartbeatSeconds } from '../wire/watch.ts';
import { connectServer } from './connection.ts';
import { EventStreamReader, type StreamEvent } from './event-stream.ts';
import { open } from './exchange.ts';
import type { Held } from './held.ts';
import { pauseMs } from './retry.ts';
import { type Sleep, systemSleep } from './sleep.ts';
import { connectionFailure } from './tls-failure.ts';

/** Who says nothing for so long is gone, whatever TCP thinks. */
const silenceMs = heartbeatSeconds * 3 * 1000;
/** Where the server says nothing, and where it says less. */
const retryDefaultMs = 1000;
const retryMaxMs = 60_000;

/** What a watcher works with. */
export interface WatcherParts {
  clock: Clock;
  signal: AbortSignal;
  notice: (line: string) => void;
  /** Told of each event; one that cannot be read is its own to report. Must not throw. */
  event: (event: StreamEvent) => void;
  /** Told when events come, and when they do not any more. */
  live: (isLive: boolean) => void;
  /** Our certificate is revoked: the server refuses us. */
  revoked: (detail: string) => void;
  sleep?: Sleep;
  /** For tests. */
  silenceMs?: number;
}

/** Keeps one stream of events open to the server, by the certificate that is held, and comes back where it breaks off. */
export class Watcher {
  readonly #parts: WatcherParts;
  #held: Held;
  #renewed = new AbortController();
  #lastEventId: string | undefined;
  #retryMs = retryDefaultMs;
  #said = '';
  /** Whether the present stream said anything: who is heard is there. */
  #isHeard = false;

  constructor(held: Held, parts: WatcherParts) {
    this.#held = held;
    this.#parts = parts;
  }

  /** From here on by this certificate: the server ends a stream with the certificate that it was opened by. */
  adopt(held: Held): void {
    if (held.delivered.leaf.serial === this.#held.delivered.leaf.serial) return;
    this.#held = held;
    this.#renewed.abort();
  }

  /** Until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { signal, sleep = systemSleep } = this.#parts;
    let failures = 0;
    while (!signal.aborted) {
      this.#renewed = new AbortController();
      const renewed = this.#renewed.signal;
      this.#isHeard = false;
      const failure = await this.#watchOnce(AbortSignal.any([signal, renewed]));
      this.#parts.live(false);
      if (signal.aborted) return;
      if (renewed.aborted) continue;
      failures = this.#isHeard ? 1 : failures + 1;
      await sleep(this.#pauseMs(failures, failure), AbortSignal.any([signal, renewed]));
    }
  }

  /** Why it ended, where that was not the server's own doing. */
  async #watchOnce(signal: AbortSignal): Promise<unknown> {
    try {
      await this.#stream(signal);
      return undefined;
    } catch (error) {
      if (!signal.aborted) this.#tell(error);
      return error;
    }
  }

  async #stream(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    const { state, delivered } = this.#held;
    const client = { cert: delivered.chainPem, key: delivered.keyPem };
    const socket = await connectServer(state, state.root, { clock, signal }, client);
    using silence = new Silence(this.#parts.silenceMs ?? silenceMs, () => socket.destroy());
    try {
      const headers = {
        accept: 'text/event-stream',
        ...(this.#lastEventId !== undefined && { 'last-event-id': this.#lastEventId }),
      };
      const request = { method: 'GET', path: enrollmentPaths.watch, headers } as const;
      await this.#read(
        await open({ createConnection: () => socket }, state.server, request, { clock, signal }),
        silence,
      );
    } catch (error) {
      if (silence.isTooLong) throw silent(state.server);
      throw connectionFailure(error, state.server, { clock, verified: true });
    } finally {
      socket.destroy();
    }
  }

  async #read(response: IncomingMessage, silence: Silence): Promise<void> {
    const reader = new EventStreamReader(this.#lastEventId);
    for await (const chunk of response) {
      silence.over();
      this.#heard();
      for (const event of reader.push(chunk as Buffer)) this.#parts.event(event);
      this.#lastEventId = reader.lastEventId;
      const asked = reader.retryMs ?? this.#retryMs;
      this.#retryMs = Math.min(Math.max(asked, retryDefaultMs), retryMaxMs);
    }
  }

  #heard(): void {
    this.#isHeard = true;
    this.#parts.live(true);
    if (this.#said !== '') this.#parts.notice('the server tells of changes again');
    this.#said = '';
  }

  #tell(error: unknown): void {
    const { notice, revoked } = this.#parts;
    const detail = error instanceof Error ? error.message : String(error);
    const code = error instanceof VouchError ? error.code : undefined;
    // An older server does not know the path: that is no failure.
    if (code === 'request-not-found') return;
    if (code === 'denied-revoked') revoked(detail);
    else if (detail !== this.#said)
      notice(`the server does not tell of changes: ${detail}; CRLs are asked for`);
    this.#said = detail;
  }

  /** Within the time that the server named, which is longer the more there are who come back; doubled where it is not there. */
  #pauseMs(failures: number, failure: unknown): number {
    const asked = failure instanceof VouchError ? failure.retryAfterSeconds : undefined;
    return pauseMs(failures, { baseMs: this.#retryMs, capMs: retryMaxMs }, asked);
  }
}

function silent(server: string): VouchError {
  return new VouchError('unavailable-server', `${server} has gone silent`);
}

/** Calls `gone` where nothing is heard for so long. */
class Silence {
  isTooLong = false;
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number, gone: () => void) {
    this.#timer = setTimeout(() => {
      this.isTooLong = true;
      gone();
    }, ms);
  }

  over(): void {
    this.#timer.refresh();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
