import { hash } from 'node:crypto';
import type { StoreReader } from '../store/port.ts';
import type { AuthorityRecord, RevocationRecord, StateIdentity } from '../store/records.ts';
import type { StoredCrossCertificate, StoredStatement } from '../store/rows-port.ts';
import type { Leaf } from '../log/leaf.ts';
import { openTranscript } from '../ceremony/transcript.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { decodePem } from '../x509/pem.ts';
import { keyIdOf } from '../x509/public-key.ts';
import type { Authorities } from './authorities.ts';
import { bodyOf, type JsonBody, textOf } from './json-body.ts';
import { LeafRows } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 16;

/**
 * Holds identity, authorities and statements against the leaves of the ceremonies that made them: nothing of them
 * without a leaf, nothing in a leaf that the store lacks, and all that the root signed was in the log before.
 */
export class CeremonyCheck {
  readonly #identity: StateIdentity;
  readonly #authorities: Authorities;
  readonly #problems: Problems;
  readonly #statements: LeafRows<StoredStatement>;
  readonly #crossCertificates: LeafRows<StoredCrossCertificate>;
  readonly #created = new Map<string, JsonBody>();
  /** SHA-256 of what the root was to sign. */
  readonly #announced = new Set<unknown>();
  /** The same of each statement that came of it. */
  readonly #stated = new Set<string>();
  /** Of issuers whose state changed: the last leaf that says so, and its body. */
  readonly #changed = new Map<string, JsonBody>();
  readonly #store: StoreReader;
  #isInitialized = false;

