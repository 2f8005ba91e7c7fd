import type net from 'node:net';
import { openFilesLimit } from '../native/limits.ts';
import { addressGroup } from './address-group.ts';

const connectionsMax = 20_000;
/** Of a listener's connections, what one address may hold. */
const addressShare = 4;
/** Of a listener's connections, what may watch in one name: never more than one address. */
const streamsOfIdentityMax = 2_000;
/** Three listeners take three quarters of the descriptors at most; the rest is for store, signer and operators. */
const descriptorShare = 4;

/**
 * How many connections a listener takes, by the descriptors that this process may open, and of them one address, all
 * streams of events, and those of one identity: what enrolls finds room.
 */
export function connectionBounds(descriptors = openFilesLimit()) {
  const listener = Math.min(connectionsMax, Math.max(64, Math.floor(descriptors / descriptorShare)));
  const address = Math.floor(listener / addressShare);
  const streams = Math.floor((listener * 3) / 5);
  return { listener, address, streams, streamsOfIdentity: Math.min(streamsOfIdentityMax, address) };
}

/** What gives an address its place back, by both ends of the connection. */
const places = new Map<string, () => void>();

/** For a connection that has a bound of its own from here on: it is no longer one of its address. */
export function releaseAddress(socket: net.Socket): void {
  places.get(endsOf(socket))?.();
}

function endsOf({ remoteAddress, remotePort, localAddress, localPort }: net.Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}

/** Cuts what comes past the bounds, so that neither one address nor all of them can use up a listener or the process. */
export function boundConnections(
  server: net.Server,
  bounds: { listener: number; address: number } = connectionBounds(),
): void {
  server.maxConnections = bounds.listener;
  const held = new Map<string, number>();
  server.on('connection', (socket: net.Socket) => {
    const from = addressGroup(socket.remoteAddress ?? '');
    const count = held.get(from) ?? 0;
    if (count >= bounds.address) {
      socket.destroy();
      return;
    }
    held.set(from, count + 1);
    const ends = endsOf(socket);
    let isHeld = true;
    const release = (): void => {
      // Another connection may have these ends by now: they come again before `close` is told, or are none.
      if (places.get(ends) === release) places.delete(ends);
      if (!isHeld) return;
      isHeld = false;
      const left = (held.get(from) ?? 1) - 1;
      if (left > 0) held.set(from, left);
      else held.delete(from);
    };
    places.set(ends, release);
    socket.once('close', release);
  });
}
