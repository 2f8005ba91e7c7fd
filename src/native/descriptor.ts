import type { Socket } from 'node:net';

/** Node has no public way to a socket's descriptor; undefined once the handle is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const handle = (socket as { _handle?: { fd?: unknown } | null })._handle;
  return typeof handle?.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}
