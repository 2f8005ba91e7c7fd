import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createPublicKey, hash } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { verifyState } from './audit/verify-state.ts';
import { type Config, loadConfig, loadHsmFile, statePaths } from './config/config.ts';
import { rfc3339, systemClock } from './core/clock.ts';
import { asVouchError, isIntegrityFailure, VouchError } from './core/errors.ts';
import { type Issuer, issuerOf } from './issuance/issuer.ts';
import { type Kernel, openKernel } from './kernel.ts';
import { decodeJsonBody, decodeLeaf } from './log/leaf.ts';
import { logOriginOf } from './log/origin.ts';
import { openStatement, type Statement } from './log/statement.ts';
import { importCrl } from './revocation/import.ts';
import { endedSince, joinTokensEnded } from './revocation/take-over.ts';
import { recordLeaf } from './sequencer/record.ts';
import { ceremonyLifetimes, signStatement } from './signer/ceremony.ts';
import { readingState, syncTree } from './state.ts';
import type { Store, StoreReader } from './store/port.ts';
import { commitAll } from './store/commit.ts';
import { syncPath } from './store/sqlite/backup.ts';
import { extractFiles } from './store/sqlite/backup-files.ts';
import { lockState } from './store/sqlite/lock.ts';
import { migrate } from './store/sqlite/migrations.ts';
import { openSqliteStore } from './store/sqlite/store.ts';
import type { Log } from './telemetry/log.ts';
import { parseCertificate } from './x509/certificate.ts';
import { parseCrl } from './x509/crl.ts';
import { joinedCrl, wholeCrl } from './x509/crl-tbs.ts';

/** How long the signer has to come up and judge what was put back. */
const signerWaitMs = 60_000;
/** How long another signer has once one has judged. */
const otherSignerWaitMs = 15_000;
const otherIsAway = [
  'the signer of the other token did not come up: it judges this state when it is back, and refuses it where it has signed a newer one',
];

/** What `vouch restore` is told. */
export interface RestoreOptions {
  file: string;
  /** The state directory to put it into; an existing one is kept beside it. */
  state: string;
  /** Go back behind what the signer has signed; needs the root's token for a new statement. */
  acceptRewind: boolean;
  rootHsmFile: string | undefined;
  /** Published CRLs, DER, that may know of revocations the backup does not. */
  crlFiles: readonly string[];
}

/** What was restored, and what a rewind may have lost. */
export interface RestoreResult {
  state: string;
  /** Where the state that stood there was put; null where none did. */
  previousState: string | null;
  treeSize: number;
  logOrigin: string;
  rewound: boolean;
  /** Revocations that were taken over from the state that stood there and from published CRLs. */
  importedRevocations: number;
  warnings: string[];
}

/**
 * Puts a backup back. It is verified as a whole first, and the signer must find it no older than its floor and guard.
 * Past that only `acceptRewind` leads: a new log origin by a statement of higher sequence, CRL numbers lifted, the
 * last published CRLs imported, and what has ended since ended again. Nothing that stood there is deleted. Throws `integrity-rewind` where the backup is
 * older than what was signed.
 */
