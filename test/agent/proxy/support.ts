import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { onTestFinished } from 'vitest';
import { followDelivered } from '../../../src/agent/proxy/delivered-identity.ts';
import { MtlsProxy } from '../../../src/agent/proxy/mtls-proxy.ts';
import { parseProxySettings } from '../../../src/config/proxy-config.ts';
import { eventually } from '../support/bundle.ts';
import type { Service } from '../../client/support.ts';
import { MovedClock } from '../../client/support.ts';

/** A plain server on a free loopback port, and the connections that it took. */
export interface Plain {
  port: number;
  server: Server;
  taken: Socket[];
}

/** Listens until the test ends; sockets may be half open. */
export async function plainServer(serve: (socket: Socket) => void = echo): Promise<Plain> {
  const taken: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    taken.push(socket);
    socket.on('error', () => undefined);
    serve(socket);
  });
  const port = await listening(server);
  onTestFinished(() => taken.forEach((socket) => void socket.destroy()));
  return { port, server, taken };
}

/** Gives back what comes, and ends when the other side has. */
function echo(socket: Socket): void {
  socket.pipe(socket);
}

export async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** A proxy beside delivered files. */
export interface Running {
  proxy: MtlsProxy;
  port: number;
  clock: MovedClock;
  notices: string[];
}

/** `settings` as they are written; `listen` is a free loopback port by default. */
export async function proxied(service: Service, settings: Record<string, unknown>): Promise<Running> {
  const clock = new MovedClock();
  const notices: string[] = [];
  const notice = (line: string) => void notices.push(line);
  const parsed = parseProxySettings({ listen: '127.0.0.1:0', ...settings });
  if (Array.isArray(parsed)) throw new Error(JSON.stringify(parsed));
  const proxy = new MtlsProxy(parsed, { clock, notice });
  const take = proxy.take.bind(proxy);
  const stop = followDelivered({ dir: service.dir, staleCrl: 'refuse', take, notice });
  await proxy.listen();
  onTestFinished(async () => {
    stop();
    await proxy.close();
  });
  const place = proxy.listening;
  return { proxy, port: 'port' in place ? place.port : 0, clock, notices };
}

/** True once it has no connection any more. */
export function emptied(proxy: MtlsProxy): Promise<boolean | undefined> {
  return eventually(() => (proxy.counts.open === 0 ? true : undefined));
}

/** Paths of what was delivered, as curl and openssl take them. */
export function files({ dir }: Service) {
  const at = (name: string) => join(dir, 'current', name);
  return { cert: at('svid.pem'), key: at('svid.key'), ca: at('bundle.pem') };
}

/** TLS options of a client that shows what was delivered, and takes any server of the trust domain. */
export function shown(service: Service): ConnectionOptions {
  const { cert, key, ca } = files(service);
  const [certPem, keyPem, caPem] = [cert, key, ca].map((file) => readFileSync(file));
  return { cert: certPem, key: keyPem, ca: caPem, checkServerIdentity: () => undefined };
}

/** What came over a socket, and how it ended. */
export interface Heard<S extends Socket = Socket> {
  socket: S;
  text: () => string;
  /** Resolves to the error's code, or `end` after a clean one. */
  over: Promise<string>;
}

/** A connection that the test drives. */
export function dial(port: number, options?: undefined): Heard;
export function dial(port: number, options: ConnectionOptions): Heard<TLSSocket>;
export function dial(port: number, options?: ConnectionOptions): Heard {
  const target = { host: '127.0.0.1', port, allowHalfOpen: true };
  return heard(options === undefined ? connect(target) : connectTls({ ...target, ...options }));
}

/** Listens to a socket that is there. */
export function heard<S extends Socket>(socket: S): Heard<S> {
  const chunks: Buffer[] = [];
  let how = 'cut';
  socket.on('data', (chunk: Buffer) => void chunks.push(chunk));
  socket.on('error', (error: NodeJS.ErrnoException) => {
    how = error.code ?? error.message;
  });
  socket.on('end', () => {
    how = 'end';
  });
  onTestFinished(() => void socket.destroy());
  const over = new Promise<string>((resolve) => {
    socket.once('end', () => resolve(how));
    socket.once('close', () => resolve(how));
  });
  return { socket, text: () => Buffer.concat(chunks).toString(), over };
}
