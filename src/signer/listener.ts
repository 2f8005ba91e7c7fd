import { lstatSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { type Session, turnAway } from './session.ts';

/** A client that has sent nothing for so long is dead: a living one pings each second. */
const silentMs = 5000;
/** How long a new client waits for the end of the one before. */
const graceMs = 200;
/** The client, its successor, and two to be told that they are in the way; each may hold memory. */
const connectionsMax = 4;
/** sockaddr_un holds 108 bytes with the final NUL. */
const pathMaxBytes = 107;

/**
 * Listens on a unix socket that only its owner may use (0600; with `groupAccess` its group too, 0660, for a server of
 * another user) and serves one client at a time: another is turned away
 * while the first lives. Rejects with `config-in-use` where another signer listens there, `config-state` where it
 * cannot listen.
 */
export async function listenForClients(
  { path, groupAccess }: { path: string; groupAccess: boolean },
  serve: (stream: Socket) => Session,
  clock: Clock,
): Promise<Server> {
  if (Buffer.byteLength(path) > pathMaxBytes)
    throw new VouchError(
      'config-state',
      `a socket's path holds ${pathMaxBytes} bytes; use a shorter one: ${path}`,
    );
  if (await answers(path)) throw new VouchError('config-in-use', `another signer listens on ${path}`);
  removeDeadSocket(path);
  let current: Session | undefined;
  const admit = async (stream: Socket) => {
    stream.on('error', () => stream.destroy());
    // A server that restarts may be here before its predecessor's end was noticed.
    if (current) await Promise.race([current.ended, sleep(graceMs, undefined, { ref: false })]);
    if (current && clock.monotonicMs() - current.heardMs < silentMs) {
      turnAway(stream, new VouchError('config-in-use', 'the signer serves another server'));
      return;
    }
    current?.destroy();
    const session = serve(stream);
    current = session;
    await session.ended;
    if (current === session) current = undefined;
  };
  const server = createServer((stream) => void admit(stream));
  server.maxConnections = connectionsMax;
  await listen(server, path, groupAccess);
  return server;
}

async function listen(server: Server, path: string, groupAccess: boolean): Promise<void> {
  // The socket is born with these rights: between bind and chmod anybody could connect.
  const mask = process.umask(groupAccess ? 0o117 : 0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
      process.umask(mask);
    });
  } catch (cause) {
    throw new VouchError('config-state', `cannot listen on ${path}; does its folder exist?`, { cause });
  } finally {
    process.umask(mask);
  }
}

function removeDeadSocket(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket())
    throw new VouchError('config-state', `${path} is there and is no socket; choose another`);
  rmSync(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    const done = (listens: boolean) => {
      probe.destroy();
      resolve(listens);
    };
    probe.once('connect', () => done(true));
    probe.once('error', () => done(false));
  });
}
