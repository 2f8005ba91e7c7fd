import express, { type Express, type Request, type RequestHandler, type Response } from 'express';
import type * as z from 'zod/mini';
import type { OperatorVerbs } from '../operator/verbs.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import * as wire from '../wire/admin.ts';
import { chainSchema, importSchema } from '../wire/ceremony.ts';
import { parseBody } from './parse.ts';
import { peerCredentials } from './peer-credentials.ts';
import { noteAsking, notFound, problems, requestContext } from './request-context.ts';

/** The admin socket's routes; the caller's uid is the operator in log and audit. */
export function adminApi(verbs: OperatorVerbs, log: Log, metrics: Metrics): Express {
  const app = express();
  app
    .disable('x-powered-by')
    .disable('etag')
    .enable('strict routing')
    .enable('case sensitive routing')
    .set('query parser', 'simple');
  app.use(requestContext('admin', log, metrics));
  app.use((request, response, next) => {
    const operator = `uid:${peerCredentials(request.socket).uid}`;
    response.locals.operator = operator;
    noteAsking(response, { operator });
    next();
  });
  app.use(express.json({ limit: wire.adminMaxBytes, strict: true }));

  for (const [path, handler] of Object.entries(readers(verbs))) app.get(path, handler);
  for (const [path, handler] of Object.entries(doers(verbs))) app.post(path, handler);
  app.use(notFound);
  app.use(problems(log, metrics, 'operator'));
  return app;
}

const { adminPaths: paths } = wire;

function readers(verbs: OperatorVerbs): Record<string, RequestHandler> {
  return {
    [paths.status]: reading(() => verbs.status()),
    [paths.tokens]: reading((request) => verbs.tokens(pageOf(request))),
    [paths.certificates]: reading((request) => verbs.certificates(pageOf(request))),
    [paths.certificate]: reading((request) => verbs.certificate(parameterOf(request, 'serial'))),
    [paths.explain]: reading((request) => verbs.explain(parameterOf(request, 'serial'))),
    [paths.entries]: reading((request) => verbs.entries(pageOf(request))),
    [paths.entry]: reading((request) => verbs.entry(parameterOf(request, 'entry'))),
    [paths.massRevocation]: reading((request) => verbs.revocations.progress(parameterOf(request, 'leaf'))),
    [paths.crls]: reading(() => verbs.crls()),
    [paths.audit]: reading((request) => verbs.audit(pageOf(request))),
  };
}

function doers(verbs: OperatorVerbs): Record<string, RequestHandler> {
  return {
    [paths.tokens]: doing(wire.createTokenSchema, (body, operator) => verbs.createToken(body, operator)),
    [paths.tokenRevoke]: doing(wire.revokeTokenSchema, ({ tokenId }, operator) =>
      verbs.revokeToken(tokenId, operator),
    ),
    [paths.entries]: doing(wire.createEntrySchema, (body, operator) => verbs.createEntry(body, operator)),
    [paths.entryDelete]: doing(wire.deleteEntrySchema, ({ entryId }, operator) =>
      verbs.deleteEntry(entryId, operator),
    ),
    [paths.entryResume]: doing(wire.resumeSchema, (body, operator) => verbs.resumeEntries(body, operator)),
    [paths.renewNow]: doing(wire.renewNowSchema, (body, operator) => verbs.renewNow(body, operator)),
    [paths.revocationPreview]: doing(wire.previewSchema, ({ target, reason }) =>
      verbs.revocations.preview(target, reason),
    ),
    [paths.revocations]: doing(wire.revokeSchema, (body, operator) =>
      verbs.revocations.revoke(body, operator),
    ),
    [paths.releases]: doing(wire.releaseSchema, ({ target }, operator) =>
      verbs.revocations.release(target, operator),
    ),
    [paths.crlPublish]: doing(wire.emptySchema, (_body, operator) => verbs.publishCrls(operator)),
    [paths.backup]: doing(wire.backupSchema, ({ file }, operator) => verbs.backup(file, operator)),
    [paths.ceremonyImport]: doing(importSchema, ({ files }, operator) =>
      verbs.importRenewal(files, operator),
    ),
    [paths.ceremonyChain]: doing(chainSchema, ({ chain }, operator) => verbs.takeChain(chain, operator)),
    [paths.clockAccept]: doing(wire.emptySchema, (_body, operator) => verbs.acceptClock(operator)),
    [paths.signerRetry]: doing(wire.emptySchema, (_body, operator) => verbs.retrySigner(operator)),
  };
}

function reading(read: (request: Request) => object | Promise<object>): RequestHandler {
  return async (request, response) => {
    response.json(await read(request));
  };
}

function doing<S extends z.ZodMiniType>(
  schema: S,
  act: (body: z.output<S>, operator: string) => Promise<object>,
): RequestHandler {
  return async (request, response) => {
    response.json(await act(parseBody(schema, request.body), operatorOf(response)));
  };
}

function operatorOf(response: Response): string {
  const operator: unknown = response.locals.operator;
  return typeof operator === 'string' ? operator : 'unknown';
}

function parameterOf(request: Request, name: string): string {
  const value = request.params[name];
  return typeof value === 'string' ? value : '';
}

function pageOf(request: Request) {
  return parseBody(wire.pageSchema, { ...request.query });
}