export async function restoreState(options: RestoreOptions, log: Log): Promise<RestoreResult> {
  const state = path.resolve(options.state);
  const working = `${state}.restore-${process.pid}`;
  const held = existsSync(statePaths(state).lock) ? lockState(statePaths(state).lock) : undefined;
  try {
    await assemble(options.file, state, working);
    const { treeSize, lastMs } = await verified(working);
    const rewind = options.acceptRewind ? await openNewLog(options, state, working, log) : undefined;
    const previousState = swap(state, working);
    try {
      const config = loadConfig(statePaths(state).config);
      const kernel = await openKernel({
        config,
        configFile: statePaths(state).config,
        clock: systemClock,
        log,
        genesis: rewind !== undefined,
      });
      const unjudged: string[] = [];
      try {
        unjudged.push(...(await signersJudged(kernel)));
      } finally {
        await kernel.close();
      }
      const logOrigin = rewind?.statement.logKeys[0]?.name ?? kernel.logKeys[0]?.name ?? '';
      return {
        ...{
          state,
          previousState,
          logOrigin,
          rewound: rewind !== undefined,
          importedRevocations: rewind?.imported ?? 0,
        },
        treeSize: rewind?.treeSize ?? treeSize,
        warnings: [
          ...unjudged,
          ...(rewind
            ? [
                `certificates issued after ${rfc3339(lastMs)} are not in this state: they cannot renew, and only a CRL that names them revokes them`,
                ...rewind.warnings,
              ]
            : []),
        ],
      };
    } catch (error) {
      renameSync(state, working);
      if (previousState !== null) renameSync(previousState, state);
      const failure = asVouchError(error);
      if (failure.code !== 'integrity-rewind' || options.acceptRewind) throw error;
      // Its first clause: what follows is advice to use this verb.
      const why = failure.detail.split(/[:;] /, 1)[0] ?? '';
      const detail = `the backup is older than what was signed since (${why}); \`--accept-rewind\` goes back all the same and opens a new log`;
      throw new VouchError('integrity-rewind', detail, { cause: error });
    }
  } finally {
    rmSync(working, { recursive: true, force: true });
    // The lock goes with the folder: whoever is restarted meanwhile finds the state in use, the old one and the new.
    held?.release();
  }
}

/**
 * Resolves when the signer has found the state no older than its marks; rejects with why not, or where it is away. Of
 * several one has to; warns of another that is away and judges when it is back.
 */
async function signersJudged({ ready, allReady }: Kernel): Promise<string[]> {
  const timeout = new AbortController();
  const late = sleep(signerWaitMs, undefined, { signal: timeout.signal }).then(() => {
    throw new VouchError(
      'unavailable-signer',
      'the signer did not come up, so nothing was restored; is the token there?',
    );
  });
  late.catch(() => undefined);
  await Promise.race([ready, late]).finally(() => timeout.abort());
  const others = new AbortController();
  const away = sleep(otherSignerWaitMs, undefined, { signal: others.signal }).then(() => otherIsAway);
  away.catch(() => undefined);
  const all = allReady().then(
    () => [],
    (error: unknown) => {
      if (isIntegrityFailure(error)) throw error;
      return otherIsAway;
    },
  );
  return Promise.race([all, away]).finally(() => others.abort());
}

/** The state as it will be, beside the one that is: database from the backup, marks and settings from the present. */
async function assemble(file: string, state: string, working: string): Promise<void> {
  if (!existsSync(file)) throw new VouchError('config-state', `there is no backup ${file}`);
  mkdirSync(path.join(working, 'signer'), { recursive: true, mode: 0o700 });
  const paths = statePaths(working);
  copyFileSync(file, paths.database);
  chmodSync(paths.database, 0o600);
  for (const embedded of extractFiles(paths.database)) {
    const inside = path.resolve(working, embedded.path);
    if (![paths.config, paths.authority, paths.standbyAuthority].includes(inside))
      throw new VouchError('config-state', `${file} is no backup: it holds ${JSON.stringify(embedded.path)}`);
    mkdirSync(path.dirname(inside), { recursive: true, mode: 0o700 });
    writeFileSync(inside, embedded.bytes, { mode: 0o600 });
  }
  await migrate(paths.database);
  if (existsSync(state)) keepPresent(state, working);
  // A signer that runs by itself has a folder of its own; an empty one here would read as one that lost its floor.
  if (readdirSync(paths.signer).length === 0) rmdirSync(paths.signer);
  // The signer is found by it, and so are marks and lock: another folder would be judged than the one put back.
  const named = loadConfig(paths.config).state;
  if (path.resolve(named) !== state)
    throw new VouchError(
      'config-state',
      `this state's configuration names ${named} as its folder: restore it there, with --state ${named}`,
    );
}

function keepPresent(state: string, working: string): void {
  for (const name of ['vouch.yaml', 'signer', 'standby-signer', 'server']) {
    const present = path.join(state, name);
    if (existsSync(present))
      cpSync(present, path.join(working, name), { recursive: true, preserveTimestamps: true });
  }
}

