import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';

const script = `
import os, socket, sys
path, groups, gid, uid = sys.argv[1:]
if uid:
    os.setgroups([int(one) for one in groups.split(',') if one]); os.setgid(int(gid)); os.setuid(int(uid))
peer = socket.socket(socket.AF_UNIX)
peer.connect(path)
os.set_inheritable(peer.fileno(), True)
for line in iter(sys.stdin.readline, ''):
    word, *rest = line.split()
    if word == 'exec': os.execv(rest[0], rest)
    if word == 'setuid': os.setuid(int(rest[0]))
    if word == 'leave':
        near, far = socket.socketpair()
        if os.fork() > 0:
            socket.send_fds(near, [b'x'], [peer.fileno()]); os._exit(0)
        peer.close()
        _, (fd,), *_ = socket.recv_fds(far, 1, 1)
        os.write(1, b'handed over\\n')
        os.read(fd, 1); os._exit(0)
    print(word, flush=True)
`;

/** A process of another program that connects a unix socket and then does as it is told. */
export class UnixClient {
  readonly child: ChildProcess;
  readonly #said: AsyncIterator<string>;
  readonly #lines: Interface;

  constructor(
    path: string,
    options: { uid?: number; gid?: number; groups?: number[]; program?: string } = {},
  ) {
    const { uid = '', gid = uid, groups = [], program = 'python3' } = options;
    const args = ['-c', script, path, groups.join(), String(gid), String(uid)];
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    if (this.child.stdout === null) throw new Error('no stdout');
    this.#lines = createInterface(this.child.stdout);
    this.#said = this.#lines[Symbol.asyncIterator]();
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('not started');
    return this.child.pid;
  }

  /** `setuid N`, or `leave`: hands the socket to another process (SCM_RIGHTS) and ends. */
  async tell(command: string): Promise<void> {
    this.child.stdin?.write(`${command}\n`);
    const said = await this.#said.next();
    if (said.done) throw new Error(`the client ended at ${command}`);
  }

  /** Becomes another program, which is to say something on stdout. */
  exec(program: string, ...args: string[]): Promise<void> {
    return this.tell(['exec', program, ...args].join(' '));
  }

  async end(): Promise<void> {
    this.#lines.close();
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exit = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exit;
  }
}

/** A unix socket that everybody may connect, with what has connected. */
export class UnixListener {
  readonly path: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'vouch-u-'));
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.path = join(this.#folder, 's');
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#sockets.add(socket));
  }

  async listen(): Promise<void> {
    this.#server.listen({ path: this.path, writableAll: true });
    await once(this.#server, 'listening');
    const { chmodSync } = await import('node:fs');
    chmodSync(this.#folder, 0o755);
  }

  /** The next connection. */
  async accepted(): Promise<Socket> {
    const [socket] = (await once(this.#server, 'connection')) as [Socket];
    return socket;
  }

  /** A client and its connection. */
  async connected(
    options?: ConstructorParameters<typeof UnixClient>[1],
  ): Promise<{ client: UnixClient; socket: Socket }> {
    const connection = this.accepted();
    const client = new UnixClient(this.path, options);
    return { client, socket: await connection };
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
    rmSync(this.#folder, { recursive: true });
  }
}

/** True where a process may say which number the next one gets: pid reuse can then be forced. */
export const canChoosePids = (() => {
  try {
    writeFileSync('/proc/sys/kernel/ns_last_pid', '1000');
    return true;
  } catch {
    return false;
  }
})();

/** Starts a process that has exactly this number, which nothing has at this moment. */
export function startWithPid(pid: number, program: string, args: readonly string[]): ChildProcess {
  for (let attempt = 0; attempt < 1_000; attempt += 1) {
    writeFileSync('/proc/sys/kernel/ns_last_pid', String(pid - 1));
    const child = spawn(program, args, { stdio: 'ignore' });
    if (child.pid === pid) return child;
    child.kill('SIGKILL');
  }
  throw new Error(`the number ${pid} was not to be had`);
}
