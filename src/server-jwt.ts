import { recordJwtKeys } from './authority/jwt-keys.ts';
import type { Config } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import { JwtSvids } from './enrollment/jwt-svids.ts';
import { publishAuthorities } from './http/documents.ts';
import type { Publication } from './http/publication.ts';
import { every, type Task } from './jobs/every.ts';
import { type Kernel, tokenIssuerOf } from './kernel.ts';
import { errorFields, type Log } from './telemetry/log.ts';
import type { Watch } from './watch/watch.ts';

/** What signs JWT-SVIDs for agents. */
export function jwtSvidsOf(config: Config, kernel: Kernel): JwtSvids {
  const tokenIssuer = tokenIssuerOf(config);
  return new JwtSvids({
    ...kernel,
    ...{ tokenIssuer, lifetimeSeconds: config.jwt.lifetime, bundle: () => kernel.bundle },
  });
}

/** Takes into the bundle what the signers sign with, as soon as they tell of it. */
export function jwtKeyJob(parts: {
  kernel: Kernel;
  publication: Publication;
  watch: Watch;
  clock: Clock;
  log: Log;
}): Task {
  const { kernel, publication, watch, clock, log } = parts;
  const failed = (error: unknown): void =>
    log.error(errorFields(error), 'a key of JWT-SVIDs could not be recorded; it is tried again');
  return every(
    1000,
    async () => {
      if (!(await recordJwtKeys(kernel))) return;
      kernel.renewed();
      publishAuthorities(publication, kernel, clock);
      watch.bundleRenewed(kernel.bundle.sequence);
    },
    failed,
  );
}
