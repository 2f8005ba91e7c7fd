import { VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { encodeLeaf } from '../log/leaf.ts';
import { hashLeaf, verifyConsistency, verifyInclusion } from '../log/merkle.ts';
import { openCheckpoint } from '../log/note.ts';
import type { Statement } from '../log/statement.ts';
import type { CertificateAnswer } from '../wire/enrollment.ts';
import type { ParsedCertificate } from '../x509/certificate.ts';
import { keyIdOf } from '../x509/public-key.ts';
import type { Seen } from './state.ts';

/**
 * Checks that the certificate is in the log and that the log only grew: the checkpoint is signed by a key that the
 * root's statement names, the leaf rebuilt from the certificate is in its tree, and the tree contains the one seen
 * before. Returns the checkpoint. Throws `integrity-log`, or `integrity-rewind` for a smaller tree.
 */
export function verifyLogged(shown: {
  answer: CertificateAnswer;
  leaf: ParsedCertificate;
  issuer: ParsedCertificate;
  statement: Statement;
  seen: Seen;
}): Checkpoint {
  const { answer, leaf, issuer, statement, seen } = shown;
  const { proof } = answer;
  // Its origin is the name of one of these keys, which has signed it: no other log passes.
  const checkpoint = openCheckpoint(proof.checkpoint, statement.logKeys);
  if (checkpoint.treeSize !== proof.treeSize)
    throw refuse('the proof is for another tree than its checkpoint');
  assertGrown(checkpoint, answer.consistency, seen, statement.sequence);
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
  return checkpoint;
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
