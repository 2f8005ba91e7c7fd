import { hash } from 'node:crypto';
import { asVouchError } from '../../src/core/errors.ts';
import { type Issuer, signedBy } from '../../src/issuance/issuer.ts';
import { encodeLeaf } from '../../src/log/leaf.ts';
import { type LogKey, openCheckpoint } from '../../src/log/note.ts';
import { type ParsedCertificate, parseCertificate } from '../../src/x509/certificate.ts';
import { CrlHistory } from './crl-history.ts';
import type { KillsEvent, ReceivedCertificate } from './history.ts';
import type { StateReading } from './state-reading.ts';
import type { Verdicts } from './verdicts.ts';

/** A certificate that some client got, signed by the issuer: a witness for all time. */
export interface Witness {
  serial: string;
  tbsSha256: string;
  acked: boolean;
  /** Where its answer said it stands, and the whole leaf rebuilt from certificate and proof. */
  leaf: { index: number; sha256: string } | undefined;
}

/**
 * The history checker. It takes what clients, operator and reader saw in their order, and holds it against itself, and,
 * when asked, against the state on disk.
 */
export class Checker {
  readonly #issuer: Issuer;
  readonly #logKey: LogKey;
  readonly #verdicts: Verdicts;
  readonly #crls: CrlHistory;
  /** By TBS hash. */
  readonly #witnesses = new Map<string, Witness>();
  readonly #tbsOfSerial = new Map<string, string>();
  /** Of each token: its id, then the TBS hash that it gave. */
  readonly #givenBy = new Map<string, string>();
  readonly #tokens = new Set<string>();
  /** Root hashes by tree size, of every checkpoint that anybody was shown. */
  readonly #roots = new Map<number, Buffer>();
  /** Largest tree in an answer so far, at the `atNs` of each answer that raised it. */
  readonly #largest: { atNs: number; treeSize: number }[] = [];
  #publicSize = 0;
  #killedNs = 0;
  /** Of a server that is ready again, and the tree that was answered before its predecessor was killed. */
  #ready = { atNs: Number.POSITIVE_INFINITY, atLeast: 0 };
  #acked = 0;
  #fresh: Witness[] = [];

  constructor(parts: { issuer: Issuer; logKey: LogKey; verdicts: Verdicts }) {
    this.#issuer = parts.issuer;
    this.#logKey = parts.logKey;
    this.#verdicts = parts.verdicts;
    this.#crls = new CrlHistory(parts.issuer, parts.verdicts);
  }

  /** Certificates that a client was answered with, believed, and keeps. */
  get acked(): number {
    return this.#acked;
  }

  /** Those of them that came since the last call. */
  freshlyAcked(): Witness[] {
    return this.#fresh.splice(0);
  }