async function verified(working: string): Promise<{ treeSize: number; lastMs: number }> {
  const store = openSqliteStore(statePaths(working).database, { readonly: true });
  try {
    const { problems, treeSize } = verifyState(store, undefined, () => undefined);
    if (problems.length > 0)
      throw new VouchError('integrity-state', `the backup is damaged: ${problems.slice(0, 3).join('; ')}`);
    const last = store.leaves(treeSize - 1, treeSize)[0];
    return { treeSize, lastMs: last ? decodeLeaf(last).timeMs : 0 };
  } finally {
    await store.close();
  }
}

/** The way past the marks: a statement of higher sequence that names a new log, and the last CRLs imported. */
async function openNewLog(options: RestoreOptions, state: string, working: string, log: Log) {
  if (options.rootHsmFile === undefined)
    throw new VouchError(
      'usage-invalid',
      '--accept-rewind needs --root-hsm-file: the root must say that a new log begins',
    );
  const paths = statePaths(working);
  const config = loadConfig(paths.config);
  const store = openSqliteStore(paths.database);
  try {
    const issuers = issuersOfCrls(store);
    const { crls, warnings } = await publishedCrls(state, options.crlFiles, issuers);
    const statement = await newStatement(store, config, options.rootHsmFile, log);
    const ended = await endAgain(state, issuers, store);
    warnings.push(...ended.warnings);
    let { imported } = ended;
    for (const der of crls) imported += await importCrl(der, issuerOfCrl(der, issuers), store);
    return { statement, imported, treeSize: store.treeSize(), warnings };
  } finally {
    await store.close();
  }
}

/** What has ended since the backup ends again; where nothing tells what has, no join token counts any more. */
async function endAgain(state: string, issuers: readonly Issuer[], store: Store) {
  const ended = await readingPresent(state, (present) => endedSince(present, issuers, store));
  const mutations = ended ?? joinTokensEnded(store);
  await commitAll(store, mutations);
  const imported = mutations.filter(({ kind }) => kind === 'revocation').length;
  if (ended) return { imported, warnings: [] };
  return {
    imported,
    warnings: [
      `join tokens of the backup that still counted were ended (${mutations.length}): they may have been used or revoked since; make new ones`,
      'identities that were suspended since the backup are not suspended in it: end them again with `vouch revoke --id`; entries that were deleted since are back',
    ],
  };
}

/** Undefined where none stands there, or it cannot be read: a reason to restore, not one to refuse. */
async function readingPresent<T>(state: string, work: (store: StoreReader) => T): Promise<T | undefined> {
  if (!existsSync(statePaths(state).database)) return undefined;
  return readingState(state, work).catch(() => undefined);
}

async function newStatement(store: Store, config: Config, rootHsmFile: string, log: Log): Promise<Statement> {
  const root = store.authorities().find((authority) => authority.kind === 'root');
  const jws = store.statement();
  if (!root || jws === undefined)
    throw new VouchError('integrity-state', 'the backup has no root or no statement');
  const { spki } = parseCertificate(root.certificateDer);
  const before = openStatement(jws, createPublicKey({ key: spki, format: 'der', type: 'spki' }));
  // Past every log that an earlier rewind opened, which neither this backup nor a state that was lost knows of.
  const sequence = Math.max(before.sequence + 1, systemClock.now());
  const statement: Statement = {
    ...before,
    sequence,
    notAfterMs: systemClock.now() + ceremonyLifetimes.statement * 1000,
    logKeys: before.logKeys.map((key) => ({ ...key, name: logOriginOf(config.trustDomain, sequence) })),
  };
  const text = await signStatement({
    entry: process.argv[1] ?? '',
    rootHsm: loadHsmFile(rootHsmFile),
    refusedPrefix: `${config.state}.`,
    log: (level, message, fields) => log[level](fields ?? {}, message),
    rootKey: {
      ckaId: rootCkaId(store, root.keyId),
      algorithm: root.algorithm,
      publicKeySpki: spki,
    },
    statement,
    logAhead: async (record) => {
      const body = {
        event: 'to-be-signed',
        kind: record.kind,
        sequence,
        tbsSha256: hash('sha256', record.tbs, 'hex'),
      };
      await commitAll(store, [{ kind: 'operator', leaf: recordLeaf('authority', systemClock.now(), body) }]);
    },
  });
  const leaf = recordLeaf('authority', systemClock.now(), {
    event: 'statement',
    sequence,
    reason: 'restore',
    sha256: hash('sha256', text, 'hex'),
  });
  await commitAll(store, [{ kind: 'statement', leaf, sequence, statement: text }]);
  return statement;
}

