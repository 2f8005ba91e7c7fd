import { generateKeyPairSync, hash, type KeyObject, sign } from 'node:crypto';
import { VouchError } from '../../src/core/errors.ts';
import { type JwtClaims, jwtSigningInput } from '../../src/core/jwt-svid.ts';
import { decodeCrlBody, decodeLeaf } from '../../src/log/leaf.ts';
import { Frontier, hashLeaf } from '../../src/log/merkle.ts';
import { assembleNote, checkpointBody, type LogKey } from '../../src/log/note.ts';
import type {
  AppendBatch,
  AppendItem,
  AppendResult,
  JwtKey,
  OcspKey,
  SignerState,
  SignerStatus,
  SignLogged,
} from '../../src/signer/port.ts';
import type { SupervisedSigner } from '../../src/signer/supervisor.ts';
import { buildResponseData, type OcspAnswer, type OcspIssuer } from '../../src/x509/ocsp.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import type { Checkpoint } from '../../src/log/checkpoint.ts';

/** A signer whose keys are in memory, and which misbehaves on request. */
export class SoftwareSigner implements SupervisedSigner {
  readonly #issuerKey: KeyObject;
  readonly #logPrivateKey: KeyObject;
  readonly #logKey: LogKey;
  #frontier = Frontier.empty();
  state: SignerState = 'usable';
  /** What `ready` waits for. */
  readonly started = Promise.withResolvers<Checkpoint>();
  /** What it was asked to append, in order, whether it did or not. */
  readonly asked: AppendBatch[] = [];
  /** Leaves and TBSs that were signed, for witnesses. */
  readonly signedLeaves: Buffer[] = [];
  /** CRLs that it was sent, by SHA-256 in hex; a respawned signer has none. */
  readonly uploads = new Map<string, Buffer>();
  /** Called before anything is signed. */
  beforeAppend: ((batch: AppendBatch) => void | Promise<void>) | undefined;
  /** Called when the tree has grown, before the answer: as long as the token takes. */
  beforeAnswer: ((batch: AppendBatch) => Promise<void>) | undefined;
  /** Changes each signature on its way out. */
  corrupt: ((signature: Buffer) => Buffer) | undefined;

