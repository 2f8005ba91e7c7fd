import { hash } from 'node:crypto';
import type { StateRows, StoredCertificate } from '../store/rows-port.ts';
import { decisionContext, type Leaf } from '../log/leaf.ts';
import { parseTbsCertificate } from '../x509/certificate.ts';
import type { Authorities } from './authorities.ts';
import { LeafRows } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 256;
const saltBytes = 16;

/**
 * Holds every certificate's row against its leaf, field by field: serial, names, dates and key from the TBS, issuer and
 * time from the leaf, entry, token and predecessor from the decision that the leaf commits to. A row without signature
 * is what a crash leaves.
 */
export class CertificateCheck {
  count = 0;
  readonly #rows: LeafRows<StoredCertificate>;
  readonly #authorities: Authorities;
  readonly #problems: Problems;

  constructor(rows: StateRows, authorities: Authorities, problems: Problems) {
    this.#rows = new LeafRows(rows.certificates, pageRows, (row) =>
      problems.add(`certificate ${row.serial} of leaf ${row.leafIndex} is not in the log`),
    );
    this.#authorities = authorities;
    this.#problems = problems;
  }

  leaf(leaf: Leaf, index: number): void {
    if (leaf.type !== 'certificate') return;
    this.count += 1;
    const row = this.#rows.at(index);
    if (row) this.#problems.attempt(`certificate of leaf ${index}`, () => this.#compare(row, leaf));
    else this.#problems.add(`leaf ${index} is a certificate that the store does not have`);
  }

  finish(): void {
    this.#rows.finish();
  }

  #compare(row: StoredCertificate, leaf: Leaf): void {
    const tbs = parseTbsCertificate(leaf.body);
    const what = `certificate ${tbs.serial} of leaf ${row.leafIndex}`;
    this.#problems.compare(what, row, {
      issuerKeyId: leaf.issuerKeyId,
      serial: tbs.serial,
      spiffeId: tbs.uris[0],
      spkiSha256: hash('sha256', tbs.spki, 'hex'),
      notBeforeMs: tbs.notBeforeMs,
      notAfterMs: tbs.notAfterMs,
      issuedAtMs: leaf.timeMs,
      tbs: leaf.body,
    });
    if (tbs.authorityKeyId !== leaf.issuerKeyId)
      this.#problems.add(`${what}: its authority key id is not the issuer of its leaf`);
    if (row.signature && !this.#authorities.signed(leaf.issuerKeyId, leaf.body, row.signature))
      this.#problems.add(`${what}: its signature does not verify`);
    if (row.salt.length === saltBytes && decisionContext(row.salt, row.decision).equals(leaf.context))
      this.#compareDecision(what, row, tbs.serial);
    else this.#problems.add(`${what}: its decision or salt is not what the leaf commits to`);
  }

  /** What came before is an earlier leaf's row, held against that leaf already. */
  #compareDecision(what: string, row: StoredCertificate, serial: string): void {
    const decision = JSON.parse(row.decision) as Decision;
    const { entry = null, predecessor = null, agent = null } = decision;
    // What an agent asks for stands with that agent, and any other renewal where its predecessor does.
    const { node = agent === null ? row.predecessorNode : null } = decision;
    const tokenId = predecessor === null ? (decision.evidence?.tokenId ?? null) : row.predecessorTokenId;
    const lineage = predecessor === null ? serial : row.predecessorLineage;
    this.#problems.compare(what, row, { entryId: entry, tokenId, predecessor, lineage, agent, node });
    if (agent !== row.entryParentId)
      this.#problems.add(`${what}: asked for by ${agent}, the parent of its entry is ${row.entryParentId}`);
    if (agent !== null && row.agentHadSerial !== decision.agentSerial)
      this.#problems.add(`${what}: its agent had no certificate ${decision.agentSerial} before`);
    if (row.operator !== row.tokenCreatedBy)
      this.#problems.add(`${what}: operator is ${row.operator}, its token was made by ${row.tokenCreatedBy}`);
    if (predecessor === null && tokenId !== null && row.useRecorded === 0)
      this.#problems.add(`${what}: its use of the token ${tokenId} is not recorded`);
  }
}

/** Of a decision, what columns repeat. */
interface Decision {
  entry?: string;
  predecessor?: string;
  agent?: string;
  agentSerial?: string;
  node?: string;
  evidence?: { tokenId?: string };
}
