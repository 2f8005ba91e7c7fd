import type { StoreReader } from '../store/port.ts';
import type { StoredLeaf } from '../store/rows-port.ts';
import { decodeLeaf } from '../log/leaf.ts';
import { hashLeaf } from '../log/merkle.ts';
import { openCheckpoint } from '../log/note.ts';
import { openStatement, type Statement } from '../log/statement.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { Authorities } from './authorities.ts';
import { floorHead } from './floor.ts';
import { LeafChecks } from './leaf-checks.ts';
import { type Head, HeadCheck } from './log-head.ts';
import { RowWalk } from './row-walk.ts';
import type { StateFiles } from './state-files.ts';
import { TileCheck } from './tiles.ts';
import { type LogVerification, Problems } from './verification.ts';

/** Read in pieces, so that memory stays flat. */
const pageLeaves = 256;

/**
 * Reads a whole state again, trusting nothing that a server says of it: recomputes the root from the leaves, checks
 * checkpoint and statement, and holds every row of the store, and with `files` tiles and floor, against the log and the
 * other way round. What a crash leaves, a leaf whose artefact is unsigned, is no problem. One pass over the leaves with
 * the rows walked beside them. `progress` is called with leaves done.
 */
export function verifyState(
  store: StoreReader,
  rootPin: string | undefined,
  progress: (done: number, of: number) => void,
  files?: StateFiles,
): LogVerification {
  const problems = new Problems();
  const treeSize = store.treeSize();
  const authorities = new Authorities(store.authorities(), problems);
  const statement = checkStatement(store.statement(), authorities, rootPin, problems);
  const heads = new HeadCheck(headsOf(store, statement, files, problems), problems);
  const tiles = files && new TileCheck(files.readTile, problems);
  const checks = new LeafChecks(store, authorities, problems);
  const leaves = new RowWalk<StoredLeaf>((last) => store.rows().leaves(last?.leafIndex ?? -1, pageLeaves));
  let next = 0;
  for (const { leafIndex, hash, bytes } of leaves.rest()) {
    if (next < leafIndex) problems.add(missingLeaves(next, leafIndex - 1));
    next = leafIndex + 1;
    const leafHash = hashLeaf(bytes);
    if (!hash.equals(leafHash))
      problems.add(`leaf ${leafIndex} does not have the hash that was stored with it`);
    heads.leaf(leafHash);
    const leaf = problems.attempt(`leaf ${leafIndex}`, () => decodeLeaf(bytes));
    tiles?.leaf(leafHash, leaf?.timeMs ?? 0);
    if (leaf) problems.attempt(`leaf ${leafIndex}`, () => checks.leaf(leaf, leafIndex));
    if (next % pageLeaves === 0) progress(next, treeSize);
  }
  checks.finish();
  tiles?.finish();
  const rootHash = heads.finish(treeSize);
  return { treeSize, rootHash, ...checks.counts(), problems: problems.list() };
}

function missingLeaves(first: number, last: number): string {
  return first === last ? `leaf ${first} is missing` : `leaves ${first} to ${last} are missing`;
}

function headsOf(
  store: StoreReader,
  statement: Statement | undefined,
  files: StateFiles | undefined,
  problems: Problems,
): Head[] {
  const note = store.checkpointNote();
  if (note === undefined) problems.add('no checkpoint is stored');
  const checkpoint =
    note === undefined || !statement
      ? undefined
      : problems.attempt('the checkpoint', () =>
          openCheckpoint(note, statement.logKeys, statement.logKeys[0]?.name),
        );
  const heads = checkpoint ? [{ ...checkpoint, what: 'the checkpoint' }] : [];
  const floors = files?.floors ?? [];
  return [...heads, ...floors.flatMap((floor) => floorHead(floor, statement?.logKeys, problems) ?? [])];
}

function checkStatement(
  jws: string | undefined,
  { records }: Authorities,
  rootPin: string | undefined,
  problems: Problems,
): Statement | undefined {
  const root = records.find((record) => record.kind === 'root');
  if (!root) {
    problems.add('no root is stored');
    return undefined;
  }
  const key = problems.attempt("the root's certificate", () =>
    importPublicKey(parseCertificate(root.certificateDer).spki),
  );
  if (rootPin !== undefined && rootPin !== `sha256:${key?.sha256}`)
    problems.add('the root is not the one that was pinned');
  if (jws === undefined) problems.add('no statement of the root is stored');
  if (jws === undefined || !key) return undefined;
  return problems.attempt("the root's statement", () => openStatement(jws, key.key));
}
