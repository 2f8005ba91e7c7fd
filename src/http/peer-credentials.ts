import type { Socket } from 'node:net';
import { VouchError } from '../core/errors.ts';
import { descriptorOf } from '../native/descriptor.ts';
import { linux } from '../native/linux.ts';

/** Who connected a unix socket, as the kernel recorded it at connect (SO_PEERCRED, unix(7)). */
export interface PeerCredentials {
  /** 0 where the peer lives in another pid namespace. */
  pid: number;
  uid: number;
  gid: number;
}

/**
 * The operator at the other end of an accepted unix socket. Throws denied-operator for every socket of which the
 * kernel cannot tell: TCP, closed, or the addon is missing (I7).
 */
export function peerCredentials(socket: Socket): PeerCredentials {
  const fd = descriptorOf(socket);
  if (fd === undefined) throw unknownPeer('the connection is closed');
  try {
    return linux().peerCredentials(fd);
  } catch (cause) {
    throw unknownPeer('connect through the admin socket, a unix socket', cause);
  }
}

function unknownPeer(why: string, cause?: unknown): VouchError {
  return new VouchError('denied-operator', `the operator behind this connection is unknown: ${why}`, {
    cause,
  });
}
