import { hash, randomBytes } from 'node:crypto';
import { newSerial } from '../../../src/core/serial.ts';
import type { TrustDomain } from '../../../src/core/spiffe-id.ts';
import { type Issuer, signedBy } from '../../../src/issuance/issuer.ts';
import type { Checkpoint } from '../../../src/log/checkpoint.ts';
import { crlBody, encodeLeaf, jsonBody, type Leaf } from '../../../src/log/leaf.ts';
import { Frontier, hashLeaf, inclusionPath, type RangeHash, rangeHasher } from '../../../src/log/merkle.ts';
import type { LogKey } from '../../../src/log/note.ts';
import type { AppendResult, Purpose } from '../../../src/signer/port.ts';
import {
  decodeAppendResult,
  decodeCheckpoint,
  protocolVersion,
  type Request,
  type RequestedItem,
} from '../../../src/signer/protocol.ts';
import { buildCertificateTbs, type CertificateTemplate } from '../../../src/x509/certificate-tbs.ts';
import { buildCrlTbs, type CrlTemplate } from '../../../src/x509/crl-tbs.ts';
import { emptyName } from '../../../src/x509/name.ts';
import { keyIdOf } from '../../../src/x509/public-key.ts';
import { freshKey, publicationUrl } from '../../support/software-authority.ts';

/** A signer as whoever owns the server reaches it, and what the attacker may do around it. */
export interface SignerTarget {
  trustDomain: TrustDomain;
  issuer: Issuer;
  logKey: LogKey;
  /** What the log held before the attack, and its newest checkpoint; none of both for a new log. */
  leaves: readonly Buffer[];
  checkpoint: string | undefined;
  nowSeconds(): number;
  /** One request of the wire protocol; rejects with what the signer refused. */
  ask(request: Request): Promise<Buffer>;
  /** The signer is ended as an orderly stop does, and started again; it has taken up no tree then. */
  restart(): Promise<void>;
  /** The signer is killed and started again: what is not on disk by then is lost. */
  crash(): Promise<void>;
  /** Text of the floor that the signer keeps in the state directory; to be put back by the attacker. */
  readFloor(): Promise<string>;
  writeFloor(text: string | undefined): Promise<void>;
  close(): Promise<void>;
}

/** An item, and the TBSCertList of a CRL, which is sent before it. */
export type HostileItem = RequestedItem & { tbs?: Buffer };

/** What a signer can be told to begin from. */
interface ResumeLie {
  genesis?: boolean;
  size?: number;
  note?: string;
  peaks?: Buffer[];
  consistency?: Buffer[];
}

/** An attacker who has taken the server: knows every leaf and checkpoint, speaks the protocol, has no key. */
export class HostileServer {
  readonly target: SignerTarget;
  readonly leaves: Buffer[];
  /** Checkpoint notes by tree size: each was signed by the log's key once. */
  readonly notes = new Map<number, string>();
  /** Every tree head that was signed, as size and root. */
  readonly #heads = new Set<string>();
  #crlNumber: bigint;

  constructor(target: SignerTarget) {
    this.target = target;
    this.#crlNumber = BigInt(target.nowSeconds()) * 1000n;
    this.leaves = [...target.leaves];
    if (target.checkpoint !== undefined)
      this.notes.set(Number(target.checkpoint.split('\n')[1]), target.checkpoint);
  }

  /** Greets the signer and takes up the tree as an honest server does. */
  async begin(): Promise<void> {
    await this.greet();
    const [size, note] = [...this.notes].at(-1) ?? [0, ''];
    await this.resume({ size, note, genesis: note === '' });
  }

  async greet(): Promise<void> {
    await this.target.ask({ op: 'hello', version: protocolVersion });
  }

  /** Has the signer take up a tree; by default the true one from its newest checkpoint. */
  async resume(lie: ResumeLie & { leaves?: Buffer[] } = {}): Promise<Checkpoint> {
    const size = lie.size ?? this.#newest();
    await this.target.ask(this.resumeRequest(lie));
    await this.target.ask({ op: 'leaves', leaves: lie.leaves ?? this.leaves.slice(size) });
    return this.finishResume();
  }

