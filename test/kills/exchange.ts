import { request } from 'node:http';
import type { TLSSocket } from 'node:tls';

/** An answer as far as it came. */
export interface Answer {
  status: number;
  body: Buffer;
  /** False where the connection broke before its end. */
  complete: boolean;
}

const timeoutMs = 15_000;

/**
 * One POST over a verified connection, which it closes. What came before a break is kept: a signature that was seen was
 * made. Rejects where nothing came.
 */
export function exchange(socket: TLSSocket, host: string, path: string, body: object): Promise<Answer> {
  const payload = Buffer.from(JSON.stringify(body));
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const asked = request({
    method: 'POST',
    path,
    createConnection: () => socket,
    headers: { host, 'content-type': 'application/json', 'content-length': payload.length },
    timeout: timeoutMs,
  });
  asked.on('response', (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', () => undefined);
    response.on('close', () =>
      resolve({
        status: response.statusCode ?? 0,
        body: Buffer.concat(chunks),
        complete: response.complete,
      }),
    );
  });
  asked.on('timeout', () => asked.destroy(new Error('no answer in time')));
  asked.on('error', reject);
  asked.end(payload);
  return promise.finally(() => socket.destroy());
}
