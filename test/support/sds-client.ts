import { resolve } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** A secret as the client reads it. */
export interface ReadSecret {
  name: string;
  tlsCertificate?: { certificateChain: Bytes; privateKey: Bytes };
  validationContext?: {
    trustedCa: Bytes;
    crl?: Bytes;
    matchTypedSubjectAltNames: { sanType: string; matcher: { exact?: string; prefix?: string } }[];
  };
}
interface Bytes {
  inlineBytes: Buffer;
}

export interface ReadResponse {
  versionInfo: string;
  nonce: string;
  typeUrl: string;
  resources: { typeUrl: string; value: ReadSecret }[];
}

/** What a client sends; the rest is as an Envoy would have it. */
export interface SentRequest {
  resourceNames?: readonly string[];
  responseNonce?: string;
  versionInfo?: string;
  typeUrl?: string;
  node?: { id: string };
  errorDetail?: { code: number; message: string };
}

const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

const loaded = grpc.loadPackageDefinition(
  loadSync(resolve(import.meta.dirname, '../agent/sds/sds.proto'), { enums: String, arrays: true }),
) as unknown as {
  envoy: { service: { secret: { v3: { SecretDiscoveryService: grpc.ServiceClientConstructor } } } };
};

type Client = grpc.Client & {
  StreamSecrets(): grpc.ClientDuplexStream<SentRequest, ReadResponse>;
  DeltaSecrets(): grpc.ClientDuplexStream<SentRequest, ReadResponse>;
  FetchSecrets(
    request: SentRequest,
    done: (error: grpc.ServiceError | null, response?: ReadResponse) => void,
  ): void;
};

/** Secret discovery with another implementation of gRPC and protocol buffers than the agent's. */
export class SdsClient {
  readonly #client: Client;

  constructor(path: string) {
    const Service = loaded.envoy.service.secret.v3.SecretDiscoveryService;
    this.#client = new Service(`unix:${path}`, grpc.credentials.createInsecure()) as unknown as Client;
  }

  stream(): SdsStream {
    return new SdsStream(this.#client.StreamSecrets());
  }

  delta(): SdsStream {
    return new SdsStream(this.#client.DeltaSecrets());
  }

  /** Rejects with a grpc.ServiceError. */
  fetch(request: SentRequest): Promise<ReadResponse> {
    return new Promise((resolve, reject) =>
      this.#client.FetchSecrets({ typeUrl: secretType, ...request }, (error, response) =>
        response === undefined ? reject(error ?? new Error('no answer')) : resolve(response),
      ),
    );
  }

  close(): void {
    this.#client.close();
  }
}

/** A stream and what came on it. */
export class SdsStream {
  readonly responses: ReadResponse[] = [];
  /** Of its end. */
  status: number | undefined;
  message = '';
  readonly #stream: grpc.ClientDuplexStream<SentRequest, ReadResponse>;
  #wake: (() => void)[] = [];

  constructor(stream: grpc.ClientDuplexStream<SentRequest, ReadResponse>) {
    this.#stream = stream;
    stream.on('data', (response: ReadResponse) => {
      this.responses.push(response);
      this.#came();
    });
    stream.on('error', () => {});
    stream.on('status', ({ code, details }: grpc.StatusObject) => {
      this.status = code;
      this.message = details;
      this.#came();
    });
  }

  send(request: SentRequest): void {
    this.#stream.write({ typeUrl: secretType, ...request });
  }

  /** Takes the last response, and maybe names others. */
  acknowledge(resourceNames: readonly string[], refusal?: string): void {
    const last = this.responses.at(-1);
    this.send({
      resourceNames,
      ...(last && { responseNonce: last.nonce, versionInfo: last.versionInfo }),
      ...(refusal !== undefined && { errorDetail: { code: 13, message: refusal } }),
    });
  }

  /** The nth response, from 1. */
  async response(count: number): Promise<ReadResponse> {
    for (;;) {
      const found = this.responses[count - 1];
      if (found !== undefined) return found;
      if (this.status !== undefined) throw new Error(`the stream ended: ${this.status} ${this.message}`);
      await this.#next();
    }
  }

  /** The status it ends with. */
  async ended(): Promise<number> {
    while (this.status === undefined) await this.#next();
    return this.status;
  }

  end(): void {
    this.#stream.end();
  }

  cancel(): void {
    this.#stream.cancel();
  }

  #next(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #came(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
