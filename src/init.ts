import { randomBytes, randomInt } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { rootPin } from './authority/bundle.ts';
import { ServerIdentity } from './authority/server-identity.ts';
import { logAhead, recordCeremony } from './ceremony-log.ts';
import {
  type Config,
  configText,
  type HsmConfig,
  loadConfig,
  loadHsmFile,
  statePaths,
} from './config/config.ts';
import { systemClock } from './core/clock.ts';
import { VouchError } from './core/errors.ts';
import { parseTrustDomain, type TrustDomain } from './core/spiffe-id.ts';
import { freePort } from './http/free-port.ts';
import { openKernel, serverIdentityParts } from './kernel.ts';
import { logOriginOf } from './log/origin.ts';
import { defaultProfile } from './issuance/profile.ts';
import { encodeAuthority, type SignerAuthority } from './signer/authority-file.ts';
import { type CeremonyResult, runCeremony } from './signer/ceremony.ts';
import { syncTree } from './state.ts';
import { createSqliteStore } from './store/sqlite/store.ts';
import { syncPath } from './store/sqlite/backup.ts';
import type { Log } from './telemetry/log.ts';

/** What `vouch init` is told. */
export interface InitOptions {
  state: string;
  trustDomain: string;
  hsmFile: string;
  rootHsmFile: string;
  dev: boolean;
  enrollmentUrl: string | undefined;
  publicationUrl: string | undefined;
  enrollmentListen: string | undefined;
  publicationListen: string | undefined;
  operationsListen: string | undefined;
  /** The issuer may only certify names of this trust domain (RFC 5280 §4.2.1.10). */
  nameConstraints: boolean;
  /** `token`, or `file:PATH` where the token takes no data objects. */
  rollbackMark: string;
}

/** What it made. */
export interface InitResult {
  state: string;
  config: string;
  trustDomain: TrustDomain;
  rootPin: string;
  rootKeyId: string;
  issuerKeyId: string;
  enrollmentUrl: string;
  publicationUrl: string;
  treeSize: number;
}

const shardCount = 16;
/** How far server and signer, on two clocks, may be apart. */
const signerClockSlackSeconds = 60;

/**
 * Makes a trust domain: keys in two tokens, root, issuer, statement, log and first checkpoint. Everything is made in a
 * folder beside the state's and renamed at the end, so that a crash leaves no half state; keys of a crashed attempt
 * stay in the tokens unused. Throws `config-state` where the state exists (I10).
 */
export async function initialize(
  options: InitOptions,
  log: Log,
  step: (text: string) => void,
): Promise<InitResult> {
  const trustDomain = parseTrustDomain(options.trustDomain);
  if (options.nameConstraints && isIpLike(trustDomain))
    throw new VouchError(
      'usage-invalid',
      '--name-constraints needs a trust domain that is a DNS name, not an address',
    );
  const state = path.resolve(options.state);
  refuseExisting(state);
  const hsm = loadHsmFile(options.hsmFile);
  const rootHsm = loadHsmFile(options.rootHsmFile);
  if (hsm.tokenSerial === rootHsm.tokenSerial && hsm.module === rootHsm.module)
    throw new VouchError(
      'usage-invalid',
      '--hsm-file and --root-hsm-file must name two tokens: the root key is for ceremonies only',
    );
  const draft = await configDraft(options, trustDomain, state, hsm);

  const working = `${state}.init-${process.pid}`;
  makeFolder(working);
  try {
    writeFileSync(path.join(working, 'vouch.yaml'), configText({ ...draft, state: working }), {
      mode: 0o600,
    });
    step('keys, root and issuer');
    const ceremony = await holdCeremony(working, draft, options, rootHsm, log);
    step('log, first checkpoint and server certificate');
    const treeSize = await firstCheckpoint(path.join(working, 'vouch.yaml'), log);
    writeFileSync(path.join(working, 'vouch.yaml'), configText(draft), { mode: 0o600 });
    syncTree(working);
    renameSync(working, state);
    syncPath(path.dirname(state));
    return {
      state,
      config: statePaths(state).config,
      trustDomain,
      rootPin: rootPin(ceremony.root.certificateDer),
      rootKeyId: ceremony.root.keyId,
      issuerKeyId: ceremony.issuer.keyId,
      enrollmentUrl: draft.enrollment.url,
      publicationUrl: draft.publication.url,
      treeSize,
    };
  } catch (error) {
    rmSync(working, { recursive: true, force: true });
    throw error;
  }
}

/** URI name constraints match host names; an address as host never matches (RFC 5280 §4.2.1.10). */
function isIpLike(trustDomain: TrustDomain): boolean {
  return /^[0-9.]+$/.test(trustDomain);
}

function refuseExisting(state: string): void {
  if (!existsSync(state)) return;
  if (readdirSync(state).length > 0)
    throw new VouchError(
      'config-state',
      `${state} is not empty; \`vouch init\` runs once. Start it with \`vouch server --config ${statePaths(state).config}\``,
    );
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new VouchError(
      'config-state',
      `cannot make ${folder} (${code}): the folder above it must exist and be writable`,
      { cause },
    );
  }
}

