import { type VerifiedResult, type ResultFiles, verifyRenewal } from '../result.ts';
import { readResult } from '../files.ts';
import { type Recorder, recordRenewal } from './record.ts';
import { intoStopped } from './stopped.ts';
import type { Config } from '../../config/config.ts';
import { rfc3339 } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { caOf } from '../../issuance/issuer.ts';
import { openStatement } from '../../log/statement.ts';
import { refusePending } from '../../init/pending-state.ts';
import { allStanding } from '../../store/pages.ts';
import type { StoreReader } from '../../store/port.ts';
import { adminPaths } from '../../wire/admin.ts';
import { joinedCrl } from '../../x509/crl-tbs.ts';

/** What a renewal brought. */
export interface ImportedRenewal {
  statementSequence: number;
  statementNotAfter: string;
  crlNumber: string;
  crlNextUpdate: string;
  /** Key ids of the issuers that ended. */
  revokedIssuers: string[];
  /** Who held the ceremony, as its transcript says. */
  operators: string[];
  /** False where no server runs: it serves them when it starts. */
  served: boolean;
}

/**
 * Takes the result of a renewal into a state: through the server where one runs, otherwise into the database itself.
 * Throws as `verifyRenewal`, `config-in-use` where a server holds the state and does not answer.
 */
export async function importRenewal(
  folder: string,
  config: Config,
  admin: <T>(method: 'POST', path: string, body: object) => Promise<T>,
): Promise<ImportedRenewal> {
  refusePending(config.state);
  const files = readResult(folder);
  const body = {
    files: [...files].map(([name, content]) => ({ name, content: content.toString('base64') })),
  };
  try {
    return await admin<ImportedRenewal>('POST', adminPaths.ceremonyImport, body);
  } catch (error) {
    if (!(error instanceof VouchError) || error.code !== 'unavailable-server') throw error;
    return intoStopped(config, async (recorder) =>
      importedRenewal(await takeRenewal(files, recorder), false),
    );
  }
}

/** Verifies a renewal against what the store has and records it. */
export async function takeRenewal(files: ResultFiles, recorder: Recorder): Promise<VerifiedResult> {
  const { store, nowMs } = recorder;
  const result = verifyRenewal(files, { ...renewedState(store), nowMs });
  await recordRenewal(recorder, result);
  return result;
}

/** In words, for the operator. */
export function importedRenewal(result: VerifiedResult, served: boolean): ImportedRenewal {
  const { statement, crl, transcript } = result;
  return {
    statementSequence: statement.sequence,
    statementNotAfter: transcript.signed.find(({ kind }) => kind === 'statement')?.notAfter ?? '',
    crlNumber: String(crl.crlNumber),
    crlNextUpdate: rfc3339(crl.nextUpdateSeconds * 1000),
    revokedIssuers: transcript.signed.flatMap(({ revoked = [] }) => revoked.map(({ keyId }) => keyId)),
    operators: transcript.operators,
    served,
  };
}

function renewedState(store: StoreReader) {
  const root = store.authorities().find(({ kind }) => kind === 'root');
  const jws = store.statement();
  if (!root || jws === undefined)
    throw new VouchError(
      'integrity-state',
      'the state has no root or no statement; restore it with `vouch restore`',
    );
  const crl = store.lastCrls(root.keyId)[0];
  return {
    rootDer: root.certificateDer,
    statement: openStatement(jws, caOf(root.certificateDer).publicKey),
    lastCrl: crl && { crlNumber: crl.crlNumber, tbs: joinedCrl(crl.tbs) },
    revoked: [...allStanding(store, root.keyId)],
  };
}
