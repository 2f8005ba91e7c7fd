import { GrpcError, GrpcStatus } from '../grpc/status.ts';
import { bytesField, fieldsOf, textField, varintField } from './protobuf.ts';

/** `type_url` of all that secret discovery carries. */
const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

/** More names than any proxy of one host asks for on one stream. */
const namesMax = 256;

/** What we read of an envoy.service.discovery.v3.DiscoveryRequest. */
export interface DiscoveryRequest {
  /** `node.id`; Envoy says it in the first request only. */
  nodeId: string;
  /** Empty in a first request: all there are. */
  names: readonly string[];
  /** Of the response that this one acknowledges; '' at first. */
  nonce: string;
  /** Why that response could not be used. */
  refusal: string | undefined;
}

/** Throws InvalidArgument for what is none, or asks for other things than secrets. */
export function readRequest(message: Buffer): DiscoveryRequest {
  const names: string[] = [];
  let [nodeId, nonce, type] = ['', '', ''];
  let refusal: string | undefined;
  try {
    for (const { number, value } of fieldsOf(message)) {
      if (typeof value === 'number') continue;
      if (number === 2) nodeId = textOf(value, 1);
      if (number === 3) names.push(value.toString());
      if (number === 4) type = value.toString();
      if (number === 5) nonce = value.toString();
      if (number === 6) refusal = textOf(value, 2);
    }
  } catch (error) {
    if (error instanceof RangeError) throw invalid('the request is malformed');
    throw error;
  }
  if (names.length > namesMax) throw invalid(`a request names at most ${namesMax} secrets`);
  if (type !== '' && type !== secretType) throw invalid('only secrets are served here');
  return { nodeId, names, nonce, refusal };
}

function textOf(message: Buffer, wanted: number): string {
  let text = '';
  for (const { number, value } of fieldsOf(message))
    if (number === wanted && typeof value !== 'number') text = value.toString();
  return text;
}

function invalid(message: string): GrpcError {
  return new GrpcError(GrpcStatus.invalidArgument, message);
}

/** A field of a DiscoveryResponse that holds one secret. */
export type Secret = readonly Uint8Array[];

/** A key and its certificates; both PEM. */
export function certificateSecret(name: string, chainPem: string, keyPem: string): Secret {
  const certificate = [...bytesField(1, ...inline(chainPem)), ...bytesField(2, ...inline(keyPem))];
  return secret(name, bytesField(2, ...certificate));
}

/** Who may be at the other end of a connection. */
export interface ValidationContext {
  rootsPem: string;
  /** As Envoy wants them: one for every CA that may stand in a chain, the root's too. Empty for none. */
  crlsPem: Uint8Array;
  /** SPIFFE IDs, or prefixes ending in `/*`; undefined: anybody of the trust domain. */
  callers: readonly string[] | undefined;
}

export function validationSecret(name: string, context: ValidationContext): Secret {
  const crls = context.crlsPem.length === 0 ? [] : bytesField(7, ...bytesField(2, context.crlsPem));
  const callers = (context.callers ?? []).flatMap((caller) => bytesField(15, ...sanMatcher(caller)));
  return secret(name, bytesField(4, ...bytesField(1, ...inline(context.rootsPem)), ...crls, ...callers));
}

/** A SubjectAltNameMatcher of type URI. */
function sanMatcher(caller: string): Uint8Array[] {
  const [kind, text] = caller.endsWith('/*') ? [2, caller.slice(0, -1)] : [1, caller];
  return [...varintField(1, 3), ...bytesField(2, ...textField(kind, text))];
}

/** A DataSource with `inline_bytes`. */
function inline(text: string): Uint8Array[] {
  return bytesField(2, Buffer.from(text));
}

function secret(name: string, value: readonly Uint8Array[]): Secret {
  return bytesField(2, ...textField(1, secretType), ...bytesField(2, ...textField(1, name), ...value));
}

/** A DiscoveryResponse; `version` is its nonce, too. */
export function responseOf(version: string, secrets: readonly Secret[]): Buffer {
  const head = [...textField(1, version), ...textField(4, secretType), ...textField(5, version)];
  return Buffer.concat([...head, ...secrets.flat()]);
}
