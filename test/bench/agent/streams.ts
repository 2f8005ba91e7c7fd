import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { frame } from '../../../src/agent/grpc/frame.ts';
import { RawClient } from '../../support/raw-grpc.ts';
import { Told } from './told.ts';

/** What connections and streams of the Workload API cost, and how long a rotation takes to reach all. */
export interface StreamFigures {
  connections: number;
  /** RSS of the server for each connection with one stream, bytes. */
  bytesOfConnection: number;
  /** From a rotation to the last of them that has it whole, milliseconds: making the certificates is in it. */
  rotationMs: number[];
  furtherStreams: number;
  /** RSS of the server for each further stream on connections that are there. */
  bytesOfStream: number;
  rotationOfStreamsMs: number[];
}

const request = frame(Buffer.alloc(0));
const rounds = 3;
/** Opened before the first figure: what is paid once for the first of them is no cost of a stream. */
const warmUp = 200;
/** Connections that get `furtherStreams` each. */
const widened = 3;

/** Measures a server in a process of its own. */
export async function measureStreams(connections = 1000, furtherStreams = 1000): Promise<StreamFigures> {
  const child = fork(fileURLToPath(new URL('server.ts', import.meta.url)), {
    execArgv: ['--import', buildConstants, '--expose-gc'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    const { socket } = await said<{ socket: string }>(child);
    const told = new Told();
    const open = async (count: number): Promise<RawClient[]> => {
      const clients = Array.from({ length: count }, () => new RawClient(socket));
      for (const client of clients) await openStreams(client, told, 1);
      return clients;
    };
    const clients = await open(warmUp);
    const atFirst = await memoryOf(child);
    clients.push(...(await open(connections)));
    const connected = await memoryOf(child);
    const rotationMs = await rotations(child, told);
    const bare = await memoryOf(child);
    for (const client of clients.slice(0, widened)) await openStreams(client, told, furtherStreams);
    const wide = await memoryOf(child);
    const rotationOfStreamsMs = await rotations(child, told);
    for (const client of clients) client.close();
    return {
      connections,
      bytesOfConnection: Math.round((connected - atFirst) / connections),
      rotationMs,
      furtherStreams: widened * furtherStreams,
      bytesOfStream: Math.round((wide - bare) / (widened * furtherStreams)),
      rotationOfStreamsMs,
    };
  } finally {
    child.kill();
  }
}

/** The sources are TypeScript, with the constants that a build sets. */
const buildConstants = `data:text/javascript,${encodeURIComponent(
  "globalThis.__VOUCH_WITHOUT__=''; globalThis.__VOUCH_VERSION__='bench'",
)}`;

async function openStreams(client: RawClient, told: Told, streams: number): Promise<void> {
  for (let left = streams; left > 0; left -= 50) {
    const some = Array.from({ length: Math.min(left, 50) }, () => {
      const stream = client.open('/SpiffeWorkloadAPI/FetchX509SVID', { 'workload.spiffe.io': 'true' });
      stream.end(request);
      return told.follow(stream);
    });
    await Promise.all(some);
  }
}

async function rotations(child: ChildProcess, told: Told): Promise<number[]> {
  const ms: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const all = told.all();
    const start = performance.now();
    child.send('rotate');
    await all;
    ms.push(Math.round(performance.now() - start));
  }
  return ms;
}

async function memoryOf(child: ChildProcess): Promise<number> {
  child.send('memory');
  return (await said<{ rss: number }>(child)).rss;
}

async function said<T>(child: ChildProcess): Promise<T> {
  const [message] = (await once(child, 'message')) as [T];
  return message;
}
