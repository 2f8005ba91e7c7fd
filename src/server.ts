import { joinTokenAttestor } from './attestation/node/join-token/verify.ts';
import { ServerIdentity, type ShownIdentity } from './authority/server-identity.ts';
import { type Config, statePaths } from './config/config.ts';
import { type Clock, systemClock } from './core/clock.ts';
import { asVouchError } from './core/errors.ts';
import { Challenges } from './enrollment/challenge.ts';
import { Enrollment } from './enrollment/enroll.ts';
import { jwtTurns } from './enrollment/jwt-turns.ts';
import { Svids } from './enrollment/svids.ts';
import { Tokens } from './enrollment/tokens.ts';
import { AgentEntries } from './registration/agent-entries.ts';
import { WorkloadEntries } from './registration/workload-entries.ts';
import { adminApi } from './http/admin-api.ts';
import { Admission, FailureLimits } from './http/admission.ts';
import { enrollmentApi } from './http/enrollment-api.ts';
import { type Listener, listenHttp, listenTls, listenUnix, replaceIdentity } from './http/listeners.ts';
import { crlDocument, publishAuthorities, publishCheckpoint, tileAt } from './http/documents.ts';
import { operationsApi } from './http/operations.ts';
import { type LastWrite, type ReadinessCheck, readinessOf } from './operator/readiness.ts';
import { jwtKeyJob, jwtSvidsOf } from './server-jwt.ts';
import { openOcsp, profilesOf } from './server-ocsp.ts';
import { Publication } from './http/publication.ts';
import { every, type Task } from './jobs/every.ts';
import { takingIn } from './server-ceremony.ts';
import { openPushers, type Pushers } from './server-publish.ts';
import { LateWatch, openWatch } from './server-watch.ts';
import { type Kernel, openKernel, publicationBase, serverIdentityParts } from './kernel.ts';
import { coreDumpsProblem } from './native/limits.ts';
import { OperatorVerbs } from './operator/verbs.ts';
import { statusView } from './operator/status.ts';
import { CrlPublisher, defaultCrlTiming } from './revocation/publisher.ts';
import { CrlPublishers } from './revocation/publishers.ts';
import { LastCrls } from './revocation/last-crls.ts';
import { MassRevocations } from './revocation/mass.ts';
import { Revocation } from './revocation/revoke.ts';
import { signerUp } from './signer-up.ts';
import { backupState } from './state.ts';
import type { CertificateRecord } from './store/records.ts';
import { errorFields, type Log, openLog } from './telemetry/log.ts';
import { Metrics } from './telemetry/metrics.ts';
import type { Watch } from './watch/watch.ts';

/** How long a stopping server waits for requests in progress. */
const drainMs = 8_000;
const second = 1_000;

/** What the first line on standard output says. */
export interface Ready {
  event: 'ready';
  enrollmentUrl: string;
  publicationUrl: string;
  operationsUrl: string;
  adminSocket: string;
  pid: number;
  signerPid: number | null;
}

/** A running server. */
export interface Server {
  ready: Ready;
  /** Stops taking requests, ends what is in progress, stores what is signed. */
  close(): Promise<void>;
}

/**
 * Starts everything in the order in which it is needed: state and signer, CRLs on the publication listener, the admin
 * socket, enrollment. Throws `config-…` for what an operator must mend first.
 */
