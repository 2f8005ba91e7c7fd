import { mkdirSync, writeFileSync } from 'node:fs';
import { recordJwtKeys } from '../authority/jwt-keys.ts';
import { ServerIdentity } from '../authority/server-identity.ts';
import { type Config, loadConfig, statePaths } from '../config/config.ts';
import { systemClock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import { defaultProfile } from '../issuance/profile.ts';
import { openKernel, serverIdentityParts } from '../kernel.ts';
import {
  encodeAuthority,
  type PublicLogKey,
  type RollbackMark,
  type SignerAuthority,
} from '../signer/authority-file.ts';
import type { CeremonyResult, CertifiedKey } from '../signer/ceremony.ts';
import { launch } from '../signer/launch.ts';
import type { Log } from '../telemetry/log.ts';

/** What `vouch init` made. */
export interface InitResult {
  state: string;
  config: string;
  trustDomain: TrustDomain;
  rootPin: string;
  rootKeyId: string;
  issuerKeyId: string;
  standbyIssuerKeyId?: string;
  enrollmentUrl: string;
  publicationUrl: string;
  treeSize: number;
}

/** Shards of an issuer's CRL; fixed for its life. */
export const shardCount = 16;
/** How far server and signer, on two clocks, may be apart. */
const signerClockSlackSeconds = 60;

/** What a signer's authority is made of. */
export interface AuthorityParts {
  trustDomain: TrustDomain;
  logOrigin: string;
  logKey: CeremonyResult['logKey'];
  issuer: CertifiedKey;
  /** Of another token, with a log key of its own. */
  other?: Pick<CeremonyResult, 'logKey'> | undefined;
  rollbackMark: RollbackMark;
}

/** Writes what the signer may do, which it reads from its own file and never from the server. */
export function writeSignerAuthority(working: string, parts: AuthorityParts): void {
  const paths = statePaths(working);
  mkdirSync(paths.signer, { recursive: true, mode: 0o700 });
  writeFileSync(paths.authority, encodeAuthority(signerAuthority(parts)), { mode: 0o600 });
}

/** The same for the standby's signer. Two processes do not write one rollback mark. */
export function writeStandbyAuthority(working: string, parts: AuthorityParts): void {
  const { standbySigner, standbyAuthority } = statePaths(working);
  const mark = parts.rollbackMark;
  const rollbackMark = mark === 'token' ? mark : { file: `${mark.file}.standby` };
  mkdirSync(standbySigner, { recursive: true, mode: 0o700 });
  writeFileSync(standbyAuthority, encodeAuthority(signerAuthority({ ...parts, rollbackMark })), {
    mode: 0o600,
  });
}

function signerAuthority(parts: AuthorityParts): SignerAuthority {
  const { trustDomain, logOrigin, logKey, other, rollbackMark } = parts;
  const { keyId, ckaId, algorithm, certificateDer } = parts.issuer;
  return {
    trustDomain,
    logOrigin,
    logKey,
    ...(other ? { otherLogKeys: [publicHalf(other.logKey)] } : {}),
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

function publicHalf({ algorithm, publicKeySpki }: CeremonyResult['logKey']): PublicLogKey {
  return { algorithm, publicKeySpki };
}

/** In each token, by the program that opens it. Names the tokens that make none. */
async function makeOwnKeys(
  which: 'make-ocsp-key' | 'make-jwt-key',
  { hsm, standby }: Config,
  configFile: string,
  log: Log,
): Promise<string[]> {
  const tokens = [{ hsm, flags: [] }, ...(standby ? [{ hsm: standby.hsm, flags: ['--standby'] }] : [])];
  const without: string[] = [];
  for (const { hsm: token, flags } of tokens) {
    const args = ['signer', '--config', configFile, `--${which}`, ...flags];
    const program = { entry: process.argv[1] ?? '', args, environment: token.environment };
    const made = launch(program, (level, message, fields) => log[level](fields ?? {}, message));
    const exit = await made.exited;
    if (exit?.code !== 0) without.push(token.tokenLabel);
  }
  return without;
}

/** OCSP was asked for; without a key for JWT-SVIDs, as of a token that makes no P-256, everything else works. */
async function makeKeys(config: Config, configFile: string, log: Log): Promise<void> {
  const [unanswering] = config.ocsp.enabled
    ? await makeOwnKeys('make-ocsp-key', config, configFile, log)
    : [];
  if (unanswering !== undefined)
    throw new VouchError('config-hsm', `no key for OCSP could be made in the token ${unanswering}`);
  for (const token of await makeOwnKeys('make-jwt-key', config, configFile, log))
    log.warn({ token }, 'it got no key for JWT-SVIDs: `vouch signer --make-jwt-key` makes it later');
}

/** Starts each signer once, which begins its floor and guard, and leaves the first checkpoint in the store. */
export async function firstCheckpoint(configFile: string, log: Log): Promise<number> {
  const config: Config = loadConfig(configFile);
  await makeKeys(config, configFile, log);
  const kernel = await openKernel({ config, configFile, clock: systemClock, log, genesis: true });
  try {
    await kernel.allReady();
    await recordJwtKeys(kernel);
    await new ServerIdentity(serverIdentityParts(config, kernel)).renewedWhenDue();
    return kernel.store.treeSize();
  } finally {
    await kernel.close();
  }
}
