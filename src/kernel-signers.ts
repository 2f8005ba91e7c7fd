import type { IssuerStates } from './authority/issuer-states.ts';
import { type Config, statePaths } from './config/config.ts';
import type { Clock } from './core/clock.ts';
import { asVouchError, VouchError } from './core/errors.ts';
import type { Issuer } from './issuance/issuer.ts';
import { type Issuers, soleIssuer, StandingIssuers, Takeover } from './issuance/issuers.ts';
import { consistencyPath, rangeHasher } from './log/merkle.ts';
import type { LogKey } from './log/note.ts';
import { sequenceOfOrigin } from './log/origin.ts';
import type { TileTree } from './log/tiles.ts';
import { signerGroup } from './signer/group.ts';
import type { NewLog } from './signer/new-log.ts';
import type { KnownTree, ResumeState, Signer } from './signer/port.ts';
import { forgetRefusedPin } from './signer/refused-pin.ts';
import { openSigner, type SignerOptions } from './signer/supervisor.ts';
import type { StoreReader } from './store/port.ts';
import type { Log } from './telemetry/log.ts';

/** What the signers are opened from. */
interface Parts {
  config: Config;
  configFile: string;
  clock: Clock;
  log: Log;
  /** A new log begins. */
  genesis: boolean;
  states: IssuerStates;
  logKeys: readonly LogKey[];
  newLog: NewLog;
  store: StoreReader;
  tree: TileTree;
  /** Takes up a checkpoint that a signer made over the committed tree when it started, or whose answer came late. */
  adopt: (note: string) => void;
  /** Stops signing. */
  halt: (reason: VouchError) => void;
}

/** The signers as one, and who issues with them. */
export interface Signers {
  signer: Signer;
  /** The first of them signs. */
  ready: Promise<unknown>;
  /** Every one of them does. */
  allReady: () => Promise<unknown>;
  issuing: Issuers;
}

/**
 * Starts a signer for each token that is configured: the first issuer's key is in the first, the next one's in the
 * standby. Throws `config-state` where a standby is configured that the root never certified.
 */
export function openSigners(parts: Parts): Signers {
  const { config, states, halt } = parts;
  const [first, second] = states.all;
  if (!first) throw new VouchError('integrity-state', 'the state has no issuer');
  if (config.standby && !second)
    throw new VouchError(
      'config-state',
      'standby is configured, but this state has no issuer for it: the root must certify one, which `vouch init --standby-hsm-file` does',
    );
  const standby = second && (config.standby || states.mayIssue(second.keyId)) ? second : undefined;
  if (!standby) {
    const signer = openSigner(optionsOf(parts, undefined));
    const issuing = new StandingIssuers(soleIssuer(first), states);
    return { signer, ready: signer.ready(), allReady: () => signer.ready(), issuing };
  }
  const members = (config.standby ? [first, standby] : [first]).map((issuer) => ({
    // Two were certified at the beginning, one for each token; those that came later are in the first.
    issuerKeyIds: states.all
      .filter((one) => (issuer === standby) === (one === standby))
      .map(({ keyId }) => keyId),
    signer: openSigner(optionsOf(parts, issuer)),
  }));
  const signer = signerGroup(members, { onIntegrityFailure: halt });
  return {
    signer,
    ready: signer.ready(),
    allReady: () => signer.allReady(),
    issuing: new StandingIssuers(takeover(parts, { first, standby }, signer), states),
  };
}

/** Of the signer of this issuer, or of the only one. */
function optionsOf(parts: Parts, issuer: Issuer | undefined): SignerOptions {
  const { config, configFile, clock, log, genesis, adopt, halt } = parts;
  const standby = issuer && issuer !== parts.states.all[0] ? config.standby : undefined;
  const { hsm, signer } = standby ?? config;
  const args = ['signer', '--config', configFile, ...(standby ? ['--standby'] : [])];
  const paths = statePaths(config.state);
  const name = standby ? { signer: 'standby' } : {};
  return {
    signer:
      signer.socket === undefined
        ? { spawn: { entry: process.argv[1] ?? '', args, environment: hsm.environment } }
        : { connect: signer.socket },
    // What a signer of another user has noted, only that user can delete.
    ...(signer.socket === undefined
      ? { onRetry: () => forgetRefusedPin(standby ? paths.standbySigner : paths.signer) }
      : {}),
    ...(issuer ? { issuerKeyId: issuer.keyId } : {}),
    resume: (known) => resumeFor(known, parts),
    clock,
    log: (level, message, fields) => log[level]({ ...name, ...fields }, message),
    genesis,
    onResumed: (checkpoint) => adopt(checkpoint.note),
    // Who waited has gone; the stored checkpoint would stay behind until the next leaf.
    onLate: ({ note }) => {
      try {
        adopt(note);
      } catch (error) {
        halt(asVouchError(error));
      }
    },
    limits: { deadlineMs: config.signer.deadline * 1000 },
  };
}

/** Without a standby's token in the configuration it is always the first that issues. */
function takeover(
  { config, clock, log }: Parts,
  { first, standby }: { first: Issuer; standby: Issuer },
  signer: Signer,
): Issuers {
  return new Takeover({
    ...{ first, standby, clock },
    life: (issuerKeyId) => {
      const { state, restarts } = signer.status(issuerKeyId);
      return state === 'usable' ? restarts : undefined;
    },
    afterMs: config.standby ? config.standby.after * 1000 : Number.POSITIVE_INFINITY,
    changed: (issuer) => {
      const message =
        issuer === first
          ? 'the first token is back, and its issuer issues again'
          : "the first token is away; the standby's issuer issues from now on";
      log.warn({ issuer: issuer.keyId }, message);
    },
  });
}

/** What a signer needs that knows so much of the tree. */
function resumeFor({ logOrigin, floorSize }: KnownTree, parts: Parts): ResumeState {
  const { store, tree, genesis, newLog, logKeys } = parts;
  const note = genesis ? undefined : store.checkpointNote();
  const size = note === undefined ? 0 : checkpointSize(note);
  const state = { checkpoint: note, peaks: tree.peaks(size), leaves: leavesFrom(store, size) };
  const [logKey] = logKeys;
  // One that was away when a restore opened a new log follows it when it is back, also where it was killed on the way
  // and has no mark of it. One that is ahead proves a rewind.
  const known = sequenceOfOrigin(logOrigin);
  const present = logKey === undefined || logKeys.length === 1 ? 1 : sequenceOfOrigin(logKey.name);
  const isBehind = known < present || (known === present && present > 1 && floorSize === 0);
  if (genesis || isBehind) return { ...state, newLog };
  if (logKeys.length === 1 || floorSize === 0 || floorSize >= size) return state;
  return { ...state, consistency: consistencyPath(floorSize, size, rangeHasher(tree)) };
}

const resumeChunk = 1024;

async function* leavesFrom(store: StoreReader, size: number): AsyncGenerator<readonly Buffer[]> {
  for (let from = size; from < store.treeSize(); ) {
    const leaves = store.leaves(from, Math.min(store.treeSize(), from + resumeChunk));
    from += leaves.length;
    yield leaves;
  }
}

/** Second line of the note (C2SP tlog-checkpoint); the signer verifies the whole of it. */
function checkpointSize(note: string): number {
  const size = Number(note.split('\n')[1]);
  if (!Number.isSafeInteger(size) || size < 0)
    throw new VouchError('integrity-log', 'the stored checkpoint is malformed');
  return size;
}
