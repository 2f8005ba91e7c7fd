import {
  allBytes,
  allTexts,
  bytesField,
  fieldParts,
  lastText,
  readFields,
  varintField,
} from '../grpc/protobuf.ts';
import { GrpcError, GrpcStatus } from '../grpc/status.ts';

/** `type_url` of all that secret discovery carries. */
const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

/** More names than any proxy of one host asks for on one stream. */
const namesMax = 256;
/** Bytes of them together: they are kept for as long as the stream lives. */
const namesMaxBytes = 16 * 1024;
/** Bytes of `node.id` that are kept for the log. */
const nodeIdMaxBytes = 256;

/** What we read of an envoy.service.discovery.v3.DiscoveryRequest. */
export interface DiscoveryRequest {
  /** Beginning of `node.id`, Latin-1; Envoy says it in the first request only. */
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
  const fields = readFields(message);
  const nameBytes = allBytes(fields, 3).reduce((sum, { length }) => sum + length, 0);
  if (nameBytes > namesMaxBytes) throw invalid(`the names of a request have at most ${namesMaxBytes} bytes`);
  const names = allTexts(fields, 3);
  const type = lastText(fields, 4);
  if (names.length > namesMax) throw invalid(`a request names at most ${namesMax} secrets`);
  if (type !== '' && type !== secretType) throw invalid('only secrets are served here');
  const [node] = allBytes(fields, 2);
  const nodeId = node && allBytes(readFields(node), 1).at(-1);
  const [status] = allBytes(fields, 6);
  return {
    nodeId: nodeId?.toString('latin1', 0, nodeIdMaxBytes) ?? '',
    names,
    nonce: lastText(fields, 5),
    refusal: status && lastText(readFields(status), 2),
  };
}

function invalid(message: string): GrpcError {
  return new GrpcError(GrpcStatus.invalidArgument, message);
}

/** A field of a DiscoveryResponse that holds one secret, in parts. */
export type Secret = readonly Uint8Array[];

/** A key and its certificates; both PEM. */
export function certificateSecret(name: string, chainPem: string, keyPem: string): Secret {
  const certificate = [...fieldParts(1, [inline(chainPem)]), ...fieldParts(2, [inline(keyPem)])];
  return secret(name, fieldParts(2, certificate));
}

/** Who may be at the other end of a connection. */
export interface ValidationContext {
  rootsPem: string;
  /** As Envoy wants them: one for every CA that may stand in a chain, the root's too. In parts; none for none. */
  crlsPem: readonly Buffer[];
  /** SPIFFE IDs, or prefixes ending in `/*`; undefined: anybody of the trust domain. */
  callers: readonly string[] | undefined;
}

export function validationSecret(name: string, context: ValidationContext): Secret {
  const { rootsPem, crlsPem, callers = [] } = context;
  const crls = crlsPem.length === 0 ? [] : fieldParts(7, fieldParts(2, crlsPem));
  const matchers = callers.map((caller) => bytesField(15, sanMatcher(caller)));
  return secret(name, fieldParts(4, [...fieldParts(1, [inline(rootsPem)]), ...crls, ...matchers]));
}

/** A SubjectAltNameMatcher of type URI. */
function sanMatcher(caller: string): Buffer {
  const matcher = caller.endsWith('/*') ? bytesField(2, caller.slice(0, -1)) : bytesField(1, caller);
  return Buffer.concat([varintField(1, 3), bytesField(2, matcher)]);
}

/** A DataSource with `inline_bytes`. */
function inline(text: string): Buffer {
  return bytesField(2, text);
}

function secret(name: string, value: Secret): Secret {
  return fieldParts(2, [bytesField(1, secretType), ...fieldParts(2, [bytesField(1, name), ...value])]);
}

/** A DiscoveryResponse in parts; `version` is its nonce, too. */
export function responseOf(version: string, secrets: readonly Secret[]): Uint8Array[] {
  return [
    ...[bytesField(1, version), ...secrets.flat()],
    ...[bytesField(4, secretType), bytesField(5, version)],
  ];
}
