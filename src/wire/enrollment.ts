import { createHash } from 'node:crypto';
import * as z from 'zod/mini';
import { base64Bytes } from './bytes.ts';

/** Paths of the enrollment listener. */
export const enrollmentPaths = {
  challenge: '/v1/challenge',
  enroll: '/v1/enroll',
  renew: '/v1/renew',
  bundle: '/v1/bundle',
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
const treeSize = z.int().check(z.gte(0), z.lte(maxTreeSize));
const sequence = z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER));
const hash = z.string().check(z.regex(/^[0-9a-f]{64}$/));
const hashPath = z.array(hash).check(z.maxLength(64));
const rfc3339 = z.string().check(z.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/));
const keyId = z.string().check(z.regex(/^[0-9a-f]{40}$/));
/** As large as a leaf of the log may be, so that whatever is issued can be taken. */
const certificateDer = base64Bytes(65_535);
const signatureBytes = base64Bytes(1024);

/** The CSR key's signature over exporter or nonce and evidence; over `bindingInput`. */
const bindingSchema = z.strictObject({
  signature: signatureBytes,
  /** From `POST /v1/challenge`; without it the TLS exporter of this connection is what is signed. */
  nonce: z.optional(base64Bytes(bindingBytes)),
});

/** What proves who asks. An unknown type is the attestation's to refuse (I7), not the schema's. */
const evidenceSchema = z.strictObject({
  type: z.string().check(z.regex(/^[a-z0-9_]{1,32}$/)),
  data: z.string().check(z.minLength(1), z.maxLength(32 * 1024)),
});

const csrDer = base64Bytes(16 * 1024);
/** A signed note. */
const checkpointNote = z.string().check(z.minLength(1), z.maxLength(16 * 1024));

/**
 * `POST /v1/enroll`. `treeSize`: the largest tree the agent has seen, which the answer must be consistent with;
 * `checkpoint`: the signed note over it, where the agent has one.
 */
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
/** A one-use nonce of 32 bytes, good for 60 s. */
export const challengeAnswerSchema = z.strictObject({ nonce: base64Bytes(bindingBytes), expiresAt: rfc3339 });

/** One key of a SPIFFE bundle; readers ignore members and kinds of key they do not know (Trust Domain and Bundle §4.2). */
const bundleKeySchema = z.looseObject({
  kty: z.string().check(z.maxLength(16)),
  use: z.optional(z.string().check(z.maxLength(32))),
  kid: z.optional(z.string().check(z.maxLength(256))),
  x5c: z.optional(z.array(z.string().check(z.maxLength(32 * 1024))).check(z.maxLength(8))),
});

/** The SPIFFE bundle with our member `vouch_statement`, what the root vouches for (a compact JWS). */
export const bundleSchema = z.looseObject({
  keys: z.array(bundleKeySchema).check(z.maxLength(64)),
  spiffe_sequence: sequence,
  spiffe_refresh_hint: z.optional(z.int().check(z.gte(1), z.lte(31_536_000))),
  vouch_statement: z.string().check(z.minLength(1), z.maxLength(64 * 1024)),
});
/** `GET /v1/bundle`, `/bundle.json` and the member `bundle` of an answer. */
export type BundleJson = z.input<typeof bundleSchema>;

/** Where the leaf stands in the log, and all that is needed to rebuild it from its certificate. */
export const inclusionProofSchema = z.strictObject({
  index: treeSize,
  treeSize,
  /** Unix milliseconds, as in the leaf. */
  time: z.int().check(z.gte(0)),
  /** 32 bytes, lower-case hex, as in the leaf. */
  context: hash,
  path: hashPath,
  checkpoint: checkpointNote,
});
/** `proof` of an answer, and the content of proof.json. */
export type InclusionProofJson = z.output<typeof inclusionProofSchema>;

/** From the tree of the size the agent sent to the one of `proof.checkpoint`. */
const consistencySchema = z.strictObject({ treeSize, path: hashPath });

/** Who may call this workload; the content of peers.json. */
export const peersSchema = z.strictObject({
  version: z.int().check(z.gte(0)),
  /** SPIFFE IDs, or a prefix that ends in `/*`. */
  allowedClients: z.array(z.string().check(z.maxLength(2048))).check(z.maxLength(4096)),
});
/** The content of peers.json. */
export type PeersJson = z.output<typeof peersSchema>;

/** Where the full CRL of one CA in the chain is served, over plain HTTP: it carries its own signature. `keyId`: that CA's, 40 hex characters. */
const crlUrlSchema = z.strictObject({
  keyId,
  url: z.string().check(z.maxLength(2048), z.regex(/^http:\/\//)),
});

/** Answer 200 of enroll and renew. */
export const certificateAnswerSchema = z.strictObject({
  /** DER: leaf, then issuers, root last. */
  chain: z.array(certificateDer).check(z.minLength(2), z.maxLength(8)),
  bundle: bundleSchema,
  proof: inclusionProofSchema,
  /** Present where the request named a tree size other than zero. */
  consistency: z.optional(consistencySchema),
  /** When to renew, from now: half life ∓ 10 %. */
  renewal: z.strictObject({
    earliestSeconds: z.int().check(z.gte(0)),
    latestSeconds: z.int().check(z.gte(0)),
  }),
  peers: peersSchema,
  /** The server's clock. */
  time: rfc3339,
  /** One for each CA in the chain, the root too. */
  crlUrls: z.array(crlUrlSchema).check(z.minLength(1), z.maxLength(8)),
});
/** As the agent reads it: bytes decoded. */
export type CertificateAnswer = z.output<typeof certificateAnswerSchema>;
/** As the server writes it. */
export type CertificateAnswerJson = z.input<typeof certificateAnswerSchema>;

/** RFC 9457 with our stable `code`. Readers ignore members they do not know (RFC 9457 §3.2). */
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

/**
 * What `binding.signature` signs: `vouch-enroll-v1`, then the connection's exporter or the nonce (32 bytes), then
 * SHA-256 of the evidence. ECDSA in DER with the curve's hash, RSA as PKCS#1 v1.5 with SHA-256, Ed25519 raw.
 */
export function bindingInput(exporterOrNonce: Buffer, evidence: Buffer): Buffer {
  const digest = createHash('sha256').update(evidence).digest();
  return Buffer.concat([Buffer.from('vouch-enroll-v1'), exporterOrNonce, digest]);
}