export async function startServer(
  config: Config,
  configFile: string,
  clock: Clock = systemClock,
): Promise<Server> {
  const log = openLog(config.log.level);
  warnOfCoreDumps(log);
  const metrics = new Metrics();
  await using starting = new AsyncDisposableStack();
  const late = new LateWatch();
  const kernel = starting.adopt(
    await openKernel({ config, configFile, clock, log, genesis: false, committed: late.committed }),
    (opened) => opened.close(),
  );
  await signerUp(kernel, log);
  const pushers = starting.adopt(openPushers(config.publish, { clock, log }), (opened) => opened.close());
  const { watch, clients } = openWatch(kernel, late, log);
  const base: Base = { config, kernel, clock, log, metrics, pushers, watch };
  const publication = new Publication((path) => tileAt(kernel, path), clock, pushers.put);
  publishAuthorities(publication, kernel, clock);
  const publisher = starting.adopt(await crlPublishers(base, publication), (opened) => opened.close());
  await publisher.start();
  const revocations = revocationsOf(base, publisher, starting);
  const listen = drainingTogether(starting);
  const ocsp = openOcsp(base);
  const publicListener = await listen(
    listenHttp(publication.handler(log, metrics, ocsp.handler), config.publication.listen),
  );
  const adminSocket = statePaths(config.state).adminSocket;
  const verbs = operatorVerbs(base, publisher, { publication, ...revocations });
  await listen(listenUnix(adminApi(verbs, log, metrics), adminSocket));
  const lastWrite: LastWrite = { problem: undefined };
  const identity = new ServerIdentity(serverIdentityParts(config, kernel));
  const readiness = (): ReadinessCheck[] =>
    readinessOf({ ...kernel, publisher, identity, pushed: pushers.status }, lastWrite);
  const operations = await listen(
    listenHttp(operationsApi({ readiness, log, metrics }), config.operations.listen),
  );
  const admission = new Admission(config.enrollment.inFlightMax);
  await firstClockMark(kernel, lastWrite, log);
  const shown = await firstIdentity(identity, kernel, log);
  const enrollmentListener = await listen(
    listenTls(enrollment(base, { admission, ...revocations, publisher }), config.enrollment.listen, shown),
  );
  clients.follow(enrollmentListener.server);
  observe(base, publisher, admission);

  const stopping = new AbortController();
  const jobs = jobsOf(base, { publication, publisher, lastWrite, identity, enrollmentListener });
  const jwtKeys = jwtKeyJob({ ...base, publication });
  const running = Promise.all([...jobs, ...ocsp.jobs, jwtKeys].map((job) => job(stopping.signal)));
  publishCheckpoint(publication, kernel, clock);
  const opened = starting.move();
  return {
    ready: {
      event: 'ready',
      enrollmentUrl: withPort(config.enrollment.url, config.enrollment.listen.port, enrollmentListener.port),
      publicationUrl: withPort(config.publication.url, config.publication.listen.port, publicListener.port),
      operationsUrl: `http://${config.operations.listen.host}:${operations.port}`,
      adminSocket,
      pid: process.pid,
      signerPid: kernel.signer.status(kernel.issuers[0]?.keyId).pid ?? null,
    },
    close: async () => {
      stopping.abort();
      await Promise.all([running, watch.hub.close()]);
      await opened.disposeAsync();
    },
  };
}

/** Keeps listeners open until the end. All of them drain at once then, so that a slow one costs its time only. */
function drainingTogether(stack: AsyncDisposableStack): (opening: Promise<Listener>) => Promise<Listener> {
  const listeners: Listener[] = [];
  stack.defer(async () => void (await Promise.all(listeners.map((listener) => listener.close(drainMs)))));
  return async (opening) => {
    const listener = await opening;
    listeners.push(listener);
    return listener;
  };
}

/** What runs beside the requests. */
function jobsOf(
  { kernel, clock, log, watch }: Base,
  parts: {
    publication: Publication;
    publisher: CrlPublishers;
    lastWrite: LastWrite;
    identity: ServerIdentity;
    enrollmentListener: Listener;
  },
): Task[] {
  const failed = (error: unknown): void => log.error(errorFields(error), 'a job failed; it will run again');
  const renewIdentity = async (): Promise<void> => {
    // Each attempt is a leaf: none while the signer is away.
    if (!signs(kernel)) return;
    const renewed = await parts.identity.renewedWhenDue();
    if (renewed) replaceIdentity(parts.enrollmentListener, renewed);
  };
  return [
    every(second, () => keepClockMark(kernel, parts.lastWrite), failed),
    every(second, () => publishCheckpoint(parts.publication, kernel, clock), failed),
    every(10 * second, () => parts.publisher.publishDue(), failed),
    // It is asked also while nobody enrolls: an absence counts from when it is seen.
    every(second, () => void kernel.issuance.issuers.current(), failed),
    every(second, renewIdentity, failed),
    every(second / 4, () => watch.hub.tick(), failed),
  ];
}

