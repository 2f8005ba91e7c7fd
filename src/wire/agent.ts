import * as z from 'zod/mini';
import { entriesOfParentMax } from '../core/registration.ts';
import {
  bundleSchema,
  certificateDer,
  checkpointNote,
  consistencySchema,
  crlUrlSchema,
  inclusionProofSchema,
  issuerKeyId,
  renewalWindowSchema,
  rfc3339,
  treeSize,
} from './enrollment.ts';

// What an agent asks in the name of its workloads. What members mean stands in agent-descriptions.ts.

/** Paths of the enrollment listener, over mTLS with the agent's certificate. */
export const agentPaths = { entries: '/v1/entries', svids: '/v1/svids' } as const;

/** Most certificates of one call. */
export const svidsMax = 512;

/** Largest body of `POST /v1/svids`. */
export const svidsRequestMaxBytes = 1024 * 1024;

/** Largest answer to it. */
export const svidsAnswerMaxBytes = 8 * 1024 * 1024;

/** Member of `requests`; what is in its strings is judged item by item. */
export const svidRequestSchema = z.strictObject({
  entryId: z.string().check(z.minLength(1), z.maxLength(64)),
  csr: z.string().check(z.minLength(1)),
  predecessor: z.optional(z.string().check(z.minLength(1), z.maxLength(64))),
});
/** One certificate that an agent asks for. */
export type SvidRequest = z.output<typeof svidRequestSchema>;

/** `POST /v1/svids`. */
export const svidsRequestSchema = z.strictObject({
  requests: z.array(svidRequestSchema).check(z.minLength(1), z.maxLength(svidsMax)),
  treeSize: z.optional(treeSize),
  checkpoint: z.optional(checkpointNote),
});
/** As it stands in JSON. */
export type SvidsRequest = z.output<typeof svidsRequestSchema>;

const entryId = z.string().check(z.maxLength(64));

/** Member of `results`: a certificate. */
export const svidIssuedSchema = z.strictObject({
  entryId,
  certificate: certificateDer,
  issuerKeyId,
  proof: inclusionProofSchema,
  renewal: renewalWindowSchema,
});
/** As the server writes it. */
export type SvidIssuedJson = z.input<typeof svidIssuedSchema>;

/** Member `problem` of a result. */
export const svidProblemSchema = z.looseObject({
  code: z.string().check(z.maxLength(64)),
  detail: z.string().check(z.maxLength(4096)),
  retryAfterSeconds: z.optional(z.int().check(z.gte(0))),
});

/** Member of `results`: why there is none. */
export const svidRefusedSchema = z.strictObject({ entryId, problem: svidProblemSchema });
/** As the server writes it. */
export type SvidRefusedJson = z.input<typeof svidRefusedSchema>;

/** Answer 200 of svids. */
export const svidsAnswerSchema = z.strictObject({
  results: z
    .array(z.union([svidIssuedSchema, svidRefusedSchema]))
    .check(z.minLength(1), z.maxLength(svidsMax)),
  authorities: z.record(issuerKeyId, z.array(certificateDer).check(z.minLength(1), z.maxLength(7))),
  issuers: z.optional(z.array(certificateDer).check(z.minLength(1), z.maxLength(8))),
  bundle: bundleSchema,
  consistency: z.optional(consistencySchema),
  crlUrls: z.array(crlUrlSchema).check(z.minLength(1), z.maxLength(8)),
  time: rfc3339,
});
/** As the agent reads it: bytes decoded. */
export type SvidsAnswer = z.output<typeof svidsAnswerSchema>;
/** As the server writes it. */
export type SvidsAnswerJson = z.input<typeof svidsAnswerSchema>;

/** Most bytes of one entry in an answer. */
export const agentEntryMaxBytes = 8 * 1024;

/** Largest answer of `GET /v1/entries`. */
export const entriesAnswerMaxBytes = entriesOfParentMax * (agentEntryMaxBytes + 1) + 1024;

const text = (most: number) => z.string().check(z.maxLength(most));

/** Member of `entries`. */
export const agentEntrySchema = z.looseObject({
  entryId,
  version: z.int().check(z.gte(0)),
  spiffeId: text(2048),
  selectors: z.array(text(8192)).check(z.maxLength(64)),
  hint: text(1024),
  dnsNames: z.array(text(253)).check(z.maxLength(256)),
  ipAddresses: z.array(text(64)).check(z.maxLength(256)),
  allowedClients: z.array(text(2048)).check(z.maxLength(4096)),
  suspended: z.boolean(),
  createdAt: z.int().check(z.gte(0)),
});
/** A registration entry that names the agent as its parent. */
export type AgentEntryJson = z.output<typeof agentEntrySchema>;

/** Answer 200 of entries, oldest first. */
export const entriesAnswerSchema = z.looseObject({
  sequence: z.int().check(z.gte(0)),
  entries: z.array(agentEntrySchema).check(z.maxLength(entriesOfParentMax)),
});
/** As the agent reads it. */
export type EntriesAnswer = z.output<typeof entriesAnswerSchema>;
