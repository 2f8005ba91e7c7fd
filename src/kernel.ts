import { randomBytes } from 'node:crypto';
import { type Bundle, bundleOf, rootPin } from './authority/bundle.ts';
import { IssuerStates } from './authority/issuer-states.ts';
import type { ServerIdentity } from './authority/server-identity.ts';
import { type Config, statePaths } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import { VouchError } from './core/errors.ts';
import type { Serial } from './core/serial.ts';
import { haltIfRewound } from './enrollment/consistency.ts';
import { bootId } from './issuance/boot-id.ts';
import { ClockGuard } from './issuance/clock-guard.ts';
import { Issuance } from './issuance/issue.ts';
import { caOf, type Issuer } from './issuance/issuer.ts';
import { openFileTiles } from './log/file-tiles.ts';
import { type LogKey, openCheckpoint } from './log/note.ts';
import { Sequencer } from './sequencer/sequencer.ts';
import { parseCertificate } from './x509/certificate.ts';
import { openStatement, type Statement } from './log/statement.ts';
import { TileTree } from './log/tiles.ts';
import { fullCrlUrl } from './core/publication.ts';
import { openSigners } from './kernel-signers.ts';
import { refusePending } from './init/pending-state.ts';
import type { Signer } from './signer/port.ts';
import { refuseReadableKey } from './state.ts';
import type { Mutation, Store, StoreReader } from './store/port.ts';
import type { StateIdentity } from './store/records.ts';
import { lockState } from './store/sqlite/lock.ts';
import { openSqliteStore } from './store/sqlite/store.ts';
import { errorFields, type Log } from './telemetry/log.ts';

/** Everything between the store and the signer: what `vouch init` and `vouch server` both stand on. */
export interface Kernel {
  store: Store;
  tree: TileTree;
  signer: Signer;
  /** A signer signs for the first time; rejects with what only an operator can mend. */
  ready: Promise<unknown>;
  /** Every signer does. */
  allReady: () => Promise<unknown>;
  sequencer: Sequencer;
  clockGuard: ClockGuard;
  issuance: Issuance;
  /** In the order in which they issue: the first, then its standby; also those that only sign CRLs any more. */
  issuers: readonly Issuer[];
  rootDer: Buffer;
  rootKeyId: string;
  /** `sha256:` and the hash of the root's SubjectPublicKeyInfo. */
  rootPin: string;
  /** The root's newest word; `renewed` puts another in its place. */
  readonly statement: Statement;
  /** Of one log, one in each token. */
  logKeys: readonly LogKey[];
  readonly bundle: Bundle;
  /** DER, issuer first, root last: what follows what this issuer issued in every answer. */
  authoritiesOf: (issuerKeyId: string) => readonly Buffer[];
  /** The full CRL of every CA. */
  crlUrls: readonly { keyId: string; url: string }[];
  /** Reads statement and bundle again, after a renewal was recorded. */
  renewed(): void;
  /** Ends all of it, last opened first. */
  close(): Promise<void>;
}

/** What the kernel is built from. */
export interface KernelParts {
  config: Config;
  /** File of the configuration, for the signer, which reads its own part. */
  configFile: string;
  clock: Clock;
  log: Log;
  /** `vouch init`, or a restore that opens a new log: the signer begins a new tree, floor and guard. */
  genesis: boolean;
  /** Called with each mutation as soon as it is durable. */
  committed?: (mutation: Mutation, leafIndex: number) => void;
}

/**
 * Locks and opens the state, starts the signer and hands it the tree. Throws `config-…` where the state is missing,
 * foreign or in use (I10); a signer that does not come up is no failure here, its state says so.
 */
export async function openKernel(parts: KernelParts): Promise<Kernel> {
  const { config, clock, log } = parts;
  const paths = statePaths(config.state);
  refuseReadableKey(config.state);
  refusePending(config.state);
  await using opened = new AsyncDisposableStack();
  opened.adopt(lockState(paths.lock), (held) => held.release());
  const store = opened.adopt(openSqliteStore(paths.database), (held) => held.close());
  const identity = store.identity();
  refuseForeign(identity, config);
  const authorities = readAuthorities(store, tokenIssuerOf(config));
  const tree = new TileTree(openFileTiles(paths.logTiles), store.treeSize(), (from, to) =>
    store.leafHashes(from, to),
  );
  if (!parts.genesis) refuseOtherLog(store.checkpointNote(), tree, authorities.logKeys);
  writeLostTiles(tree, log);
  const clockGuard = new ClockGuard(clock, store.clockMark(), bootId());
  const late: { sequencer?: Sequencer } = {};
  const { signer, ready, allReady, issuing } = openSigners({
    ...{ ...parts, ...authorities, store, tree },
    adopt: (note) => void late.sequencer?.adoptCheckpoint(note),
    halt: (reason) => late.sequencer?.halt(reason),
  });
  opened.adopt(signer, (held) => held.close());
  const sequencer = new Sequencer({
    ...{
      store,
      signer,
      tree,
      logKeys: authorities.logKeys,
      limits: { waitMs: config.signer.deadline * 1000 },
    },
    ...whatIsSaid(parts),
  });
  late.sequencer = sequencer;
  haltIfRewound({ checkpoint: store.rewindEvidence() }, { ...authorities, store, tree, sequencer });
  const { trustDomain, shardCount, serialPrefix } = identity;
  const publicationUrl = publicationBase(config);
  const settings = { trustDomain, publicationUrl, shardCount, serialPrefix, random: randomBytes };
  const closing = opened.move();
  let { statement, bundle } = authorities;
  return {
    ...authorities,
    get statement() {
      return statement;
    },
    get bundle() {
      return bundle;
    },
    renewed: () => {
      authorities.states.reread();
      ({ statement, bundle } = readAuthorities(store, tokenIssuerOf(config)));
    },
    store,
    tree,
    ...{ signer, ready, allReady },
    sequencer,
    clockGuard,
    issuance: new Issuance({ sequencer, clockGuard, issuers: issuing, settings }),
    crlUrls: crlUrlsOf(
      [...authorities.issuers.map(({ keyId }) => keyId), authorities.rootKeyId],
      settings.publicationUrl,
    ),
    close: async () => {
      await using _rest = closing;
      await sequencer.close();
      tree.flush();
    },
  };
}

