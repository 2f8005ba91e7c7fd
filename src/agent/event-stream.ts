import { StringDecoder } from 'node:string_decoder';
import { VouchError } from '../core/errors.ts';
import { eventMaxBytes } from '../wire/watch.ts';

/** One server-sent event. */
export interface StreamEvent {
  type: string;
  data: string;
}

/**
 * Reads `text/event-stream` (HTML Living Standard §9.2.6) as it comes, cut anywhere. Throws `denied-server` for an event
 * longer than `eventMaxBytes`.
 */
export class EventStreamReader {
  /** What a reconnect names: the id of the last event that was whole. */
  lastEventId: string | undefined;
  /** Within how many milliseconds to come back, as the server last said. */
  retryMs: number | undefined;
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';
  #lines: string[] = [];
  #length = 0;

  constructor(lastEventId: string | undefined) {
    this.lastEventId = lastEventId;
  }

  /** The events that this chunk completes. */
  push(chunk: Buffer): StreamEvent[] {
    const lines = (this.#rest + this.#decoder.write(chunk)).split('\n');
    this.#rest = lines.pop() ?? '';
    const events = lines.flatMap((line) => this.#line(line) ?? []);
    if (this.#length + this.#rest.length > eventMaxBytes)
      throw new VouchError('denied-server', `an event of the server is longer than ${eventMaxBytes} bytes`);
    return events;
  }

  #line(line: string): StreamEvent | undefined {
    if (line !== '') {
      this.#lines.push(line);
      this.#length += line.length;
      return undefined;
    }
    const lines = this.#lines;
    this.#lines = [];
    this.#length = 0;
    return this.#block(lines);
  }

  #block(lines: readonly string[]): StreamEvent | undefined {
    const event = { type: 'message', data: '' };
    for (const line of lines) {
      const [, field, value = ''] = /^([a-z]+)(?:: ?(.*))?$/s.exec(line) ?? [];
      if (field === 'event') event.type = value;
      else if (field === 'data') event.data += value;
      else if (field === 'id' && /^\d{1,15}$/.test(value)) this.lastEventId = value;
      else if (field === 'retry' && /^\d{1,7}$/.test(value)) this.retryMs = Number(value);
    }
    return event.data === '' ? undefined : event;
  }
}