  readonly #ocspPair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  /** Whose OCSP answers it signs; undefined: it has no key for that. */
  ocspIssuer: OcspIssuer | undefined;
  /** What it was asked to answer. */
  readonly answered: OcspAnswer[] = [];
  /** What it signs JWT-SVIDs with; undefined: it has no key for that. */
  jwtPair: { publicKey: KeyObject; privateKey: KeyObject } | undefined = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
  });
  /** What it was asked to sign. */
  readonly askedJwts: JwtClaims[] = [];

  constructor(keys: { issuerKey: KeyObject; logPrivateKey: KeyObject; logKey: LogKey }) {
    this.#issuerKey = keys.issuerKey;
    this.#logPrivateKey = keys.logPrivateKey;
    this.#logKey = keys.logKey;
  }

  /** Takes up leaves that were committed before it was there. */
  resume(leaves: readonly Buffer[]): string {
    for (const leaf of leaves) this.#frontier.append(hashLeaf(leaf));
    return this.#note();
  }

  get treeSize(): number {
    return this.#frontier.size;
  }

  ready(): Promise<Checkpoint> {
    return this.started.promise;
  }

  async upload(_issuerKeyId: string, chunks: Iterable<Buffer>): Promise<void> {
    if (this.state !== 'usable') throw away();
    const tbs = Buffer.concat([...chunks]);
    this.uploads.set(hash('sha256', tbs), tbs);
  }

  async append(batch: AppendBatch): Promise<AppendResult> {
    this.asked.push(batch);
    await this.beforeAppend?.(batch);
    if (this.state !== 'usable') throw away();
    if (batch.firstIndex !== this.#frontier.size) throw new VouchError('integrity-log', 'tree sizes differ');
    for (const item of batch.items) this.#frontier.append(hashLeaf(item.leaf));
    const signatures = batch.items.map((item) => this.#sign(item));
    const { name: origin } = this.#logKey;
    const head = { treeSize: this.#frontier.size, rootHash: this.#frontier.root() };
    const checkpoint = { origin, ...head, note: this.#note() };
    if (this.beforeAnswer) await this.beforeAnswer(batch);
    return { signatures, checkpoint };
  }

  async signLogged(request: SignLogged): Promise<Buffer> {
    if (this.state !== 'usable') throw away();
    const signature = this.#sign(request);
    if (signature instanceof Error) throw signature;
    if (!signature) throw new VouchError('request-malformed', 'a record has no signature');
    return signature;
  }

  ocspKey(): OcspKey | undefined {
    const publicKeySpki = this.#ocspPair.publicKey.export({ type: 'spki', format: 'der' });
    return this.ocspIssuer && { algorithm: 'ecdsa-sha256', publicKeySpki };
  }

  jwtKey(): JwtKey | undefined {
    return this.jwtPair && jwtKeyOf(this.jwtPair.publicKey);
  }

  async signJwt(_issuerKeyId: string, keyId: string, claims: JwtClaims): Promise<Buffer> {
    if (this.state !== 'usable' || !this.jwtPair || this.jwtKey()?.keyId !== keyId) throw away();
    this.askedJwts.push(claims);
    const input = Buffer.from(jwtSigningInput(keyId, claims));
    const signature = sign('sha256', input, { key: this.jwtPair.privateKey, dsaEncoding: 'ieee-p1363' });
    return this.corrupt ? this.corrupt(signature) : signature;
  }

  async signOcsp(_issuerKeyId: string, answer: OcspAnswer): Promise<Buffer> {
    const key = this.ocspKey();
    if (this.state !== 'usable' || !this.ocspIssuer || !key)
      throw new VouchError('unavailable-signer', 'the fake signer is away', { retryAfterSeconds: 1 });
    this.answered.push(answer);
    const data = buildResponseData(this.ocspIssuer, key.publicKeySpki, answer);
    return sign('sha256', data, this.#ocspPair.privateKey);
  }

  status(): SignerStatus {
    return {
      ...{ state: this.state, pid: undefined, restarts: 0, lastSuccessMs: undefined, sessions: undefined },
      ...{ problem: undefined, lastProblem: undefined },
      failures: { session: 0, login: 0, process: 0, start: 0, late: 0 },
    };
  }

  async retry(): Promise<SignerStatus> {
    return this.status();
  }

  async close(): Promise<void> {}

  #sign(item: AppendItem): Buffer | Error | undefined {
    if (item.purpose === 'record' || item.purpose === 'foreign') return undefined;
    const { body } = decodeLeaf(item.leaf);
    const signed =
      item.purpose === 'crl' ? this.uploads.get(decodeCrlBody(body).tbsSha256.toString('hex')) : body;
    if (!signed) return away();
    this.signedLeaves.push(item.leaf);
    const signature = sign('sha256', signed, this.#issuerKey);
    return this.corrupt ? this.corrupt(signature) : signature;
  }

  #note(): string {
    const body = checkpointBody({
      origin: this.#logKey.name,
      treeSize: this.#frontier.size,
      rootHash: this.#frontier.root(),
    });
    return assembleNote(body, [
      { key: this.#logKey, signature: sign(null, Buffer.from(body), this.#logPrivateKey) },
    ]);
  }
}

function away(): VouchError {
  return new VouchError('unavailable-signer', 'the fake signer is away', { retryAfterSeconds: 1 });
}

function jwtKeyOf(publicKey: KeyObject): JwtKey {
  const publicKeySpki = publicKey.export({ type: 'spki', format: 'der' });
  return { keyId: keyIdOf(publicKeySpki), publicKeySpki };
}