type ConfigDraft = Awaited<ReturnType<typeof configDraft>>;

/** The configuration to write: what was asked for, with ports found where 0 was asked. */
async function configDraft(options: InitOptions, trustDomain: TrustDomain, state: string, hsm: HsmConfig) {
  if (!options.dev && (options.enrollmentUrl === undefined || options.publicationUrl === undefined))
    throw new VouchError(
      'usage-invalid',
      'give --enrollment-url and --publication-url: their hosts are what agents dial and what stands in every certificate (or --dev for loopback)',
    );
  const listens = {
    enrollment: await withFreePort(options.enrollmentListen ?? '127.0.0.1:8443'),
    publication: await withFreePort(options.publicationListen ?? '127.0.0.1:8180'),
    operations: await withFreePort(options.operationsListen ?? '127.0.0.1:9180'),
  };
  return {
    trustDomain,
    state,
    hsm,
    enrollment: { listen: listens.enrollment, url: options.enrollmentUrl ?? `https://${listens.enrollment}` },
    publication: {
      listen: listens.publication,
      url: (options.publicationUrl ?? `http://${listens.publication}`).replace(/\/+$/, ''),
    },
    operations: { listen: listens.operations },
  };
}

async function withFreePort(listen: string): Promise<string> {
  const at = listen.lastIndexOf(':');
  if (listen.slice(at + 1) !== '0') return listen;
  const host = listen.slice(0, at);
  return `${host}:${await freePort(host.replace(/^\[|\]$/g, ''))}`;
}

/** Signs nothing that is not in the log before: each TBS is committed as the ceremony asks for its signature (I1). */
async function holdCeremony(
  working: string,
  draft: ConfigDraft,
  options: InitOptions,
  rootHsm: HsmConfig,
  log: Log,
): Promise<CeremonyResult> {
  const paths = statePaths(working);
  const { trustDomain, hsm } = draft;
  const serialPrefix = randomInt(0x01, 0x80);
  const logOrigin = logOriginOf(trustDomain, 1);
  const identity = {
    stateId: randomBytes(16).toString('hex'),
    trustDomain,
    logOrigin,
    serialPrefix,
    shardCount,
    createdAtMs: systemClock.now(),
  };
  const store = createSqliteStore(paths.database, identity);
  try {
    const leaf = recordLeaf('authority', identity.createdAtMs, { event: 'initialized', ...identity });
    await commitAll(store, [{ kind: 'operator', leaf }]);
    const ceremony = await runCeremony({
      entry: process.argv[1] ?? '',
      hsm,
      rootHsm,
      refusedPrefix: `${draft.state}.`,
      trustDomain,
      logOrigin,
      publicationUrl: draft.publication.url,
      clock: systemClock,
      serialPrefix,
      nameConstraints: options.nameConstraints ? { permittedUriDomains: [trustDomain] } : undefined,
      log: (level, message, fields) => log[level](fields ?? {}, message),
      logAhead: (record) => logAhead(store, record),
    });
    await recordCeremony(store, ceremony);
    mkdirSync(paths.signer, { mode: 0o700 });
    writeFileSync(
      paths.authority,
      encodeAuthority(signerAuthority(ceremony, draft, logOrigin, options.rollbackMark)),
      { mode: 0o600 },
    );
    return ceremony;
  } finally {
    await store.close();
  }
}

/** What the signer may do, which it reads from its own file and never from the server. */
function signerAuthority(
  ceremony: CeremonyResult,
  { trustDomain }: ConfigDraft,
  logOrigin: string,
  rollbackMark: string,
): SignerAuthority {
  const { keyId, ckaId, algorithm, certificateDer } = ceremony.issuer;
  return {
    trustDomain,
    logOrigin,
    logKey: ceremony.logKey,
    issuers: [{ keyId, ckaId, algorithm, certificateDer }],
    limits: {
      maxCertificateSeconds: defaultProfile.maxLifetimeSeconds,
      backdateSeconds: defaultProfile.backdateSeconds + signerClockSlackSeconds,
      maxCrlSeconds: 10 * 24 * 3600,
      maxFutureSeconds: signerClockSlackSeconds,
    },
    rollbackMark:
      rollbackMark === 'token' ? 'token' : { file: path.resolve(rollbackMark.slice('file:'.length)) },
  };
}

/** Starts the signer once, which begins its floor and guard, and leaves the first checkpoint in the store. */
async function firstCheckpoint(configFile: string, log: Log): Promise<number> {
  const config: Config = loadConfig(configFile);
  const kernel = await openKernel({ config, configFile, clock: systemClock, log, genesis: true });
  try {
    await kernel.ready;
    await new ServerIdentity(serverIdentityParts(config, kernel)).renewedWhenDue();
    return kernel.store.treeSize();
  } finally {
    await kernel.close();
  }
}