/**
 * What the enrollment listener shows at first. Without any it is open all the same and refuses each handshake, so that
 * CRLs are served and the operator is heard; it shows one as soon as one can be issued.
 */
async function firstIdentity(
  identity: ServerIdentity,
  kernel: Kernel,
  log: Log,
): Promise<ShownIdentity | undefined> {
  const stored = identity.stored();
  if (!signs(kernel)) return stored;
  try {
    return (await identity.renewedWhenDue()) ?? stored;
  } catch (error) {
    const { code } = asVouchError(error);
    if (code !== 'policy-clock' && !code.startsWith('unavailable-')) throw error;
    log.error(errorFields(error), "the server's own certificate could not be renewed; it is tried again");
    return stored;
  }
}

function warnOfCoreDumps(log: Log): void {
  const problem = coreDumpsProblem();
  if (problem !== undefined) log.warn({}, problem);
}

/** Whether what is issued now can be signed now. */
function signs({ sequencer, issuance }: Kernel): boolean {
  const { keyId } = issuance.issuers.current();
  return issuance.issuers.mayIssue(keyId) && sequencer.signerAnswers(keyId);
}

/** What every part of the server is made from. */
interface Base {
  config: Config;
  kernel: Kernel;
  clock: Clock;
  log: Log;
  metrics: Metrics;
  pushers: Pushers;
  watch: Watch;
}

async function crlPublishers(
  { config, kernel, clock, log, metrics, watch }: Base,
  publication: Publication,
): Promise<CrlPublishers> {
  const base = publicationBase(config);
  const { store, issuers, issuance } = kernel;
  const { shardCount } = store.identity();
  const last = new LastCrls({ store, shardCount, issuers: issuance.issuers });
  const stored = await last.stored(issuers, base);
  for (const crl of stored) publication.put(crl.url.slice(base.length), crlDocument(crl));
  const going = issuers.filter(({ keyId }) => !stored.some(({ issuerKeyId }) => issuerKeyId === keyId));
  const publishers = going.map(
    (issuer) =>
      new CrlPublisher({
        ...kernel,
        issuer,
        clock,
        publicationUrl: base,
        shardCount,
        timing: { ...defaultCrlTiming, validitySeconds: config.crl.validity },
        publish: (crl, previous) => {
          publication.put(crl.url.slice(base.length), crlDocument(crl));
          watch.crlReleased(crl, previous);
        },
        alarm: (scope, problems) => {
          metrics.alarms.inc({ kind: 'crl' });
          const what = { issuer: issuer.keyId, scope, problems };
          log.error(what, 'a CRL was not published; the previous one stays served');
        },
      }),
  );
  return new CrlPublishers(publishers, { last, stored });
}

/** What was cut short goes on at once: who asks for the same then joins it. */
function revocationsOf(
  { kernel, log }: Base,
  publisher: CrlPublishers,
  starting: AsyncDisposableStack,
): { revocation: Revocation; massRevocations: MassRevocations } {
  const { shardCount } = kernel.store.identity();
  const revocation = new Revocation({ ...kernel, publisher, shardCount });
  const failed = (error: unknown): void =>
    log.error(errorFields(error), 'a mass revocation does not get on; it is tried again');
  const massRevocations = new MassRevocations({ ...kernel, revocation, failed });
  starting.defer(() => massRevocations.close());
  massRevocations.resume();
  return { revocation, massRevocations };
}

