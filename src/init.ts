import { randomBytes, randomInt } from 'node:crypto';
import { accessSync, constants, mkdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { rootPin } from './authority/bundle.ts';
import { ServerIdentity } from './authority/server-identity.ts';
import { logAhead, recordCeremony, recordIdentity } from './ceremony-log.ts';
import {
  type Config,
  configText,
  type HsmConfig,
  loadConfig,
  loadHsmFile,
  parseConfig,
  statePaths,
} from './config/config.ts';
import { systemClock } from './core/clock.ts';
import { VouchError } from './core/errors.ts';
import type { TrustDomain } from './core/spiffe-id.ts';
import { freePort } from './http/free-port.ts';
import { openKernel, serverIdentityParts } from './kernel.ts';
import { logOriginOf } from './log/origin.ts';
import { makeState } from './new-state.ts';
import { defaultProfile } from './issuance/profile.ts';
import { encodeAuthority, type RollbackMark, type SignerAuthority } from './signer/authority-file.ts';
import { type CeremonyKeyTypes, type CeremonyResult, runCeremony } from './signer/ceremony.ts';
import { createSqliteStore } from './store/sqlite/store.ts';
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
  keyTypes: CeremonyKeyTypes;
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
 * Makes a trust domain: keys in two tokens, root, issuer, statement, log and first checkpoint. What can be wrong with a
 * flag is found before a key is made (`usage-invalid`); keys of a crashed attempt stay in the tokens unused. Throws
 * `config-state` where the state exists (I10).
 */
export async function initialize(
  options: InitOptions,
  log: Log,
  step: (text: string) => void,
): Promise<InitResult> {
  const state = path.resolve(options.state);
  const hsm = loadHsmFile(options.hsmFile);
  const rootHsm = loadHsmFile(options.rootHsmFile);
  const parts = ['module', 'tokenLabel', 'tokenSerial'] as const;
  // Some modules give all of their tokens one serial.
  if (parts.every((part) => hsm[part] === rootHsm[part]))
    throw new VouchError(
      'usage-invalid',
      '--hsm-file and --root-hsm-file must name two tokens: the root key is for ceremonies only',
    );
  const rollbackMark = rollbackMarkOf(options.rollbackMark);
  const document = await configDocument(options, state, hsm);
  const config = validated(document);
  if (options.nameConstraints && isIpLike(config.trustDomain))
    throw new VouchError(
      'usage-invalid',
      '--name-constraints needs a trust domain that is a DNS name, not an address',
    );

  return makeState(state, async (working) => {
    const configFile = statePaths(working).config;
    const write = (text: string): void => writeFileSync(configFile, text, { mode: 0o600 });
    write(configText({ ...document, state: working }));
    step('keys, root and issuer');
    const { nameConstraints, keyTypes } = options;
    const parts = { rootHsm, nameConstraints, keyTypes, rollbackMark, log };
    const ceremony = await holdCeremony(working, config, parts);
    step('log, first checkpoint and server certificate');
    const treeSize = await firstCheckpoint(configFile, log);
    write(configText(document));
    return {
      state,
      config: statePaths(state).config,
      trustDomain: config.trustDomain,
      rootPin: rootPin(ceremony.root.certificateDer),
      rootKeyId: ceremony.root.keyId,
      issuerKeyId: ceremony.issuer.keyId,
      enrollmentUrl: config.enrollment.url,
      publicationUrl: config.publication.url,
      treeSize,
    };
  });
}

/** URI name constraints match host names; an address as host never matches (RFC 5280 §4.2.1.10). */
function isIpLike(trustDomain: TrustDomain): boolean {
  return /^[0-9.]+$/.test(trustDomain);
}

/** The configuration to write: what was asked for, with ports found where 0 was asked. */
async function configDocument(options: InitOptions, state: string, hsm: HsmConfig) {
  if (!options.dev && (options.enrollmentUrl === undefined || options.publicationUrl === undefined))
    throw new VouchError(
      'usage-invalid',
      'give --enrollment-url and --publication-url: their hosts are what agents dial and what stands in every certificate (or --dev for loopback)',
    );
  const listens = {
    enrollment: await withFreePort('--enrollment-listen', options.enrollmentListen ?? '127.0.0.1:8443'),
    publication: await withFreePort('--publication-listen', options.publicationListen ?? '127.0.0.1:8180'),
    operations: await withFreePort('--operations-listen', options.operationsListen ?? '127.0.0.1:9180'),
  };
  return {
    trustDomain: options.trustDomain,
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

/** Before a key is made: each key of the configuration that can be wrong here came by the flag of its name. */
function validated(document: object): Config {
  const result = parseConfig(document);
  if (!Array.isArray(result)) return result;
  const flagOf = (key: string): string =>
    key.replaceAll('.', '-').replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const problems = result.map(({ path: key, problem }) => `--${flagOf(key)} ${problem}`);
  throw new VouchError('usage-invalid', problems.join('; '));
}

async function withFreePort(flag: string, listen: string): Promise<string> {
  const host = /^(.+):0$/.exec(listen)?.[1];
  if (host === undefined) return listen;
  try {
    return `${host}:${await freePort(host.replace(/^\[|\]$/g, ''))}`;
  } catch (cause) {
    throw new VouchError('usage-invalid', `${flag}: cannot listen on ${host}`, { cause });
  }
}

/** Where the signer will keep its second mark. Its first is written after the ceremony: too late to find that it cannot be. */
function rollbackMarkOf(text: string): RollbackMark {
  if (text === 'token') return 'token';
  const refused = (why: string): VouchError => new VouchError('usage-invalid', `--rollback-mark ${why}`);
  if (!/^file:./.test(text)) throw refused('takes token or file:PATH');
  const file = path.resolve(text.slice('file:'.length));
  if (statSync(file, { throwIfNoEntry: false })?.isFile() === false) throw refused(`${file} is no file`);
  try {
    accessSync(`${path.dirname(file)}/`, constants.W_OK | constants.X_OK);
  } catch {
    throw refused(`${path.dirname(file)} must be a folder that can be written`);
  }
  return { file };
}

/** Signs nothing that is not in the log before: each TBS is committed as the ceremony asks for its signature (I1). */
async function holdCeremony(
  working: string,
  { trustDomain, state, hsm, publication }: Config,
  parts: {
    rootHsm: HsmConfig;
    nameConstraints: boolean;
    keyTypes: CeremonyKeyTypes;
    rollbackMark: RollbackMark;
    log: Log;
  },
): Promise<CeremonyResult> {
  const { rootHsm, nameConstraints, keyTypes, rollbackMark, log } = parts;
  const paths = statePaths(working);
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
    await recordIdentity(store, identity);
    const ceremony = await runCeremony({
      entry: process.argv[1] ?? '',
      hsm,
      rootHsm,
      refusedPrefix: `${state}.`,
      trustDomain,
      logOrigin,
      publicationUrl: publication.url,
      clock: systemClock,
      serialPrefix,
      keyTypes,
      nameConstraints: nameConstraints ? { permittedUriDomains: [trustDomain] } : undefined,
      log: (level, message, fields) => log[level](fields ?? {}, message),
      logAhead: (record) => logAhead(store, record),
    });
    await recordCeremony(store, ceremony);
    mkdirSync(paths.signer, { mode: 0o700 });
    const authority = signerAuthority(ceremony, trustDomain, logOrigin, rollbackMark);
    writeFileSync(paths.authority, encodeAuthority(authority), { mode: 0o600 });
    return ceremony;
  } finally {
    await store.close();
  }
}

/** What the signer may do, which it reads from its own file and never from the server. */
function signerAuthority(
  ceremony: CeremonyResult,
  trustDomain: TrustDomain,
  logOrigin: string,
  rollbackMark: RollbackMark,
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
    rollbackMark,
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
