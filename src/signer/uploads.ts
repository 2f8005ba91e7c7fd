import { createHash } from 'node:crypto';
import { assert } from '../core/errors.ts';
import { digestOf, type SignatureAlgorithm } from '../x509/algorithm.ts';
import type { ParsedCrlHead } from '../x509/crl.ts';
import { CrlStreamReader } from '../x509/crl-stream.ts';
import type { Signable } from './hsm.ts';
import { type RequestedUpload, uploadsAtOnce } from './protocol.ts';

/** A TBSCertList that was read while it came. */
export interface UploadedCrl {
  head: ParsedCrlHead;
  sha256: Buffer;
  /** What a key of this algorithm, one of those that were announced, signs. */
  signable: (algorithm: SignatureAlgorithm) => Signable;
}

/** Every shard of some issuers, and their full and delta CRLs. */
const rememberedMax = 2048;
/** Of the bytes that are kept for Ed25519, besides those of the newest one. */
const keptBytesMax = 64 * 1024 * 1024;

/**
 * The CRLs that were sent to this signer to be signed: read, hashed and forgotten but for what they say. A leaf names
 * one by the hash that was computed here. What is never ended, or not asked for again, gives way to what comes.
 */
export class Uploads {
  readonly #algorithms: ReadonlySet<SignatureAlgorithm>;
  /** By number; the last is the one that grew last. */
  readonly #underWay = new Map<number, Upload>();
  /** By SHA-256 in hex; the last is the one that was sent or asked for last. */
  readonly #read = new Map<string, UploadedCrl & { keptBytes: number }>();

  /** `algorithms`: of the keys that may sign them. */
  constructor(algorithms: Iterable<SignatureAlgorithm>) {
    this.#algorithms = new Set(algorithms);
  }

  /** Takes the next part of one. Throws `request-malformed` where it is no TBSCertList; nothing of it is kept then. */
  take({ upload: number, part, last }: RequestedUpload): void {
    const upload = this.#underWay.get(number) ?? new Upload(this.#algorithms);
    this.#underWay.delete(number);
    upload.push(part);
    if (last) this.#remember(upload.end());
    else {
      this.#underWay.set(number, upload);
      if (this.#underWay.size > uploadsAtOnce) dropFirst(this.#underWay);
    }
  }

  /** The one with this SHA-256. */
  get(sha256: Buffer): UploadedCrl | undefined {
    const name = sha256.toString('hex');
    const found = this.#read.get(name);
    if (found) {
      this.#read.delete(name);
      this.#read.set(name, found);
    }
    return found;
  }

  #remember(crl: UploadedCrl & { keptBytes: number }): void {
    const name = crl.sha256.toString('hex');
    this.#read.delete(name);
    let kept = 0;
    for (const { keptBytes } of this.#read.values()) kept += keptBytes;
    while (this.#read.size >= rememberedMax || kept > keptBytesMax)
      kept -= dropFirst(this.#read)?.keptBytes ?? 0;
    this.#read.set(name, crl);
  }
}

/** One on its way. Its bytes are kept only for Ed25519, which takes them twice. */
class Upload {
  readonly #reader = new CrlStreamReader();
  readonly #hashes: ReadonlyMap<string, ReturnType<typeof createHash>>;
  readonly #kept: Buffer[] | undefined;

  constructor(algorithms: ReadonlySet<SignatureAlgorithm>) {
    const digests = new Set(['sha256', ...[...algorithms].flatMap((algorithm) => digestOf[algorithm] ?? [])]);
    this.#hashes = new Map([...digests].map((name) => [name, createHash(name)]));
    if (algorithms.has('ed25519')) this.#kept = [];
  }

  push(part: Buffer): void {
    this.#reader.push(part);
    for (const hash of this.#hashes.values()) hash.update(part);
    this.#kept?.push(part);
  }

  end(): UploadedCrl & { keptBytes: number } {
    const head = this.#reader.end();
    const digests = new Map([...this.#hashes].map(([name, hash]) => [name, hash.digest()]));
    const bytes = this.#kept && Buffer.concat(this.#kept);
    const sha256 = digests.get('sha256');
    assert(sha256, 'SHA-256 is computed of each');
    const signable = (algorithm: SignatureAlgorithm): Signable => {
      const name = digestOf[algorithm];
      const digest = name === null ? undefined : digests.get(name);
      const found = digest ? { digest } : bytes;
      assert(found, 'an algorithm that was announced');
      return found;
    };
    return { head, sha256, signable, keptBytes: bytes?.length ?? 0 };
  }
}

/** Takes away what has been there for longest. */
function dropFirst<Key, Value>(map: Map<Key, Value>): Value | undefined {
  const [first] = map;
  if (first) map.delete(first[0]);
  return first?.[1];
}
