import { createHash } from 'node:crypto';
import { encodePem } from '../../x509/pem.ts';
import { trustDomainId } from '../../core/spiffe-id.ts';
import { crlPemInSlices } from '../deliver/files.ts';
import { type Frame, frameOfParts, sharedMinBytes } from '../grpc/frame.ts';
import type { Served, Svid } from '../workloads.ts';
import { certificateSecret, responseOf, type Secret, validationSecret } from './messages.ts';

/** The response to who asks for some secrets, made once for all who ask for the same. */
export interface Answer {
  /** Of the content: equal for equal secrets. */
  version: string;
  frame: Frame;
}

/** The CRLs as they stand in all answers; SHA-256 of the text, lower-case hex. */
interface CrlText {
  parts: readonly Buffer[];
  hash: string;
}

/** A secret by name, for one caller: an SVID's key and chain, or whom that SVID's entry, or the trust domain, lets call. */
interface Item {
  name: string;
  isContext: boolean;
  svid: Svid | undefined;
}

const allowedClients = 'allowed-clients';
/** A workload may ask by many sets of names. Without the bytes of the CRLs, which all share. The newest is always kept. */
const keptAnswers = { most: 1_000, bytes: 128 * 1024 * 1024 };

/**
 * What is served at one time, as secrets of Envoy by name. A certificate: its SPIFFE ID, or `default` for the first.
 * Whom to trust: the trust domain's id, `ROOTCA` or `ALL` for everybody of the trust domain who is not revoked;
 * `allowed-clients:<SPIFFE ID>` for those of them whom that entry lets call, `allowed-clients` for the first SVID's.
 */
export class Secrets {
  readonly #served: Served;
  /** By what is in them; bytes once they are made. Oldest first. */
  readonly #answers = new Map<string, { answer: Promise<Answer>; bytes: number }>();
  #crls: Promise<CrlText> | undefined;

  /** Takes over the text of the CRLs from `before` where they are the same: a rotation mostly changes certificates alone. */
  constructor(served: Served, before?: Secrets) {
    this.#served = served;
    const { crls } = served.trust;
    if (before !== undefined && areSame(crls, before.#served.trust.crls)) this.#crls = before.#crls;
  }

  /** For a caller with these SVIDs. Leaves out what is not the caller's; undefined where that is every name. */
  answer(svids: readonly Svid[], names: readonly string[]): Promise<Answer> | undefined {
    const items = [...new Set(names)].flatMap((name) => this.#find(name, svids) ?? []);
    if (items.length === 0) return undefined;
    const key = items
      .map(({ name, svid }) => `${name} ${svid?.entryId ?? ''}`)
      .sort()
      .join('\n');
    const known = this.#answers.get(key);
    if (known !== undefined) return known.answer;
    const kept = { answer: this.#make(items), bytes: 0 };
    this.#answers.set(key, kept);
    return kept.answer.then(async (answer) => {
      const shared = new Set((await this.#crls)?.parts);
      kept.bytes = answer.frame.reduce((sum, part) => sum + (shared.has(part) ? 0 : part.length), 0);
      this.#forgetOldest(key);
      return answer;
    });
  }

  #forgetOldest(newest: string): void {
    let bytes = [...this.#answers.values()].reduce((sum, kept) => sum + kept.bytes, 0);
    for (const [key, kept] of this.#answers) {
      if (this.#answers.size <= keptAnswers.most && bytes <= keptAnswers.bytes) return;
      if (key === newest) continue;
      this.#answers.delete(key);
      bytes -= kept.bytes;
    }
  }

  /** Who names nothing is given all of these. */
  namesOf(svids: readonly Svid[]): readonly string[] {
    return [...svids.map(({ spiffeId }) => spiffeId), this.#domain];
  }

  get #domain(): string {
    return trustDomainId(this.#served.trust.trustDomain);
  }

  #find(name: string, svids: readonly Svid[]): Item | undefined {
    if ([this.#domain, 'ROOTCA', 'ALL'].includes(name)) return { name, isContext: true, svid: undefined };
    const isContext = name === allowedClients || name.startsWith(`${allowedClients}:`);
    const id = isContext ? name.slice(allowedClients.length + 1) || 'default' : name;
    const svid = id === 'default' ? svids[0] : svids.find(({ spiffeId }) => spiffeId === id);
    return svid && { name, isContext, svid };
  }

  async #make(items: readonly Item[]): Promise<Answer> {
    const made = await Promise.all(
      items.map(async (item) => (item.isContext ? this.#context(item) : this.#certificate(item))),
    );
    const version = hashOf(made.map(({ hash }) => hash).sort()).slice(0, 32);
    const secrets = made.map(({ secret }) => secret);
    return { version, frame: frameOfParts(responseOf(version, secrets)) };
  }

  #certificate({ name, svid }: Item): { secret: Secret; hash: string } {
    if (svid === undefined) throw new Error('a certificate without an SVID');
    const chainPem = svid.chain.map((der) => encodePem('CERTIFICATE', der)).join('');
    const secret = certificateSecret(name, chainPem, encodePem('PRIVATE KEY', svid.keyPkcs8));
    return { secret, hash: hashOf([name, chainPem]) };
  }

  async #context({ name, svid }: Item): Promise<{ secret: Secret; hash: string }> {
    this.#crls ??= readCrls(this.#served.trust.crls);
    const crls = await this.#crls;
    const rootsPem = this.#served.trust.roots.map((der) => encodePem('CERTIFICATE', der)).join('');
    // An empty list would let in everybody: the reserved name is nobody's.
    const callers =
      svid && (svid.allowedClients.length > 0 ? svid.allowedClients : [`${this.#domain}/vouch/nobody`]);
    const secret = validationSecret(name, { rootsPem, crlsPem: crls.parts, callers });
    return { secret, hash: hashOf([name, rootsPem, crls.hash, ...(callers ?? [])]) };
  }
}

function areSame(crls: readonly Buffer[], others: readonly Buffer[]): boolean {
  return crls.length === others.length && crls.every((crl, index) => crl === others[index]);
}

async function readCrls(crls: readonly Buffer[]): Promise<CrlText> {
  const hash = createHash('sha256');
  const parts: Buffer[] = [];
  let pending: Buffer[] = [];
  let bytes = 0;
  for await (const part of crlPemInSlices(crls)) {
    hash.update(part);
    pending.push(Buffer.from(part, 'latin1'));
    bytes += part.length;
    if (bytes < sharedMinBytes) continue;
    parts.push(Buffer.concat(pending));
    pending = [];
    bytes = 0;
  }
  if (bytes > 0) parts.push(Buffer.concat(pending));
  return { parts, hash: hash.digest('hex') };
}

/** SHA-256, lower-case hex, of some texts and where each ends. */
function hashOf(texts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(texts)).digest('hex');
}
