import type * as z from 'zod/mini';
import type { ErrorCode } from '../core/errors.ts';
import * as admin from './admin.ts';
import * as agent from './agent.ts';
import { chainSchema, importSchema } from './ceremony.ts';
import * as enrollment from './enrollment.ts';
import { type Refusal, refusals, refusalsOf } from './enrollment-refusals.ts';
import * as jwt from './jwt.ts';
import { schemaOf } from './json-schema.ts';
import * as watch from './watch.ts';

/** An OpenAPI 3.1 document. */
export type OpenApiDocument = { readonly [key: string]: unknown };

interface Route {
  path: string;
  method: 'get' | 'post';
  summary: string;
  body?: z.ZodMiniType;
  answer?: z.ZodMiniType;
  /** Server-sent events by name, in place of an answer. */
  events?: Readonly<Record<string, z.ZodMiniType>>;
  /** Request headers that it reads. */
  headers?: readonly object[];
  /** Answers 304 to who knows the `ETag`. */
  hasETag?: boolean;
  /** Needs a client certificate of this authority. */
  mutualTls?: boolean;
  /** Codes that it answers with besides 200. */
  refusals?: readonly Refusal[];
}

/** The HTTP status of a code: the edge's to say. */
export type StatusOf = (code: ErrorCode) => number;

const lastEventId = {
  name: 'Last-Event-ID',
  in: 'header',
  required: false,
  description: 'The `id` of the last event that was whole: what came since is sent first.',
  schema: { type: 'string', pattern: '^[0-9]{1,15}$' },
};

const ifNoneMatch = {
  name: 'If-None-Match',
  in: 'header',
  required: false,
  description: 'The `ETag` of the answer that is known.',
  schema: { type: 'string' },
};

const etag = {
  description: 'The `sequence` in quotation marks.',
  schema: { type: 'string', pattern: '^"[0-9]+"$' },
};

const enrollmentRoutes: readonly Route[] = [
  {
    path: enrollment.enrollmentPaths.challenge,
    method: 'post',
    summary: 'A one-use nonce for clients without a TLS exporter; good for 60 s',
    body: enrollment.challengeRequestSchema,
    answer: enrollment.challengeAnswerSchema,
    refusals: refusalsOf.challenge,
  },
  {
    path: enrollment.enrollmentPaths.enroll,
    method: 'post',
    summary: 'Evidence and a CSR for a first certificate',
    body: enrollment.enrollRequestSchema,
    answer: enrollment.certificateAnswerSchema,
    refusals: refusalsOf.enroll,
  },
  {
    path: enrollment.enrollmentPaths.renew,
    method: 'post',
    summary: 'The next certificate of the one shown in TLS, for a fresh key',
    body: enrollment.renewRequestSchema,
    answer: enrollment.certificateAnswerSchema,
    refusals: refusalsOf.renew,
    mutualTls: true,
  },
  {
    path: jwt.jwtSvidsPath,
    method: 'post',
    summary: 'A JWT-SVID for a workload of this agent',
    body: jwt.jwtSvidRequestSchema,
    answer: jwt.jwtSvidAnswerSchema,
    refusals: refusalsOf.jwtSvids,
    mutualTls: true,
  },
  {
    path: enrollment.enrollmentPaths.bundle,
    method: 'get',
    summary: 'The trust bundle with the root statement',
    answer: enrollment.bundleSchema,
    refusals: refusalsOf.bundle,
  },
  {
    path: enrollment.enrollmentPaths.watch,
    method: 'get',
    summary: 'CRLs, bundle and orders as they come, for as long as the certificate shown in TLS counts',
    events: {
      crl: watch.crlEventSchema,
      bundle: watch.bundleEventSchema,
      entry: watch.entryEventSchema,
      entries: watch.entriesEventSchema,
      renew: watch.renewEventSchema,
      'renew-workloads': watch.renewWorkloadsEventSchema,
    },
    headers: [lastEventId],
    refusals: refusalsOf.watch,
    mutualTls: true,
  },
  {
    path: agent.agentPaths.entries,
    method: 'get',
    summary: 'The registration entries that name the identity shown in TLS as their parent',
    answer: agent.entriesAnswerSchema,
    headers: [ifNoneMatch],
    hasETag: true,
    refusals: refusalsOf.entries,
    mutualTls: true,
  },
  {
    path: agent.agentPaths.svids,
    method: 'post',
    summary: 'Certificates for many of these entries, each on its own; the body may have 1 MiB',
    body: agent.svidsRequestSchema,
    answer: agent.svidsAnswerSchema,
    refusals: refusalsOf.svids,
    mutualTls: true,
  },
];

