import type { Serial } from '../core/serial.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { type Issuer, issuerOf, signedBy } from '../issuance/issuer.ts';
import type { AuthorityRecord, StoreReader } from '../store/port.ts';
import { decisionContext, decodeCrlBody, decodeLeaf, decodeRevocationBody, type Leaf } from '../log/leaf.ts';
import { Frontier, hashLeaf } from '../log/merkle.ts';
import { openCheckpoint } from '../log/note.ts';
import { openStatement, type Statement } from '../log/statement.ts';
import { hash } from 'node:crypto';

/** The answer of `vouch log verify`. */
export interface LogVerification {
  treeSize: number;
  /** Hex. */
  rootHash: string;
  certificates: number;
  revocations: number;
  problems: string[];
}

/** Read in pieces, so that memory stays flat. */
const chunk = 1024;
/** More problems than this help nobody. */
const problemsMost = 100;

/**
 * Reads a whole state again, trusting nothing that a server says of it: recomputes the root from the leaves, checks
 * checkpoint and statement, and holds every certificate, revocation and CRL in the store against the log and the other
 * way round. A leaf whose artefact a crash left unsigned is no problem. `progress` is called with leaves done.
 */
export function verifyState(
  store: StoreReader,
  rootPin: string | undefined,
  progress: (done: number, of: number) => void,
): LogVerification {
  const problems: string[] = [];
  const report = (problem: string): void => {
    if (problems.length < problemsMost) problems.push(problem);
  };
  const note = store.checkpointNote();
  const treeSize = store.treeSize();
  const authorities = store.authorities();
  const statement = checkStatement(store.statement(), authorities, rootPin, report);
  const seen = new StateReading(store, authorities, report);
  const checkpoint =
    note === undefined || !statement
      ? undefined
      : attempt(() => openCheckpoint(note, statement.logKeys, statement.logKeys[0]?.name), report);
  const frontier = Frontier.empty();
  for (let from = 0; from < treeSize; from += chunk) {
    const to = Math.min(treeSize, from + chunk);
    const leaves = store.leaves(from, to);
    const hashes = store.leafHashes(from, to);
    if (leaves.length !== to - from) report(`leaves ${from} to ${to} are not all there`);
    for (const [position, bytes] of leaves.entries()) {
      const leafHash = hashLeaf(bytes);
      if (!hashes[position]?.equals(leafHash))
        report(`leaf ${from + position} does not have the hash that was stored with it`);
      frontier.append(leafHash);
      if (checkpoint && frontier.size === checkpoint.treeSize && !frontier.root().equals(checkpoint.rootHash))
        report(`the root over ${checkpoint.treeSize} leaves is not the one that the log key signed`);
      seen.leaf(from + position, bytes);
    }
    progress(to, treeSize);
  }
  if (note === undefined) report('no checkpoint is stored');
  if (checkpoint && checkpoint.treeSize > treeSize)
    report(
      `the checkpoint covers ${checkpoint.treeSize} leaves, the store has ${treeSize}: the state was rewound`,
    );
  seen.finish();
  return {
    treeSize,
    rootHash: frontier.root().toString('hex'),
    certificates: seen.certificates,
    revocations: seen.revocations,
    problems,
  };
}

function checkStatement(
  jws: string | undefined,
  authorities: readonly AuthorityRecord[],
  rootPin: string | undefined,
  report: (problem: string) => void,
): Statement | undefined {
  const root = authorities.find((authority) => authority.kind === 'root');
  if (!root) {
    report('no root is stored');
    return undefined;
  }
  const key = importPublicKey(parseCertificate(root.certificateDer).spki);
  if (rootPin !== undefined && rootPin !== `sha256:${key.sha256}`)
    report('the root is not the one that was pinned');
  if (jws === undefined) {
    report('no statement of the root is stored');
    return undefined;
  }
  return attempt(() => openStatement(jws, key.key), report);
}

function attempt<T>(work: () => T, report: (problem: string) => void): T | undefined {
  try {
    return work();
  } catch (error) {
    report(error instanceof Error ? error.message : 'unreadable');
    return undefined;
  }
}

