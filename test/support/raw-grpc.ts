import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { frame } from '../../src/agent/grpc/frame.ts';

/** What came of a call. */
export interface RawAnswer {
  http: number | undefined;
  headers: http2.IncomingHttpHeaders;
  trailers: http2.IncomingHttpHeaders;
  /** Of `grpc-status`, wherever it stood. */
  status: number | undefined;
  message: string;
  body: Buffer;
  /** Of RST_STREAM. */
  reset: number;
}

/** An HTTP/2 client that sends what it is told to, also what no gRPC client would. */
export class RawClient {
  readonly session: http2.ClientHttp2Session;
  isClosed = false;
  goneAway = false;

  constructor(path: string, settings: http2.Settings = {}) {
    this.session = http2.connect('http://agent', { createConnection: () => net.connect(path), settings });
    this.session.on('error', () => {});
    this.session.on('goaway', () => {
      this.goneAway = true;
    });
    this.session.on('close', () => {
      this.isClosed = true;
    });
  }

  /** Opens a call and sends nothing of its body. */
  open(path: string, headers: http2.OutgoingHttpHeaders = {}): http2.ClientHttp2Stream {
    const stream = this.session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    stream.on('error', () => {});
    return stream;
  }

  async call(
    path: string,
    options: { headers?: http2.OutgoingHttpHeaders; body?: Buffer; isOpen?: boolean } = {},
  ): Promise<RawAnswer> {
    const stream = this.open(path, options.headers);
    const body = options.body ?? frame(Buffer.alloc(0));
    if (options.isOpen) stream.write(body);
    else stream.end(body);
    return answerOf(stream);
  }

  close(): void {
    this.session.destroy();
  }
}

/** All of an answer, when its stream has closed. */
export async function answerOf(stream: http2.ClientHttp2Stream): Promise<RawAnswer> {
  const parts: Buffer[] = [];
  let headers: http2.IncomingHttpHeaders = {};
  let trailers: http2.IncomingHttpHeaders = {};
  stream.on('response', (got) => {
    headers = got;
  });
  stream.on('trailers', (got) => {
    trailers = got;
  });
  stream.on('data', (part: Buffer) => parts.push(part));
  await once(stream, 'close');
  const said = trailers['grpc-status'] === undefined ? headers : trailers;
  return {
    http: Number(headers[':status']),
    headers,
    trailers,
    status: said['grpc-status'] === undefined ? undefined : Number(said['grpc-status']),
    message: decodeURIComponent(String(said['grpc-message'] ?? '')),
    body: Buffer.concat(parts),
    reset: stream.rstCode,
  };
}

/** A frame of HTTP/2 by its type and flags (RFC 9113 §4.1). */
export function http2Frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** What a client sends first: preface and empty SETTINGS (RFC 9113 §3.4). */
export const preface = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  http2Frame(4, 0, 0, Buffer.alloc(0)),
]);
