import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';
import { type Config, type HsmConfig, loadHsmFile, parseConfig } from '../config/config.ts';
import { VouchError } from '../core/errors.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import { freePort } from '../http/free-port.ts';
import type { RollbackMark } from '../signer/authority-file.ts';
import type { CeremonyKeyTypes } from '../signer/ceremony.ts';

/** What every `vouch init` that makes keys is told. */
export interface InitSettings {
  state: string;
  trustDomain: string;
  hsmFile: string;
  /** A second online token, whose issuer takes over while the first one's stays away. */
  standbyHsmFile: string | undefined;
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
  /** A key that answers OCSP is made beside each issuer's, and the configuration says that it does. */
  ocsp: boolean;
}

/** Settings that were checked. */
export interface CheckedSettings {
  /** Absolute. */
  state: string;
  hsm: HsmConfig;
  rollbackMark: RollbackMark;
  /** The configuration to write, and as it is read. */
  document: object;
  config: Config;
}

/** Finds what is wrong with a flag before a key is made. Throws `usage-invalid`, `config-invalid`. */
export async function checkedSettings(options: InitSettings): Promise<CheckedSettings> {
  const state = path.resolve(options.state);
  const hsm = loadHsmFile(options.hsmFile);
  const standbyHsm = options.standbyHsmFile === undefined ? undefined : loadHsmFile(options.standbyHsmFile);
  if (standbyHsm && isSameToken(standbyHsm, hsm))
    throw new VouchError(
      'usage-invalid',
      '--standby-hsm-file must name another token than --hsm-file: it is for when that is away',
    );
  const rollbackMark = rollbackMarkOf(options.rollbackMark);
  const document = await configDocument(options, state, hsm, standbyHsm);
  const config = validated(document);
  if (options.nameConstraints && isIpLike(config.trustDomain))
    throw new VouchError(
      'usage-invalid',
      '--name-constraints needs a trust domain that is a DNS name, not an address',
    );
  return { state, hsm, rollbackMark, document, config };
}

/** Some modules give all of their tokens one serial. */
export function isSameToken(a: HsmConfig, b: HsmConfig): boolean {
  return (['module', 'tokenLabel', 'tokenSerial'] as const).every((part) => a[part] === b[part]);
}

/** URI name constraints match host names; an address as host never matches (RFC 5280 §4.2.1.10). */
function isIpLike(trustDomain: TrustDomain): boolean {
  return /^[0-9.]+$/.test(trustDomain);
}

/** The configuration to write: what was asked for, with ports found where 0 was asked. */
async function configDocument(
  options: InitSettings,
  state: string,
  hsm: HsmConfig,
  standbyHsm: HsmConfig | undefined,
) {
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
    ...(standbyHsm ? { standby: { hsm: standbyHsm } } : {}),
    enrollment: { listen: listens.enrollment, url: options.enrollmentUrl ?? `https://${listens.enrollment}` },
    publication: {
      listen: listens.publication,
      url: (options.publicationUrl ?? `http://${listens.publication}`).replace(/\/+$/, ''),
    },
    operations: { listen: listens.operations },
    ...(options.ocsp ? { ocsp: { enabled: true } } : {}),
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
