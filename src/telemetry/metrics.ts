import { gauge } from './gauge.ts';
import { type ObservedSigner, observeSigner } from './signer-metrics.ts';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

const quick = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** What gauges read when Prometheus asks. */
export interface Observed {
  signer: () => ObservedSigner;
  /** Undefined where there is none, and then there are no gauges of it that an alert could take for a failure. */
  standby: { usable: () => number; issuing: () => number } | undefined;
  treeSize: () => number;
  /** Targets that documents are pushed to. */
  pushed: () => { target: string; waiting: number; failures: number; lastPutMs: number | undefined }[];
  crls: () => { issuerKeyId: string; scope: string; nextUpdateSeconds: number }[];
  inFlight: () => number;
  streams: () => number;
  clockInDoubt: () => number;
}

/** Prometheus metrics of the server; names and units in docs/ARCHITECTURE.md. */
export class Metrics {
  readonly registry = new Registry();
  readonly requests = new Histogram({
    name: 'vouch_http_request_seconds',
    help: 'Time to answer a request, by listener, route and status',
    labelNames: ['listener', 'route', 'status'],
    buckets: quick,
    registers: [this.registry],
  });
  readonly issued = new Counter({
    name: 'vouch_certificates_issued_total',
    help: 'Certificates issued, by what asked for them',
    labelNames: ['road'],
    registers: [this.registry],
  });
  readonly issueSeconds = new Histogram({
    name: 'vouch_issue_seconds',
    help: 'Time from a checked request to a verified certificate',
    buckets: quick,
    registers: [this.registry],
  });
  readonly refused = new Counter({
    name: 'vouch_refusals_total',
    help: 'Requests refused, by error code',
    labelNames: ['code'],
    registers: [this.registry],
  });
  readonly revocations = new Counter({
    name: 'vouch_revocations_total',
    help: 'Certificates revoked, by reason',
    labelNames: ['reason'],
    registers: [this.registry],
  });
  readonly revokeToPublished = new Histogram({
    name: 'vouch_revoke_to_published_seconds',
    help: "Time from an operator's request to the CRL that carries it",
    buckets: quick,
    registers: [this.registry],
  });
  readonly ocspAnswers = new Counter({
    name: 'vouch_ocsp_answers_total',
    help: 'OCSP requests answered, by what was said',
    labelNames: ['status'],
    registers: [this.registry],
  });
  readonly ocspSigned = new Counter({
    name: 'vouch_ocsp_signed_total',
    help: 'OCSP answers signed',
    registers: [this.registry],
  });
  readonly jwtSvids = new Counter({
    name: 'vouch_jwt_svids_total',
    help: 'JWT-SVIDs signed',
    registers: [this.registry],
  });
  readonly alarms = new Counter({
    name: 'vouch_alarms_total',
    help: 'Things an operator must look at, by kind; alert on any increase',
    labelNames: ['kind'],
    registers: [this.registry],
  });

  /** Registers the gauges, which read live state. */
  observe(observed: Observed): void {
    const { registry } = this;
    collectDefaultMetrics({ register: registry, prefix: 'vouch_' });
    observeSigner(registry, observed.signer);
    if (observed.standby) observeStandby(registry, observed.standby);
    gauge(registry, 'vouch_log_tree_size', 'Leaves in the log', observed.treeSize);
    gauge(registry, 'vouch_enrollments_in_flight', 'Enrollments and renewals in progress', observed.inFlight);
    gauge(registry, 'vouch_watch_streams', 'Open streams of agents that watch', observed.streams);
    gauge(
      registry,
      'vouch_clock_in_doubt',
      '1 while issuance is stopped because of the clock',
      observed.clockInDoubt,
    );
    observePushed(registry, observed.pushed);
    const next = new Gauge({
      name: 'vouch_crl_next_update_seconds',
      help: 'nextUpdate of each published CRL, Unix time',
      labelNames: ['issuer', 'scope'],
      registers: [registry],
      collect() {
        for (const crl of observed.crls())
          next.set({ issuer: crl.issuerKeyId, scope: crl.scope }, crl.nextUpdateSeconds);
      },
    });
  }
}

function observePushed(registry: Registry, pushed: Observed['pushed']): void {
  const byTarget = (name: string, help: string, read: (one: ReturnType<typeof pushed>[number]) => number) =>
    new Gauge({
      ...{ name, help, labelNames: ['target'], registers: [registry] },
      collect() {
        for (const one of pushed()) this.set({ target: one.target }, read(one));
      },
    });
  byTarget(
    'vouch_publish_waiting',
    'Documents that a publish target does not have yet',
    (one) => one.waiting,
  );
  byTarget('vouch_publish_failures', 'Attempts that failed since the start', (one) => one.failures);
  byTarget(
    'vouch_publish_last_put_seconds',
    'When a publish target took a document last, Unix time; 0: not since the start',
    (one) => (one.lastPutMs ?? 0) / 1000,
  );
}

function observeStandby(registry: Registry, { usable, issuing }: NonNullable<Observed['standby']>): void {
  gauge(registry, 'vouch_standby_usable', '1 while the signer of the standby token signs', usable);
  gauge(
    registry,
    'vouch_standby_issuing',
    "1 while the standby's issuer issues, since the first token is away",
    issuing,
  );
}