  /** The request that begins to take up a tree; by default the true one from its newest checkpoint. */
  resumeRequest(lie: ResumeLie = {}): Request {
    const { genesis = false, size = this.#newest() } = lie;
    const checkpoint = lie.note ?? this.notes.get(size) ?? '';
    const peaks = lie.peaks ?? frontierOf(this.leaves.slice(0, size)).peaks();
    return { op: 'resume', genesis, checkpoint, peaks, consistency: lie.consistency ?? [] };
  }

  /** Ends taking up. */
  async finishResume(): Promise<Checkpoint> {
    return this.#noted(decodeCheckpoint(await this.target.ask({ op: 'resumed' })));
  }

  /** Sizes for which two trees were signed. */
  forks(): string[] {
    const sizes = [...this.#heads].map((head) => head.split(' ')[0] ?? '');
    return sizes.filter((size, at) => sizes.indexOf(size) !== at);
  }

  /** Appends items where the tree ends. */
  async append(...items: readonly HostileItem[]): Promise<AppendResult> {
    for (const { tbs } of items)
      if (tbs) await this.target.ask({ op: 'upload', upload: 1, part: tbs, last: true });
    const request: Request = { op: 'append', firstIndex: this.leaves.length, items: [...items] };
    const result = decodeAppendResult(await this.target.ask(request));
    this.leaves.push(...items.map((item) => item.leaf));
    if (result.checkpoint.treeSize === this.leaves.length) this.#noted(result.checkpoint);
    return result;
  }

  /** What the signer made of one item: `signed` where a signature over `tbs` came, else the refusal's code. */
  async verdict(item: HostileItem, tbs = item.tbs): Promise<string> {
    const [signature] = (await this.append(item)).signatures;
    return this.verdictOn(signature, tbs ?? Buffer.alloc(0));
  }

  verdictOn(signature: Buffer | Error | undefined, tbs: Buffer): string {
    if (signature === undefined) return 'recorded';
    if (Buffer.isBuffer(signature))
      return signedBy(this.target.issuer, tbs, signature) ? 'signed' : 'signed something';
    return 'code' in signature ? String(signature.code) : signature.message;
  }

  /** Root of the tree that the attacker has logged honestly. */
  root(): Buffer {
    return frontierOf(this.leaves).root();
  }

  /** Audit path in a tree of these leaves. */
  pathTo(index: number, leaves: readonly Buffer[] = this.leaves): Buffer[] {
    return inclusionPath(index, leaves.length, rangeOver(leaves));
  }

  /** TBS of a certificate that any signer signs, but for what is changed. */
  certificateTbs(over: Partial<CertificateTemplate> = {}): Buffer {
    const { issuer, trustDomain } = this.target;
    const now = this.target.nowSeconds();
    const spki = over.spki ?? freshKey().spki;
    return buildCertificateTbs({
      serial: newSerial(0x2a, randomBytes),
      algorithm: issuer.algorithm,
      issuerName: issuer.issuerName,
      subjectName: emptyName,
      notBeforeSeconds: now - 60,
      notAfterSeconds: now + 3599,
      spki,
      uris: [`spiffe://${trustDomain}/orders`],
      dnsNames: ['orders.test.example'],
      ipAddresses: [],
      authorityKeyId: issuer.keyId,
      subjectKeyId: keyIdOf(spki),
      crlUrls: [`${publicationUrl}/crl/${issuer.keyId}/3.crl`],
      ...over,
    });
  }

  certificate(tbs: Buffer, purpose: Purpose = 'certificate', over: Partial<Leaf> = {}): RequestedItem {
    return { purpose, leaf: this.leaf({ type: 'certificate', body: tbs, ...over }) };
  }

  nextCrlNumber(): bigint {
    this.#crlNumber += 1n;
    return this.#crlNumber;
  }

  crlTbs(over: Partial<CrlTemplate> = {}): Buffer {
    const { issuer } = this.target;
    const now = this.target.nowSeconds();
    return buildCrlTbs({
      algorithm: issuer.algorithm,
      issuerName: issuer.issuerName,
      thisUpdateSeconds: now - 60,
      nextUpdateSeconds: now + 86_400,
      authorityKeyId: issuer.keyId,
      crlNumber: this.nextCrlNumber(),
      revoked: [],
      ...over,
    });
  }

  /** A CRL whose leaf says what is given here, whatever the TBSCertList says. */
  crl(tbs: Buffer, said: { crlNumber: bigint; scope?: string }): HostileItem {
    const { crlNumber, scope = 'full' } = said;
    const body = crlBody({ scope, crlNumber, tbsSha256: hash('sha256', tbs, 'buffer') });
    return { purpose: 'crl', leaf: this.leaf({ type: 'crl', body }), tbs };
  }

  /** A CRL that any signer signs, but for what is changed. */
  goodCrl(over: Partial<CrlTemplate> & { scope?: string } = {}): HostileItem {
    const { scope = 'full', ...template } = over;
    const crlNumber = over.crlNumber ?? this.nextCrlNumber();
    const idpUrl =
      scope === 'full' ? undefined : `${publicationUrl}/crl/${this.target.issuer.keyId}/${scope}.crl`;
    return this.crl(this.crlTbs({ idpUrl, ...template, crlNumber }), { crlNumber, scope });
  }

  record(): RequestedItem {
    const leaf = this.leaf({
      type: 'operator',
      issuerKeyId: '',
      body: jsonBody({ event: randomBytes(4).toString('hex') }),
    });
    return { purpose: 'record', leaf };
  }

  leaf(over: Partial<Leaf> & Pick<Leaf, 'type' | 'body'>): Buffer {
    const issuerKeyId = this.target.issuer.keyId;
    const timeMs = this.target.nowSeconds() * 1000;
    return encodeLeaf({ timeMs, issuerKeyId, context: randomBytes(32), ...over });
  }

  #newest(): number {
    return Math.max(0, ...this.notes.keys());
  }

  #noted(checkpoint: Checkpoint): Checkpoint {
    this.notes.set(checkpoint.treeSize, checkpoint.note);
    this.#heads.add(`${checkpoint.treeSize} ${checkpoint.rootHash.toString('hex')}`);
    return checkpoint;
  }
}

/** Frontier over leaves. */
export function frontierOf(leaves: readonly Buffer[]): Frontier {
  const frontier = Frontier.empty();
  for (const leaf of leaves) frontier.append(hashLeaf(leaf));
  return frontier;
}

function rangeOver(leaves: readonly Buffer[]): RangeHash {
  return rangeHasher({
    node: (level, index) => frontierOf(leaves.slice(index << level, (index + 1) << level)).root(),
  });
}
