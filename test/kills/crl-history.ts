import { hash } from 'node:crypto';
import { type Issuer, signedBy } from '../../src/issuance/issuer.ts';
import type { ParsedCertificate } from '../../src/x509/certificate.ts';
import { type ParsedCrl, parseCrl } from '../../src/x509/crl.ts';
import type { StateReading } from './state-reading.ts';
import type { Verdicts } from './verdicts.ts';

interface ServedCrl {
  crl: ParsedCrl;
  serials: ReadonlySet<string>;
}

interface AckedRevocation {
  serial: string;
  /** When an answer said `published`; undefined where it said `recorded, not published`. */
  publishedNs: number | undefined;
}

const readsKept = 64;

/** Every CRL that was ever served, and every revocation that an operator was answered with. */
export class CrlHistory {
  readonly #issuer: Issuer;
  readonly #verdicts: Verdicts;
  /** What each URL gave last. */
  readonly #served = new Map<string, ServedCrl>();
  /** The last reads, oldest first. */
  readonly #reads: { url: string; sentNs: number; served: ServedCrl }[] = [];
  /** Scope and number → SHA-256 of the TBSCertList. */
  readonly #numbered = new Map<string, string>();
  readonly #revocations = new Map<string, AckedRevocation>();
  /** The revocationDate that a serial was first served with. */
  readonly #dates = new Map<string, number>();
  /** Where the CRL of a certificate is, by its serial. */
  readonly #distributionPoints = new Map<string, string>();

  constructor(issuer: Issuer, verdicts: Verdicts) {
    this.#issuer = issuer;
    this.#verdicts = verdicts;
  }

  get revoked(): number {
    return this.#revocations.size;
  }

  takeCertificate({ serial, crlUrls }: ParsedCertificate): void {
    const [url] = crlUrls;
    if (url !== undefined) this.#distributionPoints.set(serial, url);
  }

  takeRevocation(event: { atNs: number; serials: readonly string[]; published: boolean }): void {
    for (const serial of event.serials) {
      const publishedNs =
        this.#revocations.get(serial)?.publishedNs ?? (event.published ? event.atNs : undefined);
      this.#revocations.set(serial, { serial, publishedNs });
      // It comes from another process: what was read after it may have come before.
      for (const { url, sentNs, served } of this.#reads)
        if (publishedNs !== undefined && publishedNs < sentNs) this.#requireListed(serial, url, served);
    }
  }

  take({ url, der, sentNs }: { url: string; der?: Buffer; sentNs: number }): void {
    const before = this.#served.get(url);
    const now = der === undefined ? before : this.#read(url, der);
    if (now === undefined) return;
    if (before !== undefined && before !== now) this.#compareNeighbours(url, before.crl, now.crl);
    this.#served.set(url, now);
    this.#reads.push({ url, sentNs, served: now });
    this.#reads.splice(0, this.#reads.length - readsKept);
    for (const { serial, publishedNs } of this.#revocations.values())
      if (publishedNs !== undefined && publishedNs < sentNs) this.#requireListed(serial, url, now);
  }

  /** Every acked revocation is on the last CRLs. */
  finish(): void {
    for (const { serial } of this.#revocations.values())
      for (const [url, served] of this.#served) this.#requireListed(serial, url, served);
  }

  compare(state: StateReading): void {
    for (const [name, tbsSha256] of this.#numbered)
      if (state.crlLeaves.get(name) !== tbsSha256)
        this.#verdicts.add('orphans', `the CRL ${name} was served, and is in no leaf of the log`);
    for (const problem of state.crlProblems) this.#verdicts.add('regressions', problem);
    for (const { serial } of this.#revocations.values()) {
      const index = state.revocations.get(serial);
      if (index === undefined || state.revocationLeaves.get(index) !== serial)
        this.#verdicts.add('lost', `the revocation of ${serial} was answered and is not in store and log`);
    }
  }

  #read(url: string, der: Buffer): ServedCrl | undefined {
    let crl: ParsedCrl;
    try {
      crl = parseCrl(der);
    } catch {
      this.#verdicts.add('faults', `${url} does not parse`);
      return undefined;
    }
    if (!signedBy(this.#issuer, crl.tbs, crl.signature)) {
      this.#verdicts.add('faults', `the signature of ${url} does not verify`);
      return undefined;
    }
    const name = `${crlScope(url)} ${crl.crlNumber}`;
    const tbsSha256 = hash('sha256', crl.tbs);
    if ((this.#numbered.get(name) ?? tbsSha256) !== tbsSha256)
      this.#verdicts.add('regressions', `two CRLs are ${name}`);
    this.#numbered.set(name, tbsSha256);
    const serials = new Set<string>();
    for (const { serial, dateSeconds } of crl.revoked()) {
      serials.add(serial);
      if (!this.#hasDate(serial, dateSeconds))
        this.#verdicts.add('regressions', `the revocation date of ${serial} changed with CRL ${name}`);
    }
    return { crl, serials };
  }

  #hasDate(serial: string, dateSeconds: number): boolean {
    const fixed = this.#dates.get(serial) ?? dateSeconds;
    this.#dates.set(serial, fixed);
    return fixed === dateSeconds;
  }

  /** What rises never falls (I5). */
  #compareNeighbours(url: string, before: ParsedCrl, now: ParsedCrl): void {
    const scope = crlScope(url);
    if ((now.crlNumber ?? -1n) <= (before.crlNumber ?? -1n))
      this.#verdicts.add('regressions', `CRL ${scope} ${before.crlNumber} was followed by ${now.crlNumber}`);
    if (now.thisUpdateSeconds <= before.thisUpdateSeconds)
      this.#verdicts.add('regressions', `thisUpdate of CRL ${scope} ${now.crlNumber} does not rise`);
    if (now.nextUpdateSeconds < before.nextUpdateSeconds)
      this.#verdicts.add('regressions', `nextUpdate of CRL ${scope} ${now.crlNumber} falls`);
  }

  #requireListed(serial: string, url: string, { crl, serials }: ServedCrl): void {
    const scope = crlScope(url);
    const isFor = scope === 'full' || this.#distributionPoints.get(serial) === url;
    if (isFor && !serials.has(serial))
      this.#verdicts.add(
        'regressions',
        `the revocation of ${serial} was answered, CRL ${scope} ${crl.crlNumber} lacks it`,
      );
  }
}

/** `full`, `delta`, `base`, or the shard's number. */
function crlScope(url: string): string {
  return /\/crl\/[0-9a-f]{40}\/(\d+|delta|base)\.crl$/.exec(url)?.[1] ?? 'full';
}
