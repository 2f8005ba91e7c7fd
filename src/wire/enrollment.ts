import { createHash } from 'node:crypto';
import * as z from 'zod/mini';
import { base64Bytes } from './bytes.ts';

// What objects and members mean stands in enrollment-descriptions.ts: it reaches docs/openapi.json, and never the agent.

/** Paths of the enrollment listener. */
export const enrollmentPaths = {
  challenge: '/v1/challenge',
  enroll: '/v1/enroll',
  renew: '/v1/renew',
  bundle: '/v1/bundle',
  watch: '/v1/watch',
} as const;

/** Largest request body the listener reads, before it parses anything. */
export const requestMaxBytes = 64 * 1024;

/** Largest answer an agent reads. */
export const answerMaxBytes = 1024 * 1024;

/** RFC 9266: what both ends of a TLS 1.3 connection derive, and nobody between them. 32 bytes, empty context. */
export const channelBindingLabel = 'EXPORTER-Channel-Binding';
/** Bytes of the exporter and of a nonce. */
export const bindingBytes = 32;

const maxTreeSize = Number.MAX_SAFE_INTEGER;
/** Leaves of a log. */
export const treeSize = z.int().check(z.gte(0), z.lte(maxTreeSize));
const sequence = z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER));
const hash = z.string().check(z.regex(/^[0-9a-f]{64}$/));
const hashPath = z.array(hash).check(z.maxLength(64));
/** Whole seconds in UTC. */
export const rfc3339 = z.string().check(z.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/));
/** RFC 7093 method 1, 40 hex. */
export const issuerKeyId = z.string().check(z.regex(/^[0-9a-f]{40}$/));
/** DER; as large as a leaf of the log may be, so that whatever is issued can be taken. */
export const certificateDer = base64Bytes(65_535);
const signatureBytes = base64Bytes(1024);

/** Member `binding` of a request. */
export const bindingSchema = z.strictObject({
  signature: signatureBytes,
  nonce: z.optional(base64Bytes(bindingBytes)),
});

/** Member `evidence` of a request. An unknown type is the attestation's to refuse (I7), not the schema's. */
export const evidenceSchema = z.strictObject({
  type: z.string().check(z.regex(/^[a-z0-9_]{1,32}$/)),
  data: z.string().check(z.minLength(1), z.maxLength(32 * 1024)),
});

/** DER. */
export const csrDer = base64Bytes(16 * 1024);
/** A signed note. */
export const checkpointNote = z.string().check(z.minLength(1), z.maxLength(16 * 1024));

/** `POST /v1/enroll`. */
export const enrollRequestSchema = z.strictObject({
  evidence: evidenceSchema,
  csr: csrDer,
  binding: bindingSchema,
  treeSize: z.optional(treeSize),
  checkpoint: z.optional(checkpointNote),
});
/** As the server reads it: bytes decoded. */
export type EnrollRequest = z.output<typeof enrollRequestSchema>;
/** As it stands in JSON. */
export type EnrollRequestJson = z.input<typeof enrollRequestSchema>;

/** `POST /v1/renew`, over mTLS with the certificate to be renewed. */
export const renewRequestSchema = z.strictObject({
  csr: csrDer,
  binding: bindingSchema,
  treeSize: z.optional(treeSize),
  checkpoint: z.optional(checkpointNote),
});
/** As the server reads it: bytes decoded. */
export type RenewRequest = z.output<typeof renewRequestSchema>;
/** As it stands in JSON. */
export type RenewRequestJson = z.input<typeof renewRequestSchema>;

/** `POST /v1/challenge` takes an empty object. */
export const challengeRequestSchema = z.strictObject({});
/** Answer 200 of challenge. */
export const challengeAnswerSchema = z.strictObject({ nonce: base64Bytes(bindingBytes), expiresAt: rfc3339 });

/** Member of `keys` of a bundle. */
export const bundleKeySchema = z.looseObject({
  kty: z.string().check(z.maxLength(16)),
  use: z.optional(z.string().check(z.maxLength(32))),
  kid: z.optional(z.string().check(z.maxLength(256))),
  x5c: z.optional(z.array(z.string().check(z.maxLength(32 * 1024))).check(z.maxLength(8))),
});

