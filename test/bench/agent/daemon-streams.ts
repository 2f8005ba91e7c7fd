import { frame } from '../../../src/agent/grpc/frame.ts';
import { bytesField } from '../../../src/agent/grpc/protobuf.ts';
import { RawClient } from '../../support/raw-grpc.ts';
import { collectedRss, type Host, programs, type RunningAgent, withCollection } from './host.ts';
import { Told } from './told.ts';

/** What streams of one API cost a real agent, and how long a change of what it holds takes to reach all. */
export interface DaemonStreamFigures {
  connections: number;
  /** RSS for each connection with one stream, bytes. */
  bytesOfConnection: number;
  /** From the operator's answer that an entry is gone to the last stream that knows, milliseconds. */
  changeMs: number[];
  furtherStreams: number;
  /** RSS for each further stream on connections that are there, bytes. */
  bytesOfStream: number;
  changeOfStreamsMs: number[];
}

/** A method of the socket, and what asks it for a certificate. */
export interface StreamApi {
  path: string;
  headers: Readonly<Record<string, string>>;
  request: Buffer;
  /** Whether the client says no more. */
  isClosed: boolean;
}

export const apis = {
  workloadApi: {
    path: '/SpiffeWorkloadAPI/FetchX509SVID',
    headers: { 'workload.spiffe.io': 'true' },
    request: frame(Buffer.alloc(0)),
    isClosed: true,
  },
  sds: {
    path: '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets',
    headers: {},
    request: frame(bytesField(3, 'default')),
    isClosed: false,
  },
} satisfies Record<string, StreamApi>;

const rounds = 3;
/** Opened before the first figure: what is paid once for the first of them is no cost of a stream. */
const warmUp = 200;
const atOnce = 50;
/** Connections that get the further streams. */
const widened = 10;

/** An agent with entries, of which the oldest, which is the default, goes away in each round. */
export async function measureDaemonStreams(
  host: Host,
  api: StreamApi,
  { connections, furtherStreams }: { connections: number; furtherStreams: number },
): Promise<DaemonStreamFigures> {
  const { parentId, entryIds } = await host.parent(3 * rounds + 2);
  const agent = await host.launch(parentId, programs.bundle, withCollection);
  await agent.ready;
  const told = new Told();
  const clients: RawClient[] = [];
  const change = async (): Promise<number> => {
    const all = told.all();
    await host.deleteEntry(entryIds.shift() ?? '');
    const answeredMs = performance.now();
    await all;
    return Math.round(performance.now() - answeredMs);
  };
  const changes = async (): Promise<number[]> => {
    const ms: number[] = [];
    for (let round = 0; round < rounds; round++) ms.push(await change());
    return ms;
  };
  try {
    clients.push(...(await connect(agent, api, told, warmUp)));
    // What a change needs in memory is there before, too.
    await change();
    const atFirst = await collectedRss(agent.pid);
    clients.push(...(await connect(agent, api, told, connections)));
    const connected = await collectedRss(agent.pid);
    const changeMs = await changes();
    const bare = await collectedRss(agent.pid);
    for (const client of clients.slice(0, widened)) await open(client, api, told, furtherStreams / widened);
    const wide = await collectedRss(agent.pid);
    return {
      ...{ connections, changeMs, furtherStreams },
      bytesOfConnection: Math.round((connected - atFirst) / connections),
      bytesOfStream: Math.round((wide - bare) / furtherStreams),
      changeOfStreamsMs: await changes(),
    };
  } finally {
    for (const client of clients) client.close();
    await agent.end();
  }
}

async function connect(agent: RunningAgent, api: StreamApi, told: Told, count: number): Promise<RawClient[]> {
  const clients: RawClient[] = [];
  for (let left = count; left > 0; left -= atOnce) {
    const some = Array.from({ length: Math.min(left, atOnce) }, () => new RawClient(agent.socket));
    await Promise.all(some.map((client) => open(client, api, told, 1)));
    clients.push(...some);
  }
  return clients;
}

async function open(client: RawClient, api: StreamApi, told: Told, count: number): Promise<void> {
  for (let left = count; left > 0; left -= atOnce) {
    const some = Array.from({ length: Math.min(left, atOnce) }, () => {
      const stream = client.open(api.path, api.headers);
      if (api.isClosed) stream.end(api.request);
      else stream.write(api.request);
      return told.follow(stream);
    });
    await Promise.all(some);
  }
}
