import { lstatSync, unlinkSync } from 'node:fs';
import { connect, type Server, type Socket } from 'node:net';
import { addressText, type ProxyAddress } from '../../config/proxy-config.ts';
import { VouchError } from '../../core/errors.ts';

/**
 * Listens; a dead unix socket is replaced, a live one is not. Resolves to the address, with the port that was free where
 * 0 was asked for. Rejects with `config-invalid`, or `config-in-use` where somebody listens there.
 */
export async function listenAt(
  server: Server,
  place: ProxyAddress,
  socketMode: number,
): Promise<ProxyAddress> {
  if ('path' in place) await clearAway(place.path);
  // Not by chmod: in a folder of others the path may be a link to any file by then.
  const before = process.umask(0o777 & ~socketMode);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  try {
    server.once('error', reject);
    server.listen(place, resolve);
  } finally {
    process.umask(before);
  }
  await promise.catch((cause: unknown) => {
    const found = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    const code = found === 'EADDRINUSE' ? 'config-in-use' : 'config-invalid';
    const why = listenReasons[found] ?? `it fails with ${found}`;
    throw new VouchError(code, `cannot listen on ${addressText(place)}: ${why}`, { cause });
  });
  server.off('error', reject);
  if ('path' in place) return place;
  const bound = server.address();
  return { host: place.host, port: typeof bound === 'object' && bound !== null ? bound.port : place.port };
}

/** Begins to connect. */
export function connectTo(place: ProxyAddress, options: { allowHalfOpen: boolean }): Socket {
  return connect({ ...place, ...options });
}

async function clearAway(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new VouchError('config-invalid', `${path} is there and is no socket`);
  if (await answers(path)) throw new VouchError('config-in-use', `another program listens at ${path}`);
  unlinkSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

const listenReasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'it is in use; stop who listens there, or configure another',
  EADDRNOTAVAIL: 'this machine does not have that address',
  EACCES: 'this user may not listen there',
};
