import { assert, asVouchError, VouchError } from '../../core/errors.ts';
import type { LeafDraft, Mutation, MutationOutcome, SignedSoFar, StoredSignature } from '../port.ts';
import { CertificateWriter } from './certificate-writer.ts';
import type { Connection } from './connection.ts';
import type { CrlPieceWriter } from './crl-pieces.ts';
import { CrlWriter } from './crl-writer.ts';
import { isConstraint, isDatabaseFailure, isDuplicate } from './failure.ts';
import type { ReadStatements } from './read-statements.ts';
import { RegistrationWriter } from './registration-writer.ts';
import { RevocationWriter } from './revocation-writer.ts';
import type { Written } from './written.ts';

/** Writes batches inside a transaction that the caller begins and ends. */
export class BatchWriter {
  readonly #statements: ReturnType<typeof prepareBatch>;
  readonly #reads: ReadStatements;
  readonly #certificates: CertificateWriter;
  readonly #registrations: RegistrationWriter;
  readonly #revocations: RevocationWriter;
  readonly #crls: CrlWriter;

  constructor(db: Connection, reads: ReadStatements, pieces: CrlPieceWriter) {
    this.#statements = prepareBatch(db);
    this.#reads = reads;
    this.#certificates = new CertificateWriter(db, reads);
    this.#registrations = new RegistrationWriter(db, reads);
    this.#revocations = new RevocationWriter(db, reads);
    this.#crls = new CrlWriter(db, reads, pieces);
  }

  /**
   * Applies each mutation in a savepoint of its own and gives those that stand contiguous leaf indices in order. The
   * tree's size is read inside the transaction, so that a second process could not be given the same indices.
   */
  apply(mutations: readonly Mutation[]): MutationOutcome[] {
    let next = this.#reads.treeSize.get() ?? 0;
    return mutations.map((mutation) => {
      const outcome = this.#applyOne(mutation, next);
      if (outcome.status === 'committed') next += 1;
      return outcome;
    });
  }

  /** Stores signatures, each where none is yet, and the newest checkpoint note. */
  keepSigned(signed: SignedSoFar): void {
    for (const signature of signed.signatures) this.#keepSignature(signature);
    if (signed.checkpointNote !== undefined) this.#statements.checkpoint.run(signed.checkpointNote);
  }

