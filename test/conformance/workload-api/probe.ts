import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

/** What came of a call. */
export interface Probed {
  /** The HTTP status. */
  http: number;
  /** The gRPC status; -1 without one. */
  code: number;
  /** Of messages, with their prefixes. */
  bytes: number;
}

/** Reads no file: another user may not be allowed to. */
const script = `
import http2 from 'node:http2';
import net from 'node:net';
const [socket, method, body, headers] = process.argv.slice(1);
const session = http2.connect('http://agent', { createConnection: () => net.connect(socket) });
const message = Buffer.from(body, 'hex');
const prefix = Buffer.alloc(5);
prefix.writeUInt32BE(message.length, 1);
const call = session.request({ ':method': 'POST', ':path': '/SpiffeWorkloadAPI/' + method, te: 'trailers',
  'content-type': 'application/grpc', 'workload.spiffe.io': 'true', ...JSON.parse(headers) });
const said = { http: 0, code: -1, bytes: 0 };
const status = (got) => { if (got['grpc-status'] !== undefined) said.code = Number(got['grpc-status']); };
const done = () => { console.log(JSON.stringify(said)); process.exit(0); };
call.on('response', (got) => { said.http = got[':status']; status(got); });
call.on('trailers', status);
call.on('data', (bytes) => { said.bytes += bytes.length; done(); });
call.on('close', done);
for (const one of [session, call]) one.on('error', (error) => { console.error(error.message); });
call.end(Buffer.concat([prefix, message]));
setTimeout(done, 10_000);
`;

/** Calls a method with these bytes as its request, in a process of its own; of another user where `uid` is given. Ends with the first message. */
export async function probe(
  socket: string,
  uid: number | undefined,
  method: string,
  request: Buffer,
  headers: Record<string, string> = {},
): Promise<Probed> {
  const args = [
    '--input-type=module',
    '-e',
    script,
    socket,
    method,
    request.toString('hex'),
    JSON.stringify(headers),
  ];
  const user = uid === undefined ? {} : { uid, gid: uid };
  const child = spawn(process.execPath, args, { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'], ...user });
  const [said, complaint] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (said === '') throw new Error(`no answer: ${complaint.trim()}`);
  return JSON.parse(said) as Probed;
}
