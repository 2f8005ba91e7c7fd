import { assert, type ErrorCode, VouchError } from '../../core/errors.ts';
import { Slice } from '../../jobs/slice.ts';
import type { Checkpoint } from '../../log/checkpoint.ts';
import type { Statement } from '../../log/statement.ts';
import type { SvidsAnswer } from '../../wire/agent.ts';
import type { InclusionProofJson } from '../../wire/enrollment.ts';
import type { ParsedCertificate } from '../../x509/certificate.ts';
import { ipBytes } from '../../x509/ip-address.ts';
import { validatePath } from '../../x509/path.ts';
import { keyIdOf } from '../../x509/public-key.ts';
import { assertStated, toleratedSkewMs, verifyBundle } from '../answer.ts';
import type { ServerAddress } from '../connection.ts';
import { assertIncluded, verifyCheckpoint } from '../log-proof.ts';
import type { Seen } from '../state.ts';
import type { AgentEntry } from './entry.ts';

/** One certificate that was asked for. */
export interface AskedSvid {
  entry: AgentEntry;
  /** DER SubjectPublicKeyInfo of the key that was made for it. */
  spki: Buffer;
}

/** A certificate of which nothing is left to be believed. */
export interface VerifiedSvid {
  leaf: ParsedCertificate;
  /** DER, leaf first, then issuers, without the root. */
  chain: Buffer[];
  issuerKeyId: string;
  proof: InclusionProofJson;
  renewal: { earliestSeconds: number; latestSeconds: number };
}

/** What came of one. */
export type SvidOutcome = VerifiedSvid | VouchError;

/** What an answer is held against. */
export interface SvidExpectations {
  address: ServerAddress;
  /** DER of the pinned root. */
  root: Buffer;
  seen: Seen;
  nowMs: number;
}

/**
 * Checks an answer to a batch as `verifyAnswer` does a single one (I9): the bundle and the log once, each certificate by
 * itself, so that one that does not hold is that one's failure. `seen` is what counts from now on. Throws `denied-server`,
 * `integrity-log` or `integrity-rewind` where the answer as a whole does not hold.
 */
export async function verifySvids(
  answer: SvidsAnswer,
  asked: readonly AskedSvid[],
  expected: SvidExpectations,
): Promise<{ outcomes: SvidOutcome[]; seen: Seen }> {
  const { results } = answer;
  if (results.length !== asked.length || results.some((one, at) => one.entryId !== asked[at]?.entry.entryId))
    throw new VouchError('denied-server', 'the answer is not to what was asked for');
  const { statement } = verifyBundle(answer.bundle, expected);
  const checkpoints = checkpointsOf(answer, statement, expected.seen);
  const outcomes: SvidOutcome[] = [];
  const slice = new Slice();
  for (const [at, result] of results.entries()) {
    const one = asked[at];
    if (one === undefined) break;
    outcomes.push(
      'problem' in result
        ? problemOf(result.problem)
        : orFailure(() => verifyOne(answer, result, one, { ...expected, statement, checkpoints })),
    );
    if (slice.isOver) await slice.turn();
  }
  const { bundle } = answer;
  const head = [...checkpoints.values()].sort((one, other) => other.treeSize - one.treeSize)[0];
  const seen = { ...expected.seen, statement: statement.sequence, bundle: bundle.spiffe_sequence };
  return { outcomes, seen: head ? { ...seen, treeSize: head.treeSize, head } : seen };
}

type Issued = Exclude<SvidsAnswer['results'][number], { problem: unknown }>;

function verifyOne(
  answer: SvidsAnswer,
  { certificate, issuerKeyId, proof, renewal }: Issued,
  { entry, spki }: AskedSvid,
  {
    address,
    root,
    nowMs,
    statement,
    checkpoints,
  }: SvidExpectations & {
    statement: Statement;
    checkpoints: ReadonlyMap<string, Checkpoint>;
  },
): VerifiedSvid {
  const [leaf, ...authorities] = validatePath({
    chain: [certificate, ...(answer.authorities[issuerKeyId] ?? [])],
    roots: [root],
    nowMs,
    skewMs: toleratedSkewMs,
    trustDomain: address.trustDomain,
  });
  const [issuer] = authorities;
  if (leaf === undefined || issuer === undefined || keyIdOf(issuer.spki) !== issuerKeyId)
    throw new VouchError('denied-server', 'the certificate is not of the issuer that the answer names');
  assertStated(issuer, statement);
  assertOfEntry(leaf, entry);
  if (!leaf.spki.equals(spki))
    throw new VouchError('denied-server', 'the certificate is for another key than ours');
  const checkpoint = checkpoints.get(proof.checkpoint);
  assert(checkpoint !== undefined, 'the checkpoint of each proof was verified');
  assertIncluded(proof, checkpoint, { leaf, issuer });
  const chain = [leaf, ...authorities.slice(0, -1)].map(({ der }) => der);
  return { leaf, chain, issuerKeyId, proof, renewal };
}

/** Throws `denied-server` where a certificate has any other names than its entry's: more, fewer, or others. */
export function assertOfEntry(leaf: ParsedCertificate, entry: AgentEntry): void {
  const isSame =
    isSameSet(leaf.uris, [entry.spiffeId]) &&
    isSameSet(leaf.dnsNames, entry.dnsNames) &&
    isSameSet(leaf.ipAddresses.map(canonicalIp), entry.ipAddresses.map(canonicalIp));
  if (isSame) return;
  const names = [...leaf.uris, ...leaf.dnsNames, ...leaf.ipAddresses].join(', ');
  throw new VouchError(
    'denied-server',
    `the certificate is for ${names}, not for what entry ${entry.entryId} says`,
  );
}

function isSameSet(some: readonly string[], others: readonly string[]): boolean {
  const set = new Set(some);
  return set.size === some.length && set.size === new Set(others).size && others.every((one) => set.has(one));
}

function canonicalIp(text: string): string {
  return ipBytes(text)?.toString('hex') ?? text;
}

/** The checkpoints of an answer, by their notes. Throws as `verifyCheckpoint` does. */
function checkpointsOf(answer: SvidsAnswer, statement: Statement, seen: Seen): Map<string, Checkpoint> {
  const notes = answer.results.flatMap((result) => ('proof' in result ? [result.proof.checkpoint] : []));
  const verified = [...new Set(notes)].map(
    (note) => [note, verifyCheckpoint(note, answer.consistency, { statement, seen })] as const,
  );
  return new Map(verified);
}

/** The server's code where it is one; anything else counts as a refusal. */
function problemOf(problem: {
  code: string;
  detail: string;
  retryAfterSeconds?: number | undefined;
}): VouchError {
  const isKnown = /^(request|denied|policy|unavailable)-[a-z-]{1,40}$/.test(problem.code);
  const { retryAfterSeconds } = problem;
  return new VouchError(
    isKnown ? (problem.code as ErrorCode) : 'denied-evidence',
    problem.detail.replaceAll(/\p{Cc}/gu, ' ').slice(0, 1000),
    retryAfterSeconds === undefined ? {} : { retryAfterSeconds: Math.min(retryAfterSeconds, 3600) },
  );
}

function orFailure(work: () => VerifiedSvid): SvidOutcome {
  try {
    return work();
  } catch (error) {
    if (error instanceof VouchError) return error;
    return new VouchError('denied-server', 'a certificate of the answer cannot be read', { cause: error });
  }
}
