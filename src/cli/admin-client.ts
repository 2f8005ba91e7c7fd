import http from 'node:http';
import { VouchError, type ErrorCode } from '../core/errors.ts';

const answerMaxBytes = 64 * 1024 * 1024;
const timeoutMs = 60_000;

/** One request to the admin socket. Throws what the server refused with, or `unavailable-server` where none answers. */
export async function callAdmin<T>(
  socketPath: string,
  method: 'GET' | 'POST',
  path: string,
  body?: object,
): Promise<T> {
  const { status, text } = await exchange(
    socketPath,
    method,
    path,
    body === undefined ? undefined : JSON.stringify(body),
  );
  const parsed = parseJson(text);
  if (status === 200) return parsed as T;
  throw refusal(status, parsed);
}

function exchange(
  socketPath: string,
  method: string,
  path: string,
  body: string | undefined,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers =
      body === undefined
        ? {}
        : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
    const request = http.request({ socketPath, method, path, headers, timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > answerMaxBytes) request.destroy();
        else chunks.push(chunk);
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      );
      response.on('error', reject);
    });
    request.on('timeout', () => request.destroy(late(socketPath)));
    request.on('error', (error: NodeJS.ErrnoException) => reject(unreachable(socketPath, error)));
    request.end(body);
  });
}

function late(socketPath: string): VouchError {
  return new VouchError(
    'unavailable-server',
    `the server at ${socketPath} did not answer within ${timeoutMs / 1000} s; it may still be at it: see its log`,
  );
}

function unreachable(socketPath: string, error: NodeJS.ErrnoException): VouchError {
  if (error instanceof VouchError) return error;
  if (error.code === 'EACCES')
    return new VouchError(
      'denied-operator',
      `you may not open ${socketPath}; run as the server's user or as root`,
      { cause: error },
    );
  return new VouchError(
    'unavailable-server',
    `no server answers at ${socketPath}; start it with \`vouch server\``,
    { cause: error },
  );
}

function refusal(status: number, parsed: unknown): VouchError {
  const problem = typeof parsed === 'object' && parsed !== null ? parsed : {};
  const code =
    'code' in problem && typeof problem.code === 'string' ? (problem.code as ErrorCode) : 'internal';
  const detail =
    'detail' in problem && typeof problem.detail === 'string'
      ? problem.detail
      : `the server answered ${status}`;
  return new VouchError(code, detail);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
