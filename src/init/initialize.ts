import { randomBytes, randomInt } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { rootPin } from '../authority/bundle.ts';
import { logAhead, recordCeremony, recordIdentity } from '../ceremony/program/log.ts';
import { type Config, configText, type HsmConfig, loadHsmFile, statePaths } from '../config/config.ts';
import { systemClock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { checkedSettings, type InitSettings, isSameToken } from './settings.ts';
import {
  firstCheckpoint,
  type InitResult,
  shardCount,
  writeSignerAuthority,
  writeStandbyAuthority,
} from './state.ts';
import { logOriginOf } from '../log/origin.ts';
import { makeState } from './new-state.ts';
import type { RollbackMark } from '../signer/authority-file.ts';
import { type CeremonyKeyTypes, type CeremonyResult, runCeremony } from '../signer/ceremony.ts';
import { createSqliteStore } from '../store/sqlite/store.ts';
import type { Log } from '../telemetry/log.ts';

/** What `vouch init` on one machine is told. */
export interface InitOptions extends InitSettings {
  rootHsmFile: string;
}

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
  const hsm = loadHsmFile(options.hsmFile);
  const rootHsm = loadHsmFile(options.rootHsmFile);
  if (isSameToken(hsm, rootHsm))
    throw new VouchError(
      'usage-invalid',
      '--hsm-file and --root-hsm-file must name two tokens: the root key is for ceremonies only',
    );
  const { state, rollbackMark, document, config } = await checkedSettings(options);
  if (config.standby && isSameToken(config.standby.hsm, rootHsm))
    throw new VouchError(
      'usage-invalid',
      '--standby-hsm-file and --root-hsm-file must name two tokens: the root key is for ceremonies only',
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
      ...(ceremony.standby ? { standbyIssuerKeyId: ceremony.standby.issuer.keyId } : {}),
      enrollmentUrl: config.enrollment.url,
      publicationUrl: config.publication.url,
      treeSize,
    };
  });
}

/** Signs nothing that is not in the log before: each TBS is committed as the ceremony asks for its signature (I1). */
async function holdCeremony(
  working: string,
  { trustDomain, state, hsm, standby, publication }: Config,
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
      standbyHsm: standby?.hsm,
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
    const common = { trustDomain, logOrigin, rollbackMark };
    writeSignerAuthority(working, { ...ceremony, ...common, other: ceremony.standby });
    if (ceremony.standby) writeStandbyAuthority(working, { ...ceremony.standby, ...common, other: ceremony });
    return ceremony;
  } finally {
    await store.close();
  }
}