  ackedSerials(): Set<string> {
    const acked = [...this.#witnesses.values()].filter((witness) => witness.acked);
    return new Set(acked.map((witness) => witness.serial));
  }

  /** Revocations that an operator was answered with. */
  get revoked(): number {
    return this.#crls.revoked;
  }

  take(event: KillsEvent): void {
    switch (event.kind) {
      case 'killed':
        this.#killedNs = event.atNs;
        break;
      case 'ready':
        this.#ready = { atNs: event.atNs, atLeast: this.#largestBefore(this.#killedNs) };
        break;
      case 'token':
        this.#tokens.add(event.tokenId);
        break;
      case 'certificate':
        this.#takeCertificate(event);
        break;
      case 'revoked':
        this.#crls.takeRevocation(event);
        break;
      case 'crl':
        this.#crls.take(event);
        break;
      case 'checkpoint':
        this.#takePublicCheckpoint(event);
        break;
      case 'fault':
        this.#verdicts.add(event.verdict, event.what);
        break;
      case 'revoking':
      case 'drained':
        break;
    }
  }

  /** At the end, when the operator is answered and everything was read once more. */
  finish(): void {
    this.#crls.finish();
  }

  /** Holds all that was ever seen against the state on disk, read after it was seen. */
  compare(state: StateReading): void {
    for (const witness of this.#witnesses.values()) this.#compareWitness(witness, state);
    for (const tokenId of this.#tokens)
      if (!state.tokenIds.has(tokenId)) this.#verdicts.add('lost', `the join token ${tokenId} is gone`);
    for (const [treeSize, rootHash] of this.#roots) this.#compareRoot(treeSize, rootHash, state);
    this.#crls.compare(state);
    for (const serial of state.repeatedSerials)
      this.#verdicts.add('duplicates', `the serial ${serial} stands in two certificates`);
    for (const tokenId of state.overusedTokens)
      this.#verdicts.add('duplicates', `the join token ${tokenId} of one use gave two certificates`);
  }

  #takeCertificate(event: ReceivedCertificate & { atNs: number }): void {
    const certificate = this.#issued(event.der);
    if (certificate === undefined) {
      // Half a certificate is no signature; a whole answer that a client believed always is one.
      if (event.acked) this.#verdicts.add('faults', 'a client believes a certificate that does not verify');
      return;
    }
    const tbsSha256 = hash('sha256', certificate.tbs);
    const known = this.#witnesses.get(tbsSha256);
    const leaf = event.proof === undefined ? known?.leaf : leafOf(certificate, event.proof);
    if (known?.leaf !== undefined && leaf?.sha256 !== known.leaf.sha256)
      this.#verdicts.add('regressions', `two answers give two leaves for ${certificate.serial}`);
    const acked = event.acked || known?.acked === true;
    const witness = { serial: certificate.serial, tbsSha256, acked, leaf };
    this.#witnesses.set(tbsSha256, witness);
    if (event.acked && known?.acked !== true) {
      this.#acked += 1;
      this.#fresh.push(witness);
    }
    this.#crls.takeCertificate(certificate);
    if (!this.#isOnly(this.#tbsOfSerial, certificate.serial, tbsSha256))
      this.#verdicts.add('duplicates', `the serial ${certificate.serial} stands in two certificates`);
    if (event.tokenId !== undefined && !this.#isOnly(this.#givenBy, event.tokenId, tbsSha256))
      this.#verdicts.add('duplicates', `the join token ${event.tokenId} of one use gave two certificates`);
    if (event.proof !== undefined) this.#takeAnsweredCheckpoint(event, event.proof.checkpoint);
  }

  #isOnly(first: Map<string, string>, name: string, value: string): boolean {
    const before = first.get(name) ?? value;
    first.set(name, before);
    return before === value;
  }

  /** Undefined for bytes that are not a certificate with the issuer's signature. */
  #issued(der: Buffer): ParsedCertificate | undefined {
    try {
      const certificate = parseCertificate(der);
      return signedBy(this.#issuer, certificate.tbs, certificate.signature) ? certificate : undefined;
    } catch {
      return undefined;
    }
  }

  /** What was answered first is in the tree of whoever asked after it. */
  #takeAnsweredCheckpoint({ atNs, sentNs }: { atNs: number; sentNs: number }, note: string): void {
    const treeSize = this.#remember(note);
    if (treeSize === undefined) return;
    const before = this.#largestBefore(sentNs);
    if (treeSize < before)
      this.#verdicts.add('regressions', `an answer has a tree of ${treeSize}, ${before} was answered before`);
    if (treeSize > (this.#largest.at(-1)?.treeSize ?? 0)) this.#largest.push({ atNs, treeSize });
  }

  #largestBefore(ns: number): number {
    return this.#largest.findLast((one) => one.atNs < ns)?.treeSize ?? 0;
  }

  /**
   * The public one may lag behind answers, but it never falls, and after a restart it has all that was answered before
   * the kill.
   */
  #takePublicCheckpoint({ sentNs, note }: { sentNs: number; note: string }): void {
    const treeSize = this.#remember(note);
    if (treeSize === undefined) return;
    if (treeSize < this.#publicSize)
      this.#verdicts.add('regressions', `the public checkpoint fell from ${this.#publicSize} to ${treeSize}`);
    this.#publicSize = Math.max(this.#publicSize, treeSize);
    const { atNs, atLeast } = this.#ready;
    if (sentNs > atNs && treeSize < atLeast)
      this.#verdicts.add(
        'regressions',
        `the restarted server shows a tree of ${treeSize}, ${atLeast} was answered`,
      );
  }

  /** Its size; undefined for a note that the log key did not sign. */
  #remember(note: string): number | undefined {
    try {
      const { treeSize, rootHash } = openCheckpoint(note, [this.#logKey], this.#logKey.name);
      const known = this.#roots.get(treeSize) ?? rootHash;
      if (!known.equals(rootHash))
        this.#verdicts.add('regressions', `two checkpoints of ${treeSize} leaves have different roots`);
      this.#roots.set(treeSize, known);
      return treeSize;
    } catch (error) {
      this.#verdicts.add('regressions', `a checkpoint does not verify: ${asVouchError(error).detail}`);
      return undefined;
    }
  }

  #compareWitness({ serial, tbsSha256, acked, leaf }: Witness, state: StateReading): void {
    const index = state.certificateLeaves.get(tbsSha256);
    if (index === undefined)
      this.#verdicts.add('orphans', `${serial} is signed, and its TBS is in no leaf of the log`);
    else if (leaf !== undefined && state.leafSha256(leaf.index) !== leaf.sha256)
      this.#verdicts.add('orphans', `leaf ${leaf.index} is not the one that the proof of ${serial} says`);
    const row = state.certificates.get(serial);
    if (acked && (row === undefined || row.tbsSha256 !== tbsSha256 || row.leafIndex !== index))
      this.#verdicts.add('lost', `the store does not have ${serial} as its client does`);
  }

  #compareRoot(treeSize: number, rootHash: Buffer, state: StateReading): void {
    if (treeSize > state.treeSize)
      this.#verdicts.add(
        'regressions',
        `the store has ${state.treeSize} leaves, a checkpoint of ${treeSize} was shown`,
      );
    else if (!state.rootOf(treeSize)?.equals(rootHash))
      this.#verdicts.add('regressions', `the store's first ${treeSize} leaves are not those that were shown`);
  }

  /** Tree sizes whose roots `compare` asks for. */
  get shownSizes(): ReadonlySet<number> {
    return new Set(this.#roots.keys());
  }
}

/** The leaf from nothing but the certificate and its proof (docs/log-format.md). */
function leafOf(
  certificate: ParsedCertificate,
  proof: { index: number; timeMs: number; context: Buffer },
): Witness['leaf'] {
  const bytes = encodeLeaf({
    type: 'certificate',
    timeMs: proof.timeMs,
    issuerKeyId: certificate.authorityKeyId ?? '',
    body: certificate.tbs,
    context: proof.context,
  });
  return { index: proof.index, sha256: hash('sha256', bytes) };
}
