import * as z from 'zod/mini';
import * as admin from './admin.ts';
import * as enrollment from './enrollment.ts';

/** An OpenAPI 3.1 document. */
export type OpenApiDocument = { readonly [key: string]: unknown };

interface Route {
  path: string;
  method: 'get' | 'post';
  summary: string;
  body?: z.ZodMiniType;
  answer?: z.ZodMiniType;
  /** Needs a client certificate of this authority. */
  mutualTls?: boolean;
}

const enrollmentRoutes: readonly Route[] = [
  {
    path: enrollment.enrollmentPaths.challenge,
    method: 'post',
    summary: 'A one-use nonce for clients without a TLS exporter; good for 60 s',
    body: enrollment.challengeRequestSchema,
    answer: enrollment.challengeAnswerSchema,
  },
  {
    path: enrollment.enrollmentPaths.enroll,
    method: 'post',
    summary: 'Evidence and a CSR for a first certificate',
    body: enrollment.enrollRequestSchema,
    answer: enrollment.certificateAnswerSchema,
  },
  {
    path: enrollment.enrollmentPaths.renew,
    method: 'post',
    summary: 'The next certificate of the one shown in TLS, for a fresh key',
    body: enrollment.renewRequestSchema,
    answer: enrollment.certificateAnswerSchema,
    mutualTls: true,
  },
  {
    path: enrollment.enrollmentPaths.bundle,
    method: 'get',
    summary: 'The trust bundle with the root statement',
    answer: enrollment.bundleSchema,
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
  { path: adminPaths.explain, method: 'get', summary: 'Why a certificate exists' },
  { path: adminPaths.entries, method: 'get', summary: 'Registration entries' },
  { path: adminPaths.entryResume, method: 'post', summary: 'Lift a suspension', body: admin.resumeSchema },
  {
    path: adminPaths.revocationPreview,
    method: 'post',
    summary: 'What a revocation would end',
    body: admin.previewSchema,
  },
  { path: adminPaths.revocations, method: 'post', summary: 'Revoke', body: admin.revokeSchema },
  { path: adminPaths.crls, method: 'get', summary: 'The CRLs that are served' },
  { path: adminPaths.crlPublish, method: 'post', summary: 'Sign every CRL anew', body: admin.emptySchema },
  {
    path: adminPaths.backup,
    method: 'post',
    summary: 'Copy the whole state into one file',
    body: admin.backupSchema,
  },
  {
    path: adminPaths.clockAccept,
    method: 'post',
    summary: 'Say that the wall clock is right',
    body: admin.emptySchema,
  },
  { path: adminPaths.audit, method: 'get', summary: "Operators' deeds, from the log" },
];

/** The documents by file name: what agents call, and apart from it what operators call. */
export function openApiDocuments(version: string): Record<string, OpenApiDocument> {
  return {
    'openapi.json': document('Vouch enrollment', 'Served over TLS 1.3.', version, enrollmentRoutes),
    'openapi-admin.json': document(
      'Vouch administration',
      'Served on the admin socket only.',
      version,
      adminRoutes,
    ),
  };
}

function document(
  title: string,
  description: string,
  version: string,
  routes: readonly Route[],
): OpenApiDocument {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method]: operation(route, path) };
  }
  return {
    openapi: '3.1.0',
    info: { title, description, version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    paths,
    components: {
      schemas: { Problem: schemaOf(enrollment.problemSchema) },
      ...(routes.some((route) => route.mutualTls)
        ? { securitySchemes: { mutualTls: { type: 'mutualTLS' } } }
        : {}),
    },
  };
}

function operation(route: Route, path: string) {
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  return {
    summary: route.summary,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.mutualTls ? { security: [{ mutualTls: [] }] } : {}),
    ...(route.body ? { requestBody: { required: true, content: json(schemaOf(route.body)) } } : {}),
    responses: {
      200: { description: 'Done', content: json(route.answer ? schemaOf(route.answer) : { type: 'object' }) },
      default: {
        description: 'RFC 9457 problem; 429 and 503 carry Retry-After',
        content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    },
  };
}

function json(schema: object) {
  return { 'application/json': { schema } };
}

/** As it stands in JSON, before bytes are decoded. */
function schemaOf(schema: z.ZodMiniType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return rest;
}