  #applyOne(mutation: Mutation, leafIndex: number): MutationOutcome {
    this.#statements.savepoint.run();
    const written = this.#attempt(mutation, leafIndex);
    if (written !== undefined) this.#statements.rollback.run();
    this.#statements.release.run();
    return written ?? { status: 'committed', leafIndex };
  }

  #attempt(mutation: Mutation, leafIndex: number): Written {
    try {
      this.#append(mutation.leaf, leafIndex);
      return this.#write(mutation, leafIndex);
    } catch (error) {
      // Then the transaction as a whole is in doubt or already gone.
      if (isDatabaseFailure(error)) throw error;
      return refusal(error);
    }
  }

  #write(mutation: Mutation, leafIndex: number): Written {
    switch (mutation.kind) {
      case 'certificate':
        return this.#certificates.issue(mutation, leafIndex);
      case 'token':
        return this.#registrations.createToken(mutation, leafIndex);
      case 'token-revoked':
        return this.#registrations.revokeToken(mutation);
      case 'entry-created':
        return this.#registrations.createEntry(mutation, leafIndex);
      case 'entry-deleted':
        return this.#registrations.deleteEntry(mutation, leafIndex);
      case 'entry-suspended':
        return this.#registrations.suspend(mutation, leafIndex);
      case 'entry-resumed':
        return this.#registrations.resume(mutation, leafIndex);
      case 'revocation':
        return this.#revocations.revoke(mutation, leafIndex);
      case 'mass-revocation':
        return this.#revocations.begin(mutation, leafIndex);
      case 'mass-revocation-ended':
        return this.#revocations.end(mutation, leafIndex);
      case 'key-blocked':
        return this.#revocations.block(mutation);
      case 'crl':
        return this.#crls.record(mutation, leafIndex);
      case 'authority':
        return this.#registrations.putAuthority(mutation);
      case 'statement':
        return this.#state(mutation, leafIndex);
      case 'cross-certificate':
        this.#statements.crossCertify.run(leafIndex, mutation.chainPem);
        return undefined;
      case 'jwt-key': {
        const { issuerKeyId, keyId, publicKeySpki } = mutation.jwtKey;
        this.#statements.jwtKey.run(leafIndex, issuerKeyId, keyId, publicKeySpki);
        return undefined;
      }
      case 'operator':
        return undefined;
      default:
        mutation satisfies never;
        throw new Error('unknown kind of mutation');
    }
  }

  #state({ sequence, statement }: Extract<Mutation, { kind: 'statement' }>, leafIndex: number): undefined {
    const last = this.#statements.lastSequence.get() ?? null;
    if (last !== null && sequence <= last)
      throw new VouchError(
        'policy-conflict',
        `the statement's sequence must be above ${last}, the last one's`,
      );
    this.#statements.state.run(sequence, leafIndex, statement);
  }

  #append(leaf: LeafDraft, leafIndex: number): void {
    this.#statements.append.run(leafIndex, leaf.hash, leaf.bytes);
  }

  /** The first signature stays: after a crash the same TBS may be signed again, and both are valid. */
  #keepSignature({ kind, leafIndex, signature }: StoredSignature): void {
    if (kind === 'crl') {
      this.#crls.keepSignature(leafIndex, signature);
      return;
    }
    if (this.#statements.signCertificate.run(signature, leafIndex).changes > 0) return;
    assert(this.#statements.isCertificate.get(leafIndex) === 1, `leaf ${leafIndex} is a certificate`);
  }
}

function prepareBatch(db: Connection) {
  return {
    savepoint: db.prepare<[]>('SAVEPOINT mutation'),
    rollback: db.prepare<[]>('ROLLBACK TO mutation'),
    release: db.prepare<[]>('RELEASE mutation'),
    append: db.prepare<[number, Buffer, Buffer]>(
      'INSERT INTO leaves (leaf_index, hash, bytes) VALUES (?, ?, ?)',
    ),
    signCertificate: db.prepare<[Buffer, number]>(
      'UPDATE certificates SET signature = ? WHERE leaf_index = ? AND signature IS NULL',
    ),
    isCertificate: db.prepare<[number], number>('SELECT 1 FROM certificates WHERE leaf_index = ?').pluck(),
    lastSequence: db.prepare<[], number | null>('SELECT max(sequence) FROM statements').pluck(),
    state: db.prepare<[number, number, string]>(
      'INSERT INTO statements (sequence, leaf_index, jws) VALUES (?, ?, ?)',
    ),
    crossCertify: db.prepare<[number, string]>(
      'INSERT INTO cross_certificates (leaf_index, chain_pem) VALUES (?, ?)',
    ),
    jwtKey: db.prepare<[number, string, string, Buffer]>(
      'INSERT INTO jwt_keys (leaf_index, issuer_key_id, key_id, public_key) VALUES (?, ?, ?, ?)',
    ),
    checkpoint: db.prepare<[string]>('UPDATE marks SET checkpoint_note = ?'),
  };
}

function refusal(error: unknown): Written {
  if (isDuplicate(error))
    return {
      status: 'refused',
      code: 'policy-conflict',
      detail: 'a record of this name exists already; try again',
      cause: error,
    };
  if (isConstraint(error))
    return {
      status: 'refused',
      code: 'internal',
      detail: 'the database refused this record; the server log has the cause',
      cause: error,
    };
  const { code, detail, cause } = asVouchError(error);
  return { status: 'refused', code, detail, cause };
}
