import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { expect, test } from 'vitest';
import { service } from '../../client/support.ts';
import { FakeAuthority } from '../support/fake-authority.ts';
import { bundled, type Running, start } from '../support/bundle.ts';
import { plainServer, shown } from './support.ts';

// Figures for docs/sidecar.md: a way in beside a plain relay in a process of its own, both fed over loopback by this one.

const bytes = 1_000_000_000;
const chunk = Buffer.alloc(256 * 1024, 'x');

/** Sends a gigabyte, which the service swallows, and waits until it has. */
async function send(socket: Socket): Promise<void> {
  let left = bytes;
  const more = (): void => {
    while (left > 0) {
      left -= chunk.length;
      if (!socket.write(chunk)) return void socket.once('drain', more);
    }
    socket.end();
  };
  more();
  await new Promise((resolve) => void socket.once('end', resolve).resume());
}

/** Of a process so far, user and system (proc_pid_stat(5)); a tick is 10 ms. */
function cpuSeconds({ child }: Running): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

test('bytes and connections beside a plain relay', { timeout: 300_000 }, async () => {
  const authority = new FakeAuthority();
  const gateway = 'spiffe://example.org/gateway';
  const [server, client] = [await service(authority, 'web', [gateway]), await service(authority, 'gateway')];
  const sink = await plainServer((socket) => void socket.resume().once('end', () => socket.end()));
  const relay = start(process.execPath, ['-e', relayProgram(sink.port)]);
  const [, relayPort] = await relay.seen('stdout', /(\d+)\n/);
  const program = await bundled('src/agent-daemon.ts', 'vouch-agentd.js');
  const run = `import(${JSON.stringify(program)}).then((m) => m.runDaemonVerb(process.argv.slice(1), {
    stdout: (text) => process.stdout.write(text), stderr: (text) => process.stderr.write(text) }))`;
  const to = ['--listen', '127.0.0.1:0', '--to', `127.0.0.1:${sink.port}`];
  const proxy = start(process.execPath, ['-e', run, 'agent', 'proxy', '--dir', server.dir, ...to, '--json']);
  const [, proxyPort] = await proxy.seen('stdout', /"listen":"127.0.0.1:(\d+)"/);
  const { checkServerIdentity, ...pem } = shown(client);
  const options = { checkServerIdentity, secureContext: createSecureContext(pem) };
  const plain = () => connect({ host: '127.0.0.1', port: Number(relayPort), allowHalfOpen: true });
  const secure = () => connectTls({ host: '127.0.0.1', port: Number(proxyPort), ...options });

  /** Processor seconds that `program` spends while `work` is done; on a busy machine they say more than the clock. */
  const costOf = async (program: Running, work: () => Promise<unknown>): Promise<number> => {
    const before = cpuSeconds(program);
    await work();
    return cpuSeconds(program) - before;
  };
  const connections = async (open: () => Socket): Promise<void> => {
    const worker = async (): Promise<void> => {
      for (let at = 0; at < 100; at += 1) {
        const socket = open();
        socket.on('error', () => undefined).resume();
        socket.end('hello');
        await new Promise((resolve) => void socket.once('close', resolve));
      }
    };
    await Promise.all(Array.from({ length: 10 }, worker));
  };
  const figures = {
    relaySecondsForGigabyte: await costOf(relay, () => send(plain())),
    proxySecondsForGigabyte: await costOf(proxy, () => send(secure())),
    relaySecondsForThousand: await costOf(relay, () => connections(plain)),
    proxySecondsForThousand: await costOf(proxy, () => connections(secure)),
  };
  console.log(figures);
  expect(figures.proxySecondsForGigabyte / figures.relaySecondsForGigabyte).toBeLessThan(4);
});

/** The simplest relay that there is in Node. */
function relayProgram(to: number): string {
  return `const net = require('node:net');
    const server = net.createServer({ allowHalfOpen: true }, (one) => {
      const other = net.connect({ port: ${to}, host: '127.0.0.1', allowHalfOpen: true });
      one.on('error', () => other.destroy()); other.on('error', () => one.destroy());
      one.pipe(other); other.pipe(one);
    });
    server.listen(0, '127.0.0.1', () => console.log(server.address().port));`;
}
