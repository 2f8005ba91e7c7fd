// Looks at whoever connects and counts what it saw: `node reuse.ts SOCKET TRIES pidfd|number`, the first process of a pid namespace.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createAttest } from '../../../src/attestation/workload/attest.ts';
import { holdByNumber, holdPeer } from '../../../src/attestation/workload/held-process.ts';
import { workloadPeer } from '../../../src/attestation/workload/peer.ts';
import { createUnixAttestor } from '../../../src/attestation/workload/unix/attestor.ts';

const [, , path = '', tries = '', how = ''] = process.argv;
const hold = how === 'pidfd' ? holdPeer : holdByNumber;
const attest = createAttest([createUnixAttestor()], () => [{ selectors: ['unix:path:/x'] }]);
/** By the program that was seen: its own, another's, none since it was just ending; or when it was refused. */
const seen = { refusedAtOnce: 0, refusedAfterwards: 0, own: 0, none: 0, other: 0 };
const looks: Promise<void>[] = [];

const server = createServer((socket) => {
  socket.on('error', () => {});
  let peer: ReturnType<typeof workloadPeer>;
  try {
    peer = workloadPeer(socket, hold);
  } catch {
    seen.refusedAtOnce += 1;
    socket.destroy();
    return;
  }
  const look = async (): Promise<void> => {
    try {
      const selectors = [...(await attest(peer))].join(' ');
      if (/unix:path:\S*python/.test(selectors)) seen.own += 1;
      else seen[selectors.includes('unix:path:') ? 'other' : 'none'] += 1;
    } catch {
      seen.refusedAfterwards += 1;
    }
    peer.close();
    socket.destroy();
  };
  looks.push(look());
});
server.listen(path);
await once(server, 'listening');
const client = spawn('/usr/bin/python3', [join(import.meta.dirname, 'reuse.py'), path, tries], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
let taken = '';
client.stdout.on('data', (bytes: Buffer) => (taken += bytes.toString()));
await once(client, 'close');
await Promise.all(looks);
console.log(JSON.stringify({ ...seen, taken: Number(taken) }));
process.exit();
