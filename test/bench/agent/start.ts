import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { RawClient } from '../../support/raw-grpc.ts';
import { frame } from '../../../src/agent/grpc/frame.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Host } from './host.ts';

/** Milliseconds from the start of the process, one of each per round. */
export interface StartFigures {
  /** `node -e 0`, to its end. */
  node: number[];
  /** `vouch agent` to its own certificate on disk: its first. */
  certificate: number[];
  /** To its ready line: one entry's certificate is there, too. */
  ready: number[];
  /** To the first SVID that a client gets which waited for the socket. */
  firstSvid: number[];
  /** CPU time of all threads until the ready line. */
  readyCpu: number[];
  /** CPU time of a Node that has written a line. */
  nodeCpu: number[];
}

/** Cold starts of an agent with one entry, each beside the start of Node. */
export async function measureStarts(
  host: Host,
  program: readonly string[],
  rounds: number,
): Promise<StartFigures> {
  const figures: StartFigures = {
    node: [],
    certificate: [],
    ready: [],
    firstSvid: [],
    readyCpu: [],
    nodeCpu: [],
  };
  for (let round = 0; round < rounds; round++) {
    const { parentId } = await host.parent(1);
    figures.node.push(await startOfNode());
    figures.nodeCpu.push(await cpuOfNode());
    const agent = await host.launch(parentId, program);
    const since = (): number => performance.now() - agent.startedMs;
    const [certificate, ready, firstSvid] = await Promise.all([
      fileThere(agent.certificate).then(since),
      agent.ready.then(() => {
        figures.readyCpu.push(cpuMs(agent.pid));
        return since();
      }),
      fetched(agent.socket).then(since),
    ]);
    figures.certificate.push(certificate);
    figures.ready.push(ready);
    figures.firstSvid.push(firstSvid);
    await agent.end();
  }
  return figures;
}

async function startOfNode(): Promise<number> {
  const startedMs = performance.now();
  await once(spawn(process.execPath, ['-e', '0']), 'exit');
  return performance.now() - startedMs;
}

async function cpuOfNode(): Promise<number> {
  const child = spawn(process.execPath, ['-e', 'console.log(0); setInterval(() => {}, 1000)']);
  await once(child.stdout, 'data');
  const ms = cpuMs(child.pid ?? 0);
  child.kill();
  await once(child, 'exit');
  return ms;
}

/** What the threads of a process have had of a core so far. */
function cpuMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const ns = threads.map((id) =>
    Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, 'utf8').split(' ')[0]),
  );
  return ns.reduce((sum, one) => sum + one, 0) / 1e6;
}

async function fileThere(path: string): Promise<void> {
  while (!existsSync(path)) await sleep(1);
}

/** Resolves when a Workload API stream that was asked for as soon as there is a socket has its first bytes. */
async function fetched(socket: string): Promise<void> {
  while (!(await isListening(socket))) await sleep(1);
  const client = new RawClient(socket);
  const stream = client.open('/SpiffeWorkloadAPI/FetchX509SVID', { 'workload.spiffe.io': 'true' });
  stream.end(frame(Buffer.alloc(0)));
  await once(stream, 'data');
  client.close();
}

function isListening(path: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(path, () => {
      socket.destroy();
      done(true);
    });
    socket.once('error', () => done(false));
  });
}
