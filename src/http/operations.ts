import express, { type Express } from 'express';
import type { ReadinessCheck } from '../operator/readiness.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { notFound, onlyMethods, problems, requestContext } from './request-context.ts';

/** `/livez`, `/readyz` and `/metrics`. Readiness reads what last succeeded; it signs and writes nothing. */
export function operationsApi(parts: {
  readiness: () => ReadinessCheck[];
  log: Log;
  metrics: Metrics;
}): Express {
  const app = express();
  app
    .disable('x-powered-by')
    .disable('etag')
    .enable('strict routing')
    .enable('case sensitive routing')
    .set('query parser', false);
  app.use(requestContext('operations', withoutInfo(parts.log), parts.metrics));
  app.get('/livez', (_request, response) => {
    response.json({ status: 'alive' });
  });
  app.get('/readyz', (_request, response) => {
    const checks = parts.readiness();
    const ready = checks.every((check) => check.problem === undefined);
    response.status(ready ? 200 : 503).json({ status: ready ? 'ready' : 'not-ready', checks });
  });
  app.get('/metrics', async (_request, response) => {
    response.type(parts.metrics.registry.contentType).send(await parts.metrics.registry.metrics());
  });
  app.all(['/livez', '/readyz', '/metrics'], onlyMethods('GET, HEAD'));
  app.use(notFound);
  app.use(problems(parts.log, parts.metrics));
  return app;
}

/** The same log, where what is only information is for debugging: a probe comes each few seconds. */
function withoutInfo(log: Log): Log {
  return {
    debug: (fields, message) => log.debug(fields, message),
    info: (fields, message) => log.debug(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
  };
}
