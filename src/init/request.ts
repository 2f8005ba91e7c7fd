import { randomBytes, randomInt } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { encodeRequest, logKeyProofText, parseRequest } from '../ceremony/request.ts';
import { configText, statePaths } from '../config/config.ts';
import { rfc3339, systemClock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { type CheckedSettings, checkedSettings, type InitSettings } from './settings.ts';
import { shardCount } from './state.ts';
import { publicationBase } from '../kernel.ts';
import { logOriginOf } from '../log/origin.ts';
import { makeState } from './new-state.ts';
import { encodePending, isPending, readPending } from './pending-state.ts';
import { createRequestKeys, type RequestKeys } from '../signer/ceremony.ts';
import type { StateIdentity } from '../store/records.ts';
import type { Log } from '../telemetry/log.ts';
import { type CeremonyRequestJson, requestIssuersMost } from '../wire/ceremony.ts';
import { encodePem } from '../x509/pem.ts';

/** What `vouch init --issuer-csr-out` is told. */
export interface RequestOptions extends InitSettings {
  requestFile: string;
  /** Issuers to be certified for later, besides the one that is to sign now. */
  nextIssuers: number;
}

/** What it made. */
export interface RequestResult {
  state: string;
  request: string;
  /** What is compared by eye on the machine of the root. */
  sha256: string;
  trustDomain: string;
  issuerKeyIds: string[];
  /** False where the state waited already, and the same request was written again. */
  made: boolean;
}

/**
 * Makes issuer keys and log key in the online token, writes the request that the ceremony takes, and leaves a state that
 * waits for its result. Where it waits already, the same request is written again. Throws `usage-invalid` before a key
 * is made, `config-state` where there is a state.
 */
export async function requestCeremony(options: RequestOptions, log: Log): Promise<RequestResult> {
  const requestFile = path.resolve(options.requestFile);
  const state = path.resolve(options.state);
  if (isPending(state)) return again(state, requestFile, options.trustDomain);
  if (options.nextIssuers > requestIssuersMost - 1)
    throw new VouchError('usage-invalid', `--next-issuers takes ${requestIssuersMost - 1} at most`);
  if (existsSync(requestFile))
    throw new VouchError('usage-invalid', `${requestFile} exists: name a new file for the request`);
  const settings = await checkedSettings(options);
  const identity: StateIdentity = {
    stateId: randomBytes(16).toString('hex'),
    trustDomain: settings.config.trustDomain,
    logOrigin: logOriginOf(settings.config.trustDomain, 1),
    serialPrefix: randomInt(0x01, 0x80),
    shardCount,
    createdAtMs: systemClock.now(),
  };
  const requestText = await makeState(state, async (working) => {
    const { text, keys } = await makeRequest(identity, settings, options, log);
    const paths = statePaths(working);
    const { rollbackMark, document } = settings;
    const pending = { identity, keys, logKey: keys.logKey, rollbackMark, requestText: text };
    writeFileSync(paths.config, configText(document), { mode: 0o600 });
    writeFileSync(paths.pending, encodePending(pending), { mode: 0o600 });
    return text;
  });
  return written(state, requestFile, requestText, true);
}

async function makeRequest(
  identity: StateIdentity,
  { state, hsm, config }: CheckedSettings,
  { keyTypes, nextIssuers, nameConstraints }: RequestOptions,
  log: Log,
): Promise<{ text: string; keys: RequestKeys }> {
  const { trustDomain } = identity;
  const requestOf = ({ issuers, logKey }: RequestKeys, proof: string): CeremonyRequestJson => ({
    version: 1,
    kind: 'vouch-ceremony-request',
    stateId: identity.stateId,
    createdAt: rfc3339(identity.createdAtMs),
    trustDomain,
    publicationUrl: publicationBase(config),
    serialPrefix: identity.serialPrefix,
    permittedUriDomains: nameConstraints ? [trustDomain] : [],
    logOrigin: identity.logOrigin,
    issuers: issuers.map(({ csrDer }) => ({ csr: encodePem('CERTIFICATE REQUEST', csrDer) })),
    logKeys: [{ algorithm: logKey.algorithm, publicKeySpki: logKey.publicKeySpki.toString('base64'), proof }],
  });
  const { proof, ...keys } = await createRequestKeys({
    ...{ entry: process.argv[1] ?? '', hsm, trustDomain, keyTypes },
    refusedPrefix: `${state}.`,
    log: (level, message, fields) => log[level](fields ?? {}, message),
    issuerCount: 1 + nextIssuers,
    proofText: (made) => logKeyProofText(requestOf(made, '')),
  });
  const text = encodeRequest(requestOf(keys, proof.toString('base64')));
  parseRequest(text); // what the ceremony refuses is not written
  return { text, keys };
}

/** A second request would be another one: the one that is waited for is written again. */
function again(state: string, requestFile: string, trustDomain: string): RequestResult {
  const pending = readPending(state);
  if (pending.request.trustDomain !== trustDomain)
    throw new VouchError(
      'config-state',
      `${state} waits for the ceremony of ${pending.request.trustDomain}: use another state directory for ${trustDomain}`,
    );
  return written(state, requestFile, pending.requestText, false);
}

function written(state: string, requestFile: string, text: string, made: boolean): RequestResult {
  const { sha256, trustDomain, issuers } = parseRequest(text);
  writeNew(requestFile, text);
  const issuerKeyIds = issuers.map(({ keyId }) => keyId);
  return { state, request: requestFile, sha256, trustDomain, issuerKeyIds, made };
}

/** Nothing in it is secret. A file that says the same already is left alone, another one is never replaced. */
function writeNew(file: string, text: string): void {
  if (existsSync(file) && readFileSync(file, 'utf8') === text) return;
  try {
    const opened = openSync(file, 'wx', 0o644);
    writeFileSync(opened, text);
    fsyncSync(opened);
    closeSync(opened);
  } catch (cause) {
    throw new VouchError(
      'usage-invalid',
      `cannot write the request to ${file}: name a new file; the same command then writes the same request again`,
      { cause },
    );
  }
}
