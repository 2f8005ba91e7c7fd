import type * as z from 'zod/mini';
import {
  bundleEventSchema,
  type CrlEvent,
  crlEventSchema,
  entryEventSchema,
  renewEventSchema,
} from '../wire/watch.ts';
import type { StreamEvent } from './event-stream.ts';

/** What the server's events lead to. */
export interface Told {
  crl: (event: CrlEvent) => void;
  /** The bundle has this sequence. */
  bundle: (sequence: number) => void;
  /** To renew soon: an operator asks for it, or the registration entry is another. */
  renew: () => void;
  notice: (line: string) => void;
}

/** Hands an event to what it is for. Of a type or form that this version does not know, none is: a newer server may send it. */
export function handOn({ type, data }: StreamEvent, told: Told): void {
  if (type === 'crl') read(crlEventSchema, data, told.crl);
  else if (type === 'bundle') read(bundleEventSchema, data, ({ sequence }) => told.bundle(sequence));
  else if (type === 'renew') read(renewEventSchema, data, () => told.renew());
  else if (type === 'entry')
    read(entryEventSchema, data, ({ suspended }) => {
      if (suspended) told.notice('the operator suspended this identity: it is not renewed');
      else told.renew();
    });
}

function read<S extends z.ZodMiniType>(schema: S, text: string, then: (event: z.output<S>) => void): void {
  const { data } = schema.safeParse(jsonOf(text));
  if (data !== undefined) then(data);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
