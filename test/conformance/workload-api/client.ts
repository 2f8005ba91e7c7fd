import { fileURLToPath } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** Messages as proto-loader makes them with the options below. */
export interface X509Svid {
  spiffe_id: string;
  x509_svid: Buffer;
  x509_svid_key: Buffer;
  bundle: Buffer;
  hint: string;
}
export interface X509SvidResponse {
  svids: X509Svid[];
  crl: Buffer[];
  federated_bundles: Record<string, Buffer>;
}
export interface X509BundlesResponse {
  crl: Buffer[];
  bundles: Record<string, Buffer>;
}
export interface JwtSvidResponse {
  svids: { spiffe_id: string; svid: string; hint: string }[];
}
export interface JwtBundlesResponse {
  bundles: Record<string, Buffer>;
}
export interface ValidateResponse {
  spiffe_id: string;
  claims: { fields: Record<string, Value> } | null;
}
/** google.protobuf.Value, of which one member is there. */
export interface Value {
  stringValue?: string;
  numberValue?: number;
  boolValue?: boolean;
  listValue?: { values: Value[] };
  structValue?: { fields: Record<string, Value> };
}

export type StreamMethod =
  | 'FetchX509SVID'
  | 'FetchX509Bundles'
  | 'FetchJWTBundles'
  | 'FetchWITSVID'
  | 'FetchWITBundles';
export type UnaryMethod = 'FetchJWTSVID' | 'ValidateJWTSVID' | 'FetchNothing';

/** How a call failed. */
export class CallFailure extends Error {
  readonly code: grpc.status;
  readonly details: string;

  constructor({ code, details }: { code: grpc.status; details: string }) {
    super(`${grpc.status[code]}: ${details}`);
    this.code = code;
    this.details = details;
  }
}

const callMs = 10_000;

type Request = Record<string, unknown>;
type Start = (request: Request, metadata: grpc.Metadata) => grpc.ClientReadableStream<unknown>;
type Ask = (
  request: Request,
  metadata: grpc.Metadata,
  options: grpc.CallOptions,
  done: (error: grpc.ServiceError | null, response: unknown) => void,
) => void;

/** A client of the Workload API over a unix socket, made of grpc-js and protobufjs: nothing of ours. */
export class WorkloadClient {
  readonly #client: grpc.Client;

  constructor(socket: string) {
    this.#client = new serviceClient(`unix:${socket}`, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': 16 * 1024 * 1024,
      // Each client its own connection.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  unary<T>(method: UnaryMethod, request: Request, headers = withHeader()): Promise<T> {
    const ask = (this.#client as unknown as Record<UnaryMethod, Ask>)[method].bind(this.#client);
    return new Promise((resolve, reject) =>
      ask(request, headers, { deadline: Date.now() + callMs }, (error, response) =>
        error === null ? resolve(response as T) : reject(new CallFailure(error)),
      ),
    );
  }

  stream<T>(method: StreamMethod, headers = withHeader()): Messages<T> {
    const start = (this.#client as unknown as Record<StreamMethod, Start>)[method].bind(this.#client);
    return new Messages(start({}, headers));
  }

  /** The first message of a stream, which is then cancelled. */
  async first<T>(method: StreamMethod, headers = withHeader()): Promise<T> {
    const messages = this.stream<T>(method, headers);
    try {
      return await messages.next();
    } finally {
      messages.cancel();
    }
  }

  close(): void {
    this.#client.close();
  }
}

/** The messages of one stream, in their order. */
export class Messages<T> {
  readonly #call: grpc.ClientReadableStream<unknown>;
  readonly #come: T[] = [];
  #failure: CallFailure | undefined;
  #wake: () => void = () => {};

  constructor(call: grpc.ClientReadableStream<unknown>) {
    this.#call = call;
    call.on('data', (message: T) => {
      this.#come.push(message);
      this.#wake();
    });
    const fail = (why: { code: grpc.status; details: string }) => {
      this.#failure ??= new CallFailure(why);
      this.#wake();
    };
    call.on('error', (error) => fail(error as grpc.ServiceError));
    call.on('end', () => fail({ code: grpc.status.OK, details: 'the stream has ended' }));
  }

  /** Throws a CallFailure when the stream ends, or when nothing comes for `ms`. */
  async next(ms = callMs): Promise<T> {
    const end = Date.now() + ms;
    for (;;) {
      const message = this.#come.shift();
      if (message !== undefined) return message;
      if (this.#failure !== undefined) throw this.#failure;
      const left = end - Date.now();
      if (left <= 0)
        throw new CallFailure({ code: grpc.status.DEADLINE_EXCEEDED, details: `nothing for ${ms} ms` });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  cancel(): void {
    this.#call.cancel();
  }
}

/** Metadata with the security header, each value once. */
export function withHeader(...values: string[]): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const value of values.length === 0 ? ['true'] : values) metadata.add('workload.spiffe.io', value);
  return metadata;
}

const definition = loadSync(fileURLToPath(new URL('workload.proto', import.meta.url)), {
  keepCase: true,
  defaults: true,
  arrays: true,
  objects: true,
});
const serviceClient = grpc.loadPackageDefinition(definition)
  .SpiffeWorkloadAPI as unknown as grpc.ServiceClientConstructor;
