import { type CrlEvent, readEvent, type RenewWorkloads } from '../wire/watch.ts';
import type { StreamEvent } from './event-stream.ts';

/** What the server's events lead to. */
export interface Told {
  crl: (event: CrlEvent) => void;
  /** The bundle has this sequence. */
  bundle: (sequence: number) => void;
  /** To renew soon: an operator asks for it, or the registration entry is another. */
  renew: () => void;
  /** The entries that name us as parent have this sequence. */
  entries?: (sequence: number) => void;
  /** An operator asks that what we hold for workloads be renewed. */
  renewWorkloads?: (order: RenewWorkloads) => void;
  notice: (line: string) => void;
}

/** Hands an event to what it is for. */
export function handOn({ type, data }: StreamEvent, told: Told): void {
  const read = readEvent(type, data);
  if (read?.type === 'crl') told.crl(read.event);
  else if (read?.type === 'bundle') told.bundle(read.event.sequence);
  else if (read?.type === 'renew') told.renew();
  else if (read?.type === 'renew-workloads') told.renewWorkloads?.(read.event);
  else if (read?.type === 'entries') told.entries?.(read.event.sequence);
  else if (read?.type === 'entry' && !read.event.suspended) told.renew();
  else if (read?.type === 'entry') told.notice('the operator suspended this identity: it is not renewed');
}
