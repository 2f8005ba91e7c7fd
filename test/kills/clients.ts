import { EnrollingClient } from './client.ts';
import { type ClientsOrder, type Command, History } from './history.ts';
import { Operator } from './operator.ts';
import { kill, processesOf } from './processes.ts';
import { Random } from './random.ts';

/** Streams of the seed: 0 and 1 are the campaign's. */
const streams = { operator: 2, firstClient: 3 };

/** The process of those who ask the authority for something: clients and operator. It ends with its parent. */
export async function runClients(): Promise<number> {
  const history = new History((event) => process.send?.(event));
  const stopping = new AbortController();
  let folder: string | undefined;
  process.once('disconnect', () => {
    // The campaign was killed: nobody else is left to end what it started.
    for (const { pid } of folder === undefined ? [] : processesOf(folder)) kill(pid);
    process.exit(0);
  });
  // Its parent ends it; a signal to the whole group must not, or the last events are missing.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => undefined);
  process.on('message', (message: Command) => {
    if (message.command === 'drain') return stopping.abort();
    folder = message.order.folder;
    void use(message.order, history, stopping.signal);
  });
  return 0;
}

async function use(order: ClientsOrder, history: History, stopping: AbortSignal): Promise<void> {
  const stream = (number: number): Random => new Random(order.seed, number);
  const operator = new Operator({ ...order, history, stopping, random: stream(streams.operator) });
  const clients = Array.from({ length: order.clients }, (_, number) => {
    const random = stream(streams.firstClient + number);
    const namePrefix = `spiffe://${order.trustDomain}/client-${number}/`;
    return new EnrollingClient({ namePrefix, operator, history, stopping, random });
  });
  await Promise.all([operator.run(), ...clients.map((client) => client.run())]);
  history.record({ kind: 'drained' });
}