  constructor(store: StoreReader, authorities: Authorities, problems: Problems) {
    this.#store = store;
    this.#identity = store.identity();
    this.#authorities = authorities;
    this.#problems = problems;
    this.#statements = new LeafRows(store.rows().statements, pageRows, (row) =>
      problems.add(`the statement ${row.sequence} of leaf ${row.leafIndex} is not in the log`),
    );
    this.#crossCertificates = new LeafRows(store.rows().crossCertificates, pageRows, (row) =>
      problems.add(`the cross-certificate of leaf ${row.leafIndex} is not in the log`),
    );
  }

  leaf(leaf: Leaf, index: number): void {
    if (leaf.type === 'certificate') this.#certificate(leaf, index);
    if (leaf.type !== 'authority') return;
    const body = bodyOf(leaf);
    if (body.event === 'statement') this.#statement(body, index);
    else if (body.event === 'cross-certified') this.#crossCertified(body, index);
    else if (body.event === 'state') this.#stateChanged(body, index);
    else if (body.event === 'transcript') this.#transcript(body, index);
    else if (!this.#isFirst(body)) this.#problems.add(`leaf ${index} says again what an earlier one said`);
  }

  /**
   * A ceremony says each thing once: what it makes has serials and times that nothing else has. Only a statement that was
   * announced and did not come, as at a crash, is announced again, and a CSR has neither serial nor time.
   */
  #isFirst(body: JsonBody): boolean {
    const { event, tbsSha256 } = body;
    if (event === 'to-be-signed' && body.kind === 'root-csr') return true;
    const keyId = textOf(body.keyId);
    const isAgain =
      (event === 'initialized' && this.#isInitialized) ||
      (isAnnouncement(event) &&
        (body.kind === 'statement' ? this.#stated : this.#announced).has(textOf(tbsSha256))) ||
      (event === 'created' && this.#created.has(keyId));
    if (event === 'initialized') this.#initialized(body);
    if (isAnnouncement(event)) this.#announced.add(tbsSha256);
    if (event === 'created') this.#created.set(keyId, body);
    return !isAgain;
  }

  finish(): void {
    if (!this.#isInitialized) this.#problems.add('the log does not say whose state this is');
    this.#statements.finish();
    this.#crossCertificates.finish();
    const unseen = new Map(this.#created);
    for (const record of this.#authorities.records) {
      const body = this.#created.get(record.keyId);
      unseen.delete(record.keyId);
      const what = `authority ${record.keyId}`;
      if (body) this.#problems.attempt(what, () => this.#compare(what, record, body));
      else this.#problems.add(`${what} is not in the log`);
    }
    for (const keyId of unseen.keys())
      this.#problems.add(`authority ${keyId} is in the log and the store does not have it`);
  }

  #initialized(body: JsonBody): void {
    this.#isInitialized = true;
    const { stateId, trustDomain, logOrigin, serialPrefix, shardCount, createdAtMs } = body;
    const expected = { stateId, trustDomain, logOrigin, serialPrefix, shardCount, createdAtMs };
    this.#problems.compare("the state's identity", this.#identity, expected);
  }

  #statement(body: JsonBody, index: number): void {
    const row = this.#statements.at(index);
    const what = `the statement of leaf ${index}`;
    if (!row) {
      this.#problems.add(`${what} is one that the store does not have`);
      return;
    }
    const sha256 = hash('sha256', row.jws, 'hex');
    this.#problems.compare(what, { ...row, sha256 }, { sequence: body.sequence, sha256: body.sha256 });
    const signingInput = row.jws.slice(0, row.jws.lastIndexOf('.'));
    const tbsSha256 = hash('sha256', signingInput, 'hex');
    this.#requireAnnounced(what, tbsSha256);
    this.#stated.add(tbsSha256);
  }

  /** What a CA above certified is the root's key. */
  #crossCertified(body: JsonBody, index: number): void {
    const row = this.#crossCertificates.at(index);
    const what = `the cross-certificate of leaf ${index}`;
    if (!row) {
      this.#problems.add(`${what} is one that the store does not have`);
      return;
    }
    const { keyId, certificateSha256, chainSha256 } = body;
    this.#problems.compare(what, { chainSha256: hash('sha256', row.chainPem, 'hex') }, { chainSha256 });
    this.#problems.attempt(what, () => {
      const [der = Buffer.alloc(0)] = decodePem(row.chainPem, 'CERTIFICATE');
      const found = {
        keyId: keyIdOf(parseCertificate(der).spki),
        certificateSha256: hash('sha256', der, 'hex'),
      };
      this.#problems.compare(what, found, { keyId, certificateSha256 });
      if (!this.#authorities.isRoot(found.keyId)) this.#problems.add(`${what} is not of the root's key`);
    });
  }

  /** An issuer that was active or prepared becomes something else; never again what it was. */
  #stateChanged(body: JsonBody, index: number): void {
    const keyId = textOf(body.keyId);
    const what = `the new state of ${keyId}, leaf ${index}`;
    const record = this.#authorities.records.find((one) => one.keyId === keyId);
    if (record?.kind !== 'issuer' || !this.#created.has(keyId))
      this.#problems.add(`${what}: no such issuer is in the log before`);
    const revoked =
      body.serial === undefined || record === undefined ? undefined : this.#revocationOf(record);
    if (body.serial !== undefined && revoked?.serial !== body.serial)
      this.#problems.add(`${what}: the store does not know ${textOf(body.serial)} as revoked by the root`);
    this.#changed.set(keyId, body);
  }

  #revocationOf({ certificateDer }: AuthorityRecord): RevocationRecord | undefined {
    const { serial } = parseCertificate(certificateDer);
    const root = this.#authorities.records.find(({ kind }) => kind === 'root');
    return root && this.#store.revocation(root.keyId, serial);
  }

  /** The transaction refuses what an issuer issues that is active no more. */
  #certificate({ issuerKeyId }: Leaf, index: number): void {
    const state = this.#changed.get(issuerKeyId)?.state;
    if (state !== undefined && state !== 'active')
      this.#problems.add(
        `leaf ${index} is a certificate of ${issuerKeyId}, which was ${textOf(state)} by then`,
      );
  }

  /** What was written where the root is: the same root signed it. */
  #transcript(body: JsonBody, index: number): void {
    const what = `the transcript of leaf ${index}`;
    this.#problems.attempt(what, () => {
      const root = this.#authorities.records.find(
        ({ keyId, kind }) => keyId === body.rootKeyId && kind === 'root',
      );
      const [header = '', payload = '', signature = ''] = textOf(body.jws).split('.');
      if (!root) this.#problems.add(`${what} is of a root that the store does not have`);
      else
        openTranscript(Buffer.from(payload, 'base64url'), `${header}..${signature}`, {
          spki: parseCertificate(root.certificateDer).spki,
          algorithm: root.algorithm,
        });
    });
  }

  #compare(what: string, record: AuthorityRecord, body: JsonBody): void {
    const { kind, certificateSha256 } = body;
    const state = this.#changed.get(record.keyId)?.state ?? body.state;
    // Leaves of the first version say no algorithm: every root was P-384 then, every issuer P-256.
    const algorithm = body.algorithm ?? (kind === 'root' ? 'ecdsa-sha384' : 'ecdsa-sha256');
    const row = { ...record, certificateSha256: hash('sha256', record.certificateDer, 'hex') };
    this.#problems.compare(what, row, { kind, state, algorithm, certificateSha256 });
    const { tbs, signature, authorityKeyId } = parseCertificate(record.certificateDer);
    this.#requireAnnounced(what, hash('sha256', tbs, 'hex'));
    if (this.#authorities.issuer(record.keyId)?.keyId !== record.keyId)
      this.#problems.add(`${what}: its certificate is of another key`);
    // A root that was adopted may name no key above it (RFC 5280 §4.2.1.1).
    const root = authorityKeyId ?? (record.kind === 'root' ? record.keyId : '');
    if (!this.#authorities.isRoot(root) || !this.#authorities.signed(root, tbs, signature))
      this.#problems.add(`${what}: its certificate is not signed by the root`);
  }

  #requireAnnounced(what: string, tbsSha256: string): void {
    if (!this.#announced.has(tbsSha256))
      this.#problems.add(`${what}: what the root signed was not in the log before`);
  }
}

/** That the root would sign something, or that a root was taken as it was. */
function isAnnouncement(event: unknown): boolean {
  return event === 'to-be-signed' || event === 'adopted';
}
