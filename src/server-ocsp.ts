import { OcspResponders } from './authority/ocsp-responders.ts';
import type { Config } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import type { Serial } from './core/serial.ts';
import { asVouchError, isIntegrityFailure } from './core/errors.ts';
import { type OcspHandler, ocspHandler } from './http/ocsp.ts';
import { every, type Task } from './jobs/every.ts';
import { type Profile, profileNamed } from './issuance/profile.ts';
import type { Kernel } from './kernel.ts';
import { OcspAnswers, type OcspReply, type Standing } from './revocation/ocsp.ts';
import type { StoreReader } from './store/port.ts';
import { errorFields, type Log } from './telemetry/log.ts';
import type { Metrics } from './telemetry/metrics.ts';

/** What workloads' certificates look like, by profile: with the responder's URL where that is wanted. */
export function profilesOf({ ocsp }: Config): (name: string) => Profile {
  const ocspPoint = ocsp.enabled && ocsp.inCertificates;
  return (name) => ({ ...profileNamed(name), ocspPoint });
}

/** The OCSP responder, and what keeps its certificates; neither where it is off. */
export function openOcsp(parts: {
  config: Config;
  kernel: Kernel;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}): {
  handler?: OcspHandler;
  jobs: Task[];
} {
  const { config, kernel, clock, log, metrics } = parts;
  if (!config.ocsp.enabled) return { jobs: [] };
  const { store, signer, issuers, sequencer } = kernel;
  const timeMs = (): number => kernel.clockGuard.steadyTimeMs();
  const responders = new OcspResponders({ ...kernel, trustDomain: config.trustDomain, timeMs });
  const answers = new OcspAnswers({
    ...{ issuers, signer, clock, timeMs, settings: config.ocsp },
    standing: (issuerKeyId, serial) => standingOf(store, issuerKeyId, serial),
    responder: (issuerKeyId) => responders.current(issuerKeyId),
    signed: (issuer, { form, status, nonce }) => {
      metrics.ocspSigned.inc();
      log.info(
        { issuer, serial: form.serial, status: status.kind, live: nonce !== undefined },
        'OCSP answer signed',
      );
    },
    failed: (error) => {
      if (isIntegrityFailure(error)) metrics.alarms.inc({ kind: 'ocsp' });
      // Anybody can ask, as often as they like, while the token is away: `vouch status` says that it is.
      const level = asVouchError(error).code === 'unavailable-signer' ? 'debug' : 'error';
      log[level](errorFields(error), 'no OCSP answer could be signed');
    },
  });
  const counted = async (request: Buffer): Promise<OcspReply> => {
    const reply = await answers.answer(request);
    metrics.ocspAnswers.inc({ status: 'signed' in reply ? reply.signed.status.kind : reply.refusal });
    return reply;
  };
  const warned = new Set<string>();
  const renew = async (): Promise<void> => {
    for (const issuer of responders.withoutKey((keyId) => sequencer.signerAnswers(keyId))) {
      if (!warned.has(issuer)) log.error({ issuer }, noKey);
      warned.add(issuer);
    }
    await responders.renewWhenDue();
  };
  const failed = (error: unknown): void =>
    log.error(errorFields(error), "the OCSP responder's certificate is due");
  return { handler: ocspHandler(counted, timeMs), jobs: [every(1000, renew, failed)] };
}

const noKey =
  'ocsp is enabled, and the token of this issuer has no key that answers: `vouch signer --make-ocsp-key`, then start the signer again';

function standingOf(store: StoreReader, issuerKeyId: string, serial: Serial): Standing {
  const found = store.certificate(issuerKeyId, serial);
  if (!found) return { kind: 'unknown' };
  const { revoked, notAfterMs } = found;
  return revoked ? { kind: 'revoked', ...revoked } : { kind: 'good', notAfterMs };
}
