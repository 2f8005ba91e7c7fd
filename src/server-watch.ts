import { ClientConnections } from './http/client-connections.ts';
import { connectionBounds } from './http/connection-bounds.ts';
import type { Kernel } from './kernel.ts';
import type { Mutation } from './store/port.ts';
import { errorFields, type Log } from './telemetry/log.ts';
import { WatchHub } from './watch/hub.ts';
import { entriesState, Watch } from './watch/watch.ts';

/** Takes what is committed before there is anybody to tell. */
export class LateWatch {
  watch: Watch | undefined;
  readonly committed = (mutation: Mutation, leafIndex: number): void =>
    this.watch?.committed(mutation, leafIndex);
}

/** What watchers are told, beginning with what is served at the start; and the connections that end with a certificate. */
export function openWatch(
  { store, clockGuard, bundle }: Kernel,
  late: LateWatch,
  log: Log,
): { watch: Watch; clients: ClientConnections } {
  const clients = new ClientConnections();
  const { streams, streamsOfIdentity } = connectionBounds();
  const limits = { streams, streamsOfIdentity };
  const hub = new WatchHub({
    ...{ store, limits },
    timeMs: () => clockGuard.steadyTimeMs(),
    ofHolder: (holder) => entriesState(store, holder),
  });
  const watch = new Watch({
    ...{ hub, store },
    firstLeafIndex: store.treeSize(),
    cutConnections: (certificate) => clients.cut(certificate),
    failed: (error) => log.error(errorFields(error), 'watchers were not told of everything'),
  });
  watch.bundleServed(bundle.sequence);
  late.watch = watch;
  return { watch, clients };
}
