import { hash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type VerifiedResult, verifyFirstResult } from '../ceremony/result.ts';
import { recordIdentity } from '../ceremony/program/log.ts';
import { readResult } from '../ceremony/files.ts';
import { recordFirstResult } from '../ceremony/program/record.ts';
import { configText, loadConfig, statePaths } from '../config/config.ts';
import { parseDocument } from '../config/document.ts';
import { systemClock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { firstCheckpoint, type InitResult, writeSignerAuthority } from './state.ts';
import { completeState, type UnfinishedState } from './new-state.ts';
import { type PendingState, readPending } from './pending-state.ts';
import { commitAll } from '../store/commit.ts';
import { createSqliteStore } from '../store/sqlite/store.ts';
import type { Log } from '../telemetry/log.ts';

/** What `vouch init --ceremony-in` is told. */
export interface CompletionOptions {
  state: string;
  /** Folder that the ceremony made. */
  ceremonyIn: string;
  /** `sha256:` and hex, as the ceremony printed it; undefined: `complete` is called once somebody has compared it. */
  rootPin: string | undefined;
}

/** A result that was verified and not taken in yet. */
export interface Completion {
  rootPin: string;
  operators: string[];
  signedAt: string;
  complete(log: Log, step: (text: string) => void): Promise<InitResult & { nextIssuerKeyIds: string[] }>;
}

/**
 * Verifies the result of a ceremony against the request that this state waits for; `complete` makes the state of it.
 * Throws `config-state` where the state does not wait, `integrity-…` or `policy-conflict` where the result is not its own.
 */
export function openCompletion(options: CompletionOptions): Completion {
  const state = path.resolve(options.state);
  const pending = readPending(state);
  const files = readResult(options.ceremonyIn);
  const result = verifyFirstResult(files, { request: pending.request, nowMs: systemClock.now() });
  const { pin } = result.root;
  if (options.rootPin !== undefined && options.rootPin !== pin)
    throw new VouchError(
      'integrity-signature',
      `the root of this result has the pin ${pin}, not ${options.rootPin}: it is not the ceremony that you attended`,
    );
  return {
    rootPin: pin,
    operators: result.transcript.operators,
    signedAt: result.transcript.finishedAt,
    complete: (log, step) =>
      completeState(state, (working) => fill({ state, working, pending, result, log, step })),
  };
}

interface Filling {
  state: string;
  working: UnfinishedState;
  pending: PendingState;
  result: VerifiedResult;
  log: Log;
  step: (text: string) => void;
}

async function fill(parts: Filling): Promise<InitResult & { nextIssuerKeyIds: string[] }> {
  const { state, working, pending, result, log, step } = parts;
  const { folder, begun, begin } = working;
  const configFile = statePaths(folder).config;
  const final = readFileSync(statePaths(state).config, 'utf8');
  const document = parseDocument(statePaths(state).config, 'it was written with the request') as object;
  writeFileSync(configFile, configText({ ...document, state: folder }), { mode: 0o600 });
  const transcriptSha256 = hash('sha256', result.transcriptBytes, 'hex');
  if (begun === undefined) {
    step('root, issuers and statement into the log');
    await record(folder, pending, result);
    begin(transcriptSha256);
  } else if (begun !== transcriptSha256) {
    throw new VouchError(
      'policy-conflict',
      `an earlier attempt began the log with another result (transcript ${begun}): give that one again`,
    );
  }
  step('first checkpoint and server certificate');
  const treeSize = await firstCheckpoint(configFile, log);
  writeFileSync(configFile, final, { mode: 0o600 });
  const config = loadConfig(configFile);
  const [issuer, ...next] = result.issuers.map(({ keyId }) => keyId);
  return {
    state,
    config: statePaths(state).config,
    trustDomain: pending.request.trustDomain,
    rootPin: result.root.pin,
    rootKeyId: result.root.keyId,
    issuerKeyId: issuer ?? '',
    nextIssuerKeyIds: next,
    enrollmentUrl: config.enrollment.url,
    publicationUrl: config.publication.url,
    treeSize,
  };
}

async function record(folder: string, pending: PendingState, result: VerifiedResult): Promise<void> {
  const { identity, issuers, logKey, rollbackMark } = pending;
  const store = createSqliteStore(statePaths(folder).database, identity);
  try {
    await recordIdentity(store, identity);
    const recorder = {
      ...{ store, nowMs: systemClock.now(), operator: `uid:${process.getuid?.() ?? 'unknown'}` },
      commit: (mutations: Parameters<typeof commitAll>[1]) => commitAll(store, mutations),
      storeSigned: (signed: Parameters<typeof store.storeSigned>[0]) => store.storeSigned(signed),
    };
    await recordFirstResult(recorder, result, issuers);
  } finally {
    await store.close();
  }
  const [key] = issuers;
  const [issuer] = result.issuers;
  if (!key || !issuer) throw new Error('a request has an issuer');
  writeSignerAuthority(folder, {
    ...{ trustDomain: identity.trustDomain, logOrigin: identity.logOrigin, logKey, rollbackMark },
    issuer: { ...issuer, ckaId: key.ckaId, algorithm: key.algorithm },
  });
}