const { adminPaths } = admin;
const adminRoutes: readonly Route[] = [
  { path: adminPaths.status, method: 'get', summary: 'State of signer, log, issuer and CRLs' },
  { path: adminPaths.tokens, method: 'get', summary: 'Join tokens, without their secrets' },
  {
    path: adminPaths.tokens,
    method: 'post',
    summary: 'A join token with its registration entry',
    body: admin.createTokenSchema,
  },
  {
    path: adminPaths.tokenRevoke,
    method: 'post',
    summary: 'End a join token',
    body: admin.revokeTokenSchema,
  },
  { path: adminPaths.certificates, method: 'get', summary: 'Certificates, newest first' },
  { path: adminPaths.certificate, method: 'get', summary: 'One certificate' },
  {
    path: adminPaths.renewNow,
    method: 'post',
    summary: 'Ask the holders of certificates to renew them now',
    body: admin.renewNowSchema,
  },
  { path: adminPaths.explain, method: 'get', summary: 'Why a certificate exists' },
  { path: adminPaths.entries, method: 'get', summary: 'Registration entries' },
  {
    path: adminPaths.entries,
    method: 'post',
    summary: 'A registration entry that an agent asks for in the name of its workloads',
    body: admin.createEntrySchema,
  },
  { path: adminPaths.entry, method: 'get', summary: 'One registration entry' },
  {
    path: adminPaths.entryDelete,
    method: 'post',
    summary: 'Delete a registration entry',
    body: admin.deleteEntrySchema,
  },
  { path: adminPaths.entryResume, method: 'post', summary: 'Lift a suspension', body: admin.resumeSchema },
  {
    path: adminPaths.revocationPreview,
    method: 'post',
    summary: 'What a revocation would end',
    body: admin.previewSchema,
  },
  { path: adminPaths.revocations, method: 'post', summary: 'Revoke', body: admin.revokeSchema },
  { path: adminPaths.massRevocation, method: 'get', summary: 'How far a mass revocation or release is' },
  { path: adminPaths.releases, method: 'post', summary: 'Release from hold', body: admin.releaseSchema },
  { path: adminPaths.crls, method: 'get', summary: 'The CRLs that are served' },
  { path: adminPaths.crlPublish, method: 'post', summary: 'Sign every CRL anew', body: admin.emptySchema },
  {
    path: adminPaths.backup,
    method: 'post',
    summary: 'Copy the whole state into one file',
    body: admin.backupSchema,
  },
  {
    path: adminPaths.ceremonyImport,
    method: 'post',
    summary: "Take in a renewal of the root's CRL and statement: the files of a ceremony's result",
    body: importSchema,
  },
  {
    path: adminPaths.ceremonyChain,
    method: 'post',
    summary: 'Take in the certificate that a CA above made of the root',
    body: chainSchema,
  },
  {
    path: adminPaths.clockAccept,
    method: 'post',
    summary: 'Say that the wall clock is right',
    body: admin.emptySchema,
  },
  {
    path: adminPaths.signerRetry,
    method: 'post',
    summary: 'Try the signer once more after it gave up, also with a PIN that was refused',
    body: admin.emptySchema,
  },
  { path: adminPaths.audit, method: 'get', summary: "Operators' deeds, from the log" },
];

/** The documents by file name: what agents call, and apart from it what operators call. */
export function openApiDocuments(version: string, statusOf: StatusOf): Record<string, OpenApiDocument> {
  return {
    'openapi.json': document(
      'Vouch enrollment',
      'HTTP/1.1 over TLS 1.3. docs/enrollment.md says how a client uses it, with test vectors: the two connections of a ' +
        'first enrollment, the join file, the binding, what of an answer must be checked and in which order.',
      version,
      enrollmentRoutes,
      statusOf,
    ),
    'openapi-admin.json': document(
      'Vouch administration',
      'Served on the admin socket only.',
      version,
      adminRoutes,
      statusOf,
    ),
  };
}

function document(
  title: string,
  description: string,
  version: string,
  routes: readonly Route[],
  statusOf: StatusOf,
): OpenApiDocument {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method]: operation(route, path, statusOf) };
  }
  return {
    openapi: '3.1.0',
    info: { title, description, version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    paths,
    components: {
      schemas: { Problem: schemaOf(enrollment.problemSchema) },
      ...(routes.some((route) => route.mutualTls) ? { securitySchemes: { mutualTls } } : {}),
    },
  };
}

const mutualTls = {
  type: 'mutualTLS',
  description:
    'The certificate and its issuers, without the root: the server knows its root only. Whether it still counts is asked at ' +
    'each request, and answered by a problem, not by a TLS alert.',
};

function operation(route: Route, path: string, statusOf: StatusOf) {
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  return {
    summary: route.summary,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.headers ? { parameters: route.headers } : {}),
    ...(route.mutualTls ? { security: [{ mutualTls: [] }] } : {}),
    ...(route.body ? { requestBody: { required: true, content: json(schemaOf(route.body)) } } : {}),
    responses: {
      200: {
        description: 'Done',
        ...(route.hasETag ? { headers: { ETag: etag } } : {}),
        content: answerOf(route),
      },
      ...(route.hasETag ? { 304: { description: 'As it was when this `ETag` was given.' } } : {}),
      ...refusalResponses(route.refusals ?? [], statusOf),
      default: {
        description: 'RFC 9457 problem; 429 carries Retry-After, and 503 where waiting helps',
        content: problemContent,
      },
    },
  };
}

function answerOf({ answer, events }: Route): object {
  if (!events) return json(answer ? schemaOf(answer) : { type: 'object' });
  const byName = Object.fromEntries(Object.entries(events).map(([name, schema]) => [name, schemaOf(schema)]));
  const description =
    'Server-sent events. `id`: index of a leaf of the log. `event` and the JSON of `data` are one of `x-events`; others are passed ' +
    'over. docs/enrollment.md, Watching.';
  return { 'text/event-stream': { schema: { type: 'string', description }, 'x-events': byName } };
}

const problemContent = {
  'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } },
};

const retryAfter = {
  description: 'Whole seconds, where waiting helps: at least that long, and a random while longer.',
  schema: { type: 'integer', minimum: 1 },
};

/** One response for each status, which lists its codes. */
function refusalResponses(codes: readonly Refusal[], statusOf: StatusOf): Record<string, object> {
  const byStatus = Map.groupBy(codes, statusOf);
  return Object.fromEntries(
    [...byStatus].map(([status, those]) => [
      String(status),
      {
        description: those.map((code) => `- \`${code}\`: ${refusals[code]}`).join('\n'),
        ...(status === 429 || status === 503 ? { headers: { 'Retry-After': retryAfter } } : {}),
        content: problemContent,
      },
    ]),
  );
}

function json(schema: object) {
  return { 'application/json': { schema } };
}
