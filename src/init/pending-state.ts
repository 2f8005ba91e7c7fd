import { existsSync, readFileSync } from 'node:fs';
import { canonicalJson } from '../core/canonical-json.ts';
import { VouchError } from '../core/errors.ts';
import { type CeremonyRequest, parseRequest } from '../ceremony/request.ts';
import { statePaths } from '../config/config.ts';
import type { HsmKey } from '../signer/hsm.ts';
import type { RollbackMark } from '../signer/authority-file.ts';
import type { CeremonyResult, RequestKeys } from '../signer/ceremony.ts';
import type { StateIdentity } from '../store/records.ts';

/** A state whose keys are made and that waits for what the root signs; `<state>/pending.json`. */
export interface PendingState {
  identity: StateIdentity;
  /** In the order of the request: the first one is to sign now. */
  issuers: HsmKey[];
  logKey: CeremonyResult['logKey'];
  rollbackMark: RollbackMark;
  /** The request's text, so that it can be written again. */
  requestText: string;
  request: CeremonyRequest;
}

/** The file's text. */
export function encodePending(
  pending: Omit<PendingState, 'request' | 'issuers'> & { keys: RequestKeys },
): string {
  const { identity, keys, logKey, rollbackMark, requestText } = pending;
  const inText = (key: { publicKeySpki: Buffer }) => ({
    publicKeySpki: key.publicKeySpki.toString('base64'),
  });
  return `${canonicalJson({
    version: 1,
    identity: { ...identity },
    issuers: keys.issuers.map(({ key }) => ({ ...key, ...inText(key) })),
    logKey: { ...logKey, ...inText(logKey) },
    rollbackMark,
    request: requestText,
  })}\n`;
}

/** True where the state waits for its ceremony. */
export function isPending(state: string): boolean {
  const { pending, database } = statePaths(state);
  return existsSync(pending) && !existsSync(database);
}

/** Throws `config-state`, saying what is waited for, where the state waits for its ceremony (I10). */
export function refusePending(state: string): void {
  if (!isPending(state)) return;
  const { request } = readPending(state);
  throw new VouchError(
    'config-state',
    `${state} waits for its ceremony: take the result of the request with SHA-256 ${request.sha256} in with \`vouch init --state ${state} --ceremony-in FOLDER\``,
  );
}

/** Reads it. Throws `config-state` where the state does not wait or the file is damaged. */
export function readPending(state: string): PendingState {
  if (!isPending(state))
    throw new VouchError(
      'config-state',
      `${state} does not wait for a ceremony; \`vouch init --issuer-csr-out\` makes the request that one begins with`,
    );
  const { pending: file } = statePaths(state);
  try {
    return parsePending(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new VouchError('config-state', `${file} is damaged: begin again with a new state directory`, {
      cause,
    });
  }
}

function parsePending(text: string): PendingState {
  // Our own file, 0600 in a folder of 0700: whoever can write there can do worse.
  const value = JSON.parse(text) as {
    identity: StateIdentity;
    issuers: (Omit<HsmKey, 'publicKeySpki'> & { publicKeySpki: string })[];
    logKey: Omit<CeremonyResult['logKey'], 'publicKeySpki'> & { publicKeySpki: string };
    rollbackMark: RollbackMark;
    request: string;
  };
  const request = parseRequest(value.request);
  const bytes = (key: { publicKeySpki: string }) => ({
    publicKeySpki: Buffer.from(key.publicKeySpki, 'base64'),
  });
  return {
    identity: value.identity,
    issuers: value.issuers.map((key) => ({ ...key, ...bytes(key) })),
    logKey: { ...value.logKey, ...bytes(value.logKey) },
    rollbackMark: value.rollbackMark,
    requestText: value.request,
    request,
  };
}
