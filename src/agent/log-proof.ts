import { VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { encodeLeaf } from '../log/leaf.ts';
import { hashLeaf, verifyConsistency, verifyInclusion } from '../log/merkle.ts';
import { openCheckpoint } from '../log/note.ts';
import type { Statement } from '../log/statement.ts';
import type { CertificateAnswer, InclusionProofJson } from '../wire/enrollment.ts';
import type { ParsedCertificate } from '../x509/certificate.ts';
import { keyIdOf } from '../x509/public-key.ts';
import type { Seen } from './state.ts';

/**
 * Checks that the certificate is in the log and that the log only grew. Returns the checkpoint. Throws as
 * `verifyCheckpoint` and `assertIncluded` do.
 */
export function verifyLogged(shown: {
  answer: CertificateAnswer;
  leaf: ParsedCertificate;
  issuer: ParsedCertificate;
  statement: Statement;
  seen: Seen;
}): Checkpoint {
  const { answer, leaf, issuer } = shown;
  const checkpoint = verifyCheckpoint(answer.proof.checkpoint, answer.consistency, shown);
  assertIncluded(answer.proof, checkpoint, { leaf, issuer });
  return checkpoint;
}

/**
 * Opens a checkpoint that is signed by a key that the root's statement names, and whose tree contains the one seen
 * before. Throws `integrity-log`, or `integrity-rewind` for a smaller tree.
 */
export function verifyCheckpoint(
  note: string,
  consistency: CertificateAnswer['consistency'],
  { statement, seen }: { statement: Statement; seen: Seen },
): Checkpoint {
  // Its origin is the name of one of these keys, which has signed it: no other log passes.
  const checkpoint = openCheckpoint(note, statement.logKeys);
  assertGrown(checkpoint, consistency, seen, statement.sequence);
  return checkpoint;
}

/** Checks that the leaf rebuilt from a certificate is in the checkpoint's tree. Throws `integrity-log`. */
export function assertIncluded(
  proof: InclusionProofJson,
  checkpoint: Checkpoint,
  { leaf, issuer }: { leaf: ParsedCertificate; issuer: ParsedCertificate },
): void {
  if (checkpoint.treeSize !== proof.treeSize)
    throw refuse('the proof is for another tree than its checkpoint');
  const leafHash = hashLeaf(
    encodeLeaf({
      type: 'certificate',
      timeMs: proof.time,
      issuerKeyId: keyIdOf(issuer.spki),
      body: leaf.tbs,
      context: Buffer.from(proof.context, 'hex'),
    }),
  );
  const included = verifyInclusion({
    index: proof.index,
    treeSize: proof.treeSize,
    leafHash,
    path: bytes(proof.path),
    rootHash: checkpoint.rootHash,
  });
  if (!included) throw refuse('the certificate is not in the log that the checkpoint speaks of');
}

function assertGrown(
  checkpoint: Checkpoint,
  consistency: CertificateAnswer['consistency'],
  seen: Seen,
  statementSequence: number,
): void {
  const { head } = seen;
  // A restore opens a new log; the root says so by a statement of higher sequence, and nobody else can.
  if (head !== undefined && head.origin !== checkpoint.origin) {
    if (statementSequence > seen.statement) return;
    throw refuse(`the log is ${checkpoint.origin}, where ${head.origin} was seen under the same statement`);
  }
  if (checkpoint.treeSize < seen.treeSize)
    throw new VouchError(
      'integrity-rewind',
      `the log has ${checkpoint.treeSize} entries, ${seen.treeSize} were seen before: it was set back or split; nothing was changed`,
    );
  if (head === undefined) return;
  if (head.treeSize === checkpoint.treeSize) {
    if (!head.rootHash.equals(checkpoint.rootHash))
      throw refuse('two trees of one size differ: the log shows two views');
    return;
  }
  if (consistency === undefined || consistency.treeSize !== head.treeSize)
    throw refuse('the proof that the log only grew is missing');
  const grown = verifyConsistency({
    oldSize: head.treeSize,
    newSize: checkpoint.treeSize,
    oldRoot: head.rootHash,
    newRoot: checkpoint.rootHash,
    path: bytes(consistency.path),
  });
  if (!grown)
    throw refuse('the log does not contain the one seen before: it was rewritten or shows two views');
}

function bytes(path: readonly string[]): Buffer[] {
  return path.map((hash) => Buffer.from(hash, 'hex'));
}

function refuse(why: string): VouchError {
  return new VouchError(
    'integrity-log',
    `${why}; the certificate is not used. Tell the operator: the log must be looked at`,
  );
}