/**
 * The last CRLs of the state that stood there, and those that the operator names: by number, since a CRL is known from
 * then on only where none of a higher number is. A state that cannot be read is a reason to restore, not one to refuse.
 */
async function publishedCrls(
  state: string,
  crlFiles: readonly string[],
  issuers: readonly Issuer[],
): Promise<{ crls: Buffer[]; warnings: string[] }> {
  const named = crlFiles.map(readCrlFile);
  const numberOf = (der: Buffer): bigint => parseCrl(der).crlNumber ?? 0n;
  const inOrder = (crls: Buffer[]): Buffer[] =>
    crls.toSorted((a, b) => (numberOf(a) < numberOf(b) ? -1 : Number(numberOf(a) > numberOf(b))));
  if (!existsSync(statePaths(state).database)) return { crls: inOrder(named), warnings: [] };
  try {
    const stored = await readingState(state, (store) =>
      issuers.flatMap(({ keyId, algorithm }) =>
        store
          .lastCrls(keyId)
          .flatMap((row) => (row.signature ? [joinedCrl(wholeCrl(row.tbs, algorithm, row.signature))] : [])),
      ),
    );
    return { crls: inOrder([...stored, ...named]), warnings: [] };
  } catch (error) {
    const why = `the state that stood there cannot be read (${asVouchError(error).detail}): revocations since the backup are those of the --crl files alone`;
    return { crls: inOrder(named), warnings: [why] };
  }
}

function readCrlFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new VouchError('usage-invalid', `cannot read the CRL ${file}`, { cause });
  }
}

/** Those of which there may be CRLs: also what issues no more. */
function issuersOfCrls(store: StoreReader): Issuer[] {
  const issuers = store
    .authorities()
    .filter(({ kind, state }) => kind === 'issuer' && state !== 'prepared')
    .map(issuerOf);
  if (issuers.length === 0) throw new VouchError('integrity-state', 'the backup has no issuer');
  return issuers;
}

/** Whose CRL it is, by what it says; `importCrl` sees whether that is true. Throws `integrity-crl` for anybody else's. */
function issuerOfCrl(der: Buffer, issuers: readonly Issuer[]): Issuer {
  const { authorityKeyId } = parseCrl(der);
  const issuer = issuers.find(({ keyId }) => keyId === authorityKeyId);
  if (issuer) return issuer;
  throw new VouchError('integrity-crl', 'a CRL to import is not signed by the issuer of this state');
}

/** CKA_ID of the root's key, as the ceremony logged it. */
function rootCkaId(store: StoreReader, keyId: string): string {
  for (const bytes of store.leaves(0, Math.min(store.treeSize(), 64))) {
    const leaf = decodeLeaf(bytes);
    if (leaf.type !== 'authority') continue;
    const body = decodeJsonBody(leaf.body);
    if (
      typeof body === 'object' &&
      body !== null &&
      'ckaId' in body &&
      'keyId' in body &&
      body.keyId === keyId
    )
      return typeof body.ckaId === 'string' ? body.ckaId : '';
  }
  throw new VouchError('integrity-state', "the log does not say which key of the root's token is the root");
}

/** Renames the present state away and the new one into its place. */
function swap(state: string, working: string): string | null {
  syncTree(working);
  const previous = existsSync(state) ? `${state}.before-restore-${systemClock.now()}` : null;
  if (previous !== null) renameSync(state, previous);
  renameSync(working, state);
  syncPath(path.dirname(state));
  return previous;
}
