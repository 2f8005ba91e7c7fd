/** Status codes of gRPC that we answer with. */
export const GrpcStatus = {
  ok: 0,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
} as const;
export type GrpcStatus = (typeof GrpcStatus)[keyof typeof GrpcStatus];

/** How a call fails; the peer reads `message`, so it says nothing of the inside. */
export class GrpcError extends Error {
  readonly status: GrpcStatus;

  constructor(status: GrpcStatus, message: string) {
    super(message);
    this.name = 'GrpcError';
    this.status = status;
  }
}

/** `grpc-status` and `grpc-message`, percent-encoded UTF-8 (gRPC over HTTP/2, "Responses"). */
export function statusHeaders(error: GrpcError | undefined): Record<string, string> {
  if (error === undefined) return { 'grpc-status': '0' };
  return { 'grpc-status': String(error.status), 'grpc-message': percentEncoded(error.message) };
}

function percentEncoded(text: string): string {
  return Array.from(Buffer.from(text), (byte) =>
    byte >= 0x20 && byte <= 0x7e && byte !== 0x25
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
  ).join('');
}

const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** Milliseconds of a `grpc-timeout` header. Throws InvalidArgument for what is none. */
export function timeoutMsOf(text: string): number {
  const unit = unitMs[text.at(-1) ?? ''];
  if (unit === undefined || !/^\d{1,8}$/.test(text.slice(0, -1)))
    throw new GrpcError(GrpcStatus.invalidArgument, 'malformed grpc-timeout');
  return Math.ceil(Number(text.slice(0, -1)) * unit);
}