function refuseForeign({ trustDomain }: StateIdentity, config: Config): void {
  if (trustDomain !== config.trustDomain)
    throw new VouchError(
      'config-state',
      `this state belongs to the trust domain ${trustDomain}, the configuration names ${config.trustDomain}`,
    );
}

function crlUrlsOf(keyIds: readonly string[], publicationUrl: string): Kernel['crlUrls'] {
  return keyIds.map((keyId) => ({ keyId, url: fullCrlUrl(publicationUrl, keyId) }));
}

/**
 * I10: the log must hold what its last checkpoint covers. No token is needed to see that its tail was cut off, and
 * nothing may be written onto it then. Throws `integrity-rewind` or `integrity-log`.
 */
function refuseOtherLog(note: string | undefined, tree: TileTree, logKeys: readonly LogKey[]): void {
  if (note === undefined) return;
  const { treeSize, rootHash } = openCheckpoint(note, logKeys, logKeys[0]?.name);
  if (treeSize > tree.size)
    throw new VouchError(
      'integrity-rewind',
      `the log has ${tree.size} leaves, its last checkpoint covers ${treeSize}: its end is missing; restore the newest backup with \`vouch restore\``,
    );
  if (!rootHash.equals(tree.root(treeSize)))
    throw new VouchError(
      'integrity-log',
      'the leaves are not those that the last checkpoint covers; see `vouch log verify`, and restore the newest backup',
    );
}

/** What a crash lost of the tiles is written before the log goes on: then a tile that is missing later was taken away. */
function writeLostTiles(tree: TileTree, log: Log): void {
  try {
    tree.flush();
  } catch (error) {
    log.error(errorFields(error), 'log tiles cannot be written; it is tried again');
  }
}

/** What the server's own certificate is made from. */
export function serverIdentityParts(
  config: Config,
  kernel: Kernel,
): ConstructorParameters<typeof ServerIdentity>[0] {
  const { serverCertificate: certificate, serverKey: key } = statePaths(config.state);
  const { issuance, authoritiesOf, rootDer, store, clockGuard } = kernel;
  const isRevoked = ({ issuerKeyId, serial }: { issuerKeyId: string; serial: Serial }): boolean =>
    issuance.issuers.isRevoked(issuerKeyId) || store.certificate(issuerKeyId, serial)?.revoked !== undefined;
  const urls = [config.enrollment.url, config.publication.url];
  return {
    issuance,
    authoritiesOf,
    rootDer,
    isRevoked,
    timeMs: () => clockGuard.steadyTimeMs(),
    urls,
    trustDomain: config.trustDomain,
    files: { certificate, key },
  };
}

/** The publication URL without a trailing slash, so that paths can be put behind it. */
export function publicationBase(config: Config): string {
  return config.publication.url.replace(/\/+$/, '');
}

/** `iss` of JWT-SVIDs: below it stand discovery document and keys. */
export function tokenIssuerOf(config: Config): string {
  return config.jwt.issuer ?? publicationBase(config);
}

function readAuthorities(store: StoreReader, tokenIssuer: string) {
  const records = store.authorities();
  const root = records.find((record) => record.kind === 'root');
  const jws = store.statement();
  if (!root || jws === undefined)
    throw new VouchError(
      'integrity-state',
      'the state has no root or no statement; restore it with `vouch restore`',
    );
  const states = new IssuerStates(store);
  const statement = openStatement(jws, caOf(root.certificateDer).publicKey);
  return {
    states,
    issuers: states.all,
    rootDer: root.certificateDer,
    rootKeyId: root.keyId,
    rootPin: rootPin(root.certificateDer),
    statement,
    logKeys: statement.logKeys,
    newLog: { statement: jws, rootSpki: parseCertificate(root.certificateDer).spki },
    bundle: bundleOf({
      rootCertificates: [root.certificateDer],
      ...{ statement: jws, statementSequence: statement.sequence },
      ...{ jwtKeys: store.jwtKeys(), tokenIssuer },
    }),
    authoritiesOf: (issuerKeyId: string) => [
      ...states.all.filter(({ keyId }) => keyId === issuerKeyId).map(({ certificateDer }) => certificateDer),
      root.certificateDer,
    ],
  };
}

function whatIsSaid({ log, committed }: KernelParts) {
  return {
    ...(committed && { onCommitted: committed }),
    onHalt: (reason: VouchError) =>
      log.error(errorFields(reason), 'signing is stopped until an operator acts'),
    onWrongSignature: (leafIndex: number) =>
      log.error({ leafIndex }, 'the token made a signature that does not verify; it is asked for once more'),
  };
}