/** Answer 200 of bundle. */
export const bundleSchema = z.looseObject({
  keys: z.array(bundleKeySchema).check(z.maxLength(64)),
  spiffe_sequence: sequence,
  spiffe_refresh_hint: z.optional(z.int().check(z.gte(1), z.lte(31_536_000))),
  vouch_statement: z.string().check(z.minLength(1), z.maxLength(64 * 1024)),
});
/** `GET /v1/bundle`, `/bundle.json` and the member `bundle` of an answer. */
export type BundleJson = z.input<typeof bundleSchema>;

/** Member `proof` of an answer. */
export const inclusionProofSchema = z.strictObject({
  index: treeSize,
  treeSize,
  time: z.int().check(z.gte(0)),
  context: hash,
  path: hashPath,
  checkpoint: checkpointNote,
});
/** `proof` of an answer, and the content of proof.json. */
export type InclusionProofJson = z.output<typeof inclusionProofSchema>;

/** Member `consistency` of an answer. */
export const consistencySchema = z.strictObject({ treeSize, path: hashPath });

/** Member `peers` of an answer. */
export const peersSchema = z.strictObject({
  version: z.int().check(z.gte(0)),
  allowedClients: z.array(z.string().check(z.maxLength(2048))).check(z.maxLength(4096)),
});
/** The content of peers.json. */
export type PeersJson = z.output<typeof peersSchema>;

/** Member of `crlUrls` of an answer. */
export const crlUrlSchema = z.strictObject({
  keyId: issuerKeyId,
  url: z.string().check(z.maxLength(2048), z.regex(/^http:\/\//)),
});

/** Member `renewal` of an answer. */
export const renewalWindowSchema = z.strictObject({
  earliestSeconds: z.int().check(z.gte(0)),
  latestSeconds: z.int().check(z.gte(0)),
});

/** Answer 200 of enroll and renew. */
export const certificateAnswerSchema = z.strictObject({
  chain: z.array(certificateDer).check(z.minLength(2), z.maxLength(8)),
  issuers: z.optional(z.array(certificateDer).check(z.minLength(1), z.maxLength(8))),
  bundle: bundleSchema,
  proof: inclusionProofSchema,
  consistency: z.optional(consistencySchema),
  renewal: renewalWindowSchema,
  peers: peersSchema,
  time: rfc3339,
  crlUrls: z.array(crlUrlSchema).check(z.minLength(1), z.maxLength(8)),
});
/** As the agent reads it: bytes decoded. */
export type CertificateAnswer = z.output<typeof certificateAnswerSchema>;
/** As the server writes it. */
export type CertificateAnswerJson = z.input<typeof certificateAnswerSchema>;

/** Any other answer (RFC 9457); readers pass over members they do not know (RFC 9457 §3.2). */
export const problemSchema = z.looseObject({
  type: z.optional(z.string().check(z.maxLength(512))),
  title: z.optional(z.string().check(z.maxLength(512))),
  status: z.optional(z.int()),
  code: z.optional(z.string().check(z.maxLength(64))),
  detail: z.optional(z.string().check(z.maxLength(4096))),
  requestId: z.optional(z.string().check(z.maxLength(128))),
});

/** The evidence as the binding hashes it: `<type> 0x00 <data>` in UTF-8. */
export function evidenceBytes(evidence: { type: string; data: string }): Buffer {
  return Buffer.from(`${evidence.type}\0${evidence.data}`, 'utf8');
}

/** What stands for evidence in a renewal: `renew 0x00` and the DER of the client certificate. */
export function renewalEvidenceBytes(certificateDer: Buffer): Buffer {
  return Buffer.concat([Buffer.from('renew\0'), certificateDer]);
}

/** What `binding.signature` signs; `exporterOrNonce` is 32 bytes, `evidence` as from the two functions above. */
export function bindingInput(exporterOrNonce: Buffer, evidence: Buffer): Buffer {
  const digest = createHash('sha256').update(evidence).digest();
  return Buffer.concat([Buffer.from('vouch-enroll-v1'), exporterOrNonce, digest]);
}