function operatorVerbs(
  base: Base,
  publisher: CrlPublishers,
  parts: { publication: Publication; revocation: Revocation; massRevocations: MassRevocations },
): OperatorVerbs {
  const { config, kernel, metrics } = base;
  const { sequencer, store } = kernel;
  const facts = {
    enrollmentUrl: config.enrollment.url,
    trustDomain: config.trustDomain,
    pin: kernel.rootPin,
    floor: () => ({
      statement: kernel.statement.sequence,
      bundle: kernel.bundle.sequence,
      treeSize: sequencer.checkpoint()?.treeSize ?? 0,
    }),
  };
  return new OperatorVerbs({
    ...kernel,
    publisher,
    metrics,
    renewNow: (target, leafIndex) => base.watch.renewNow(target, leafIndex),
    tokens: new Tokens({ ...kernel, facts }),
    workloadEntries: new WorkloadEntries(kernel, config.trustDomain),
    revocation: parts.revocation,
    massRevocations: parts.massRevocations,
    ...takingIn(kernel, parts.publication, base.watch, base.clock),
    backup: (file) => backupState(store, config.state, file),
    status: () =>
      statusView({
        ...kernel,
        trustDomain: config.trustDomain,
        publisher,
        pushed: base.pushers.status,
        hasStandby: config.standby !== undefined,
      }),
  });
}

function enrollment(
  { config, kernel, clock, log, metrics, watch: { hub } }: Base,
  {
    admission,
    revocation,
    publisher,
  }: { admission: Admission; revocation: Revocation; publisher: CrlPublishers },
) {
  const isCurrent = ({ keyId }: { keyId: string }): boolean => !publisher.hasEnded(keyId);
  const end = (unsigned: CertificateRecord): Promise<void> => revocation.endUnsigned(unsigned);
  const challenges = new Challenges();
  const {
    failuresPerMinute,
    inFlightMax,
    svidsAtOnce: atOnce,
    svidsPerLifetime: perLifetime,
  } = config.enrollment;
  const limits = new FailureLimits(failuresPerMinute);
  const attestors = [joinTokenAttestor(kernel.store)];
  const profiles = profilesOf(config);
  return enrollmentApi({
    ...kernel,
    ...{ clock, log, metrics, admission, limits, challenges, hub },
    agentEntries: new AgentEntries(kernel.store),
    jwtSvids: jwtSvidsOf(config, kernel),
    enrollment: new Enrollment({ ...kernel, attestors, challenges, clock, end, profiles }),
    svids: new Svids({ ...kernel, clock, profiles, limits: { atOnce, perLifetime } }),
    jwtTurns: jwtTurns(inFlightMax, clock),
    bundle: () => kernel.bundle,
    issuers: () => kernel.issuers.filter(isCurrent),
    crlUrls: () => kernel.crlUrls.filter((one) => one.keyId === kernel.rootKeyId || isCurrent(one)),
  });
}

function observe(
  { config, kernel, metrics, pushers, watch }: Base,
  publisher: CrlPublishers,
  admission: Admission,
): void {
  const standby = config.standby && kernel.issuers[1];
  metrics.observe({
    signer: () => kernel.signer.status(),
    standby: standby && {
      usable: () => (kernel.signer.status(standby.keyId).state === 'usable' ? 1 : 0),
      issuing: () => (kernel.issuance.issuers.current() === standby ? 1 : 0),
    },
    treeSize: () => kernel.tree.size,
    crls: () => publisher.current(),
    pushed: pushers.status,
    inFlight: () => admission.inFlight,
    streams: () => watch.hub.size,
    clockInDoubt: () => (kernel.clockGuard.doubt() === undefined ? 0 : 1),
  });
}

async function keepClockMark({ clockGuard, store }: Kernel, lastWrite: LastWrite): Promise<void> {
  const mark = clockGuard.nextMark();
  if (mark === undefined) return;
  try {
    await store.setClockMark(mark);
    lastWrite.problem = undefined;
  } catch (error) {
    lastWrite.problem = asVouchError(error).detail;
    throw error;
  }
}

/** Before anything is issued: no certificate is ever dated far ahead of the mark, and `vouch log verify` relies on that. */
async function firstClockMark(kernel: Kernel, lastWrite: LastWrite, log: Log): Promise<void> {
  await keepClockMark(kernel, lastWrite).catch((error: unknown) => {
    log.error(errorFields(error), 'the clock mark cannot be written; it is tried again');
  });
}

/** A URL as configured; with `--dev` and port 0 the port that was found. */
function withPort(url: string, configured: number, listening: number | undefined): string {
  if (configured !== 0 || listening === undefined) return url;
  const parsed = new URL(url);
  parsed.port = String(listening);
  return parsed.origin;
}