/** Holds the store's rows against the leaves, both ways. */
class StateReading {
  certificates = 0;
  revocations = 0;
  readonly #store: StoreReader;
  readonly #issuers: ReadonlyMap<string, Issuer>;
  readonly #report: (problem: string) => void;
  readonly #rowsLeft = {
    certificates: 0,
    revocations: new Map<string, Serial>(),
    crls: new Map<number, string>(),
  };

  constructor(
    store: StoreReader,
    authorities: readonly AuthorityRecord[],
    report: (problem: string) => void,
  ) {
    this.#store = store;
    this.#report = report;
    this.#issuers = new Map(
      authorities.map(({ keyId, certificateDer }) => [keyId, issuerOf(certificateDer)]),
    );
    for (const revocation of store.allRevocations())
      this.#rowsLeft.revocations.set(`${revocation.leafIndex}`, revocation.serial);
    for (const crl of store.crls()) {
      this.#rowsLeft.crls.set(crl.leafIndex, hash('sha256', crl.tbs, 'hex'));
      if (crl.signature && !this.#signed(crl.issuerKeyId, crl.tbs, crl.signature))
        report(`the signature of CRL ${crl.crlNumber} (${crl.scope}) does not verify`);
    }
    this.#checkCertificateRows();
  }

  leaf(index: number, bytes: Buffer): void {
    const leaf = attempt(
      () => decodeLeaf(bytes),
      (problem) => this.#report(`leaf ${index}: ${problem}`),
    );
    if (leaf?.type === 'certificate') this.#certificateLeaf(index);
    if (leaf?.type === 'revocation') this.#revocationLeaf(index, leaf);
    if (leaf?.type === 'crl') this.#crlLeaf(index, leaf);
  }

  finish(): void {
    if (this.#rowsLeft.certificates !== 0)
      this.#report('the store has certificates that the log does not have');
    for (const serial of this.#rowsLeft.revocations.values())
      this.#report(`the revocation of ${serial} is not in the log`);
    for (const index of this.#rowsLeft.crls.keys())
      this.#report(`the CRL of leaf ${index} is not in the log`);
  }

  #certificateLeaf(index: number): void {
    this.certificates += 1;
    this.#rowsLeft.certificates -= 1;
    const row = this.#store.certificatesByLeaf(index, 1)[0];
    if (row?.leafIndex !== index) this.#report(`leaf ${index} is a certificate that the store does not have`);
  }

  #revocationLeaf(index: number, leaf: Leaf): void {
    this.revocations += 1;
    const { serial } = decodeRevocationBody(leaf.body);
    if (
      this.#rowsLeft.revocations.get(`${index}`) !== serial &&
      this.#store.revocation(leaf.issuerKeyId, serial)?.leafIndex !== index
    )
      this.#report(`leaf ${index} revokes ${serial}, which the store does not know as revoked`);
    this.#rowsLeft.revocations.delete(`${index}`);
  }

  #crlLeaf(index: number, leaf: Leaf): void {
    const stored = this.#rowsLeft.crls.get(index);
    if (stored !== undefined && stored !== decodeCrlBody(leaf.body).tbsSha256.toString('hex'))
      this.#report(`the CRL of leaf ${index} is another than was logged`);
    this.#rowsLeft.crls.delete(index);
  }

  #checkCertificateRows(): void {
    let from = 0;
    for (
      let rows = this.#store.certificatesByLeaf(from, chunk);
      rows.length > 0;
      rows = this.#store.certificatesByLeaf(from, chunk)
    ) {
      this.#rowsLeft.certificates += rows.length;
      for (const row of rows) {
        const bytes = this.#store.leaves(row.leafIndex, row.leafIndex + 1)[0];
        const leaf =
          bytes &&
          attempt(
            () => decodeLeaf(bytes),
            () => undefined,
          );
        if (!leaf?.body.equals(row.tbs))
          this.#report(`certificate ${row.serial} differs from leaf ${row.leafIndex}`);
        if (leaf && !leaf.context.equals(decisionContext(row.salt, row.decision)))
          this.#report(`the decision on ${row.serial} differs from leaf ${row.leafIndex}`);
        if (row.signature && !this.#signed(row.issuerKeyId, row.tbs, row.signature))
          this.#report(`the signature of ${row.serial} does not verify`);
        from = row.leafIndex + 1;
      }
    }
  }

  #signed(issuerKeyId: string, tbs: Buffer, signature: Buffer): boolean {
    const issuer = this.#issuers.get(issuerKeyId);
    return issuer !== undefined && signedBy(issuer, tbs, signature);
  }
}
