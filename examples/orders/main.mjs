// orders: calls billing over mutual TLS. Started with `vouch exec`, which sets VOUCH_DIR:
//   vouch exec --join-file orders.join --out ./orders-identity -- node examples/orders/main.mjs URL SPIFFE-ID
// Reads one word a line: `call` on a new connection, `hold` a connection open, `resume` the held connection's TLS
// session on a new one, `use` the held connection again. Prints one JSON object a line.
import { createInterface } from 'node:readline';
import tls from 'node:tls';
import { openVouch } from 'vouch/client';

const [url, serverId] = process.argv.slice(2);
if (!url || !serverId) {
  console.error('usage: main.mjs URL SPIFFE-ID   (where billing listens, and who it must be)');
  process.exit(2);
}
const { hostname, port } = new URL(url);
const say = (event) => console.log(JSON.stringify({ service: 'orders', ...event }));
const vouch = await openVouch();

/** A verified connection to billing; rejects where either side refuses. */
function connect(session) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      host: hostname,
      port: Number(port),
      ...vouch.clientOptions({ serverId }),
      session,
    });
    vouch.secure(socket, { serverId });
    socket.once('secureConnect', () => resolve(socket));
    socket.once('error', reject);
  });
}

/** One request on a connection; resolves with the answer's status. */
function ask(socket) {
  return new Promise((resolve, reject) => {
    const closed = () => reject(new Error('the connection was closed'));
    socket.once('close', closed).once('error', reject);
    socket.once('data', (answer) => {
      socket.off('close', closed);
      resolve(Number(String(answer).split(' ')[1]));
    });
    socket.write(`GET /invoice HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
  });
}

let held;
let session;

const commands = {
  async call() {
    const socket = await connect();
    const status = await ask(socket).finally(() => socket.destroy());
    return { status };
  },
  async hold() {
    held = await connect();
    held.on('session', (ticket) => (session = ticket));
    held.on('error', () => {});
    held.once('close', () => say({ event: 'held-connection-closed' }));
    const status = await ask(held);
    session ??= held.getSession();
    return { status };
  },
  async use() {
    return { status: await ask(held) };
  },
  async resume() {
    const socket = await connect(session);
    const reused = socket.isSessionReused();
    const status = await ask(socket).finally(() => socket.destroy());
    return { status, reused };
  },
};

say({ event: 'ready', spiffeId: vouch.spiffeId });
for await (const line of createInterface({ input: process.stdin })) {
  const command = line.trim();
  const started = performance.now();
  try {
    const result = await (
      commands[command] ?? (() => Promise.reject(new Error(`unknown command ${command}`)))
    )();
    say({ event: command, outcome: 'answered', ...result, ms: Math.round(performance.now() - started) });
  } catch (error) {
    say({
      event: command,
      outcome: 'refused',
      reason: error.code ?? error.message,
      ms: Math.round(performance.now() - started),
    });
  }
}
vouch.close();
