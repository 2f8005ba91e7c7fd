import { verify } from 'node:crypto';
import type { Issuer } from '../../../src/issuance/issuer.ts';
import type { PublishedCrl } from '../../../src/revocation/published-crls.ts';
import type { ParsedCrl } from '../../../src/x509/crl.ts';
import { crlUrl } from '../../../src/core/publication.ts';
import { readPublished } from '../../support/crl-bytes.ts';
import { type Entry, dateOf, entriesIn, entryBytes, isRemoval } from './entries.ts';
import type { Event, Model } from './model.ts';

interface Parts {
  model: Model;
  issuer: Issuer;
  publicationUrl: string;
  validitySeconds: number;
  backdateSeconds: number;
  /** Has a sample read by somebody else's reader; returns what that finds. */
  secondReader: (crl: PublishedCrl, serials: readonly string[]) => string[];
}

type Listed = ReadonlyMap<string, string>;

/** What the world saw last of one scope, and what has to be on it. */
class Scope {
  crl: PublishedCrl | undefined;
  parsed: ParsedCrl | undefined;
  listed: Listed = new Map();
  /** Released in the life of the server that runs now. */
  isServed = false;
  /** What stands of the events that are covered. */
  readonly expected = new Map<string, Event>();
  #events = 0;

  /** Takes in the events that a CRL covers. */
  cover(model: Model, treeSize: number, isMine: (event: Event) => boolean): void {
    for (;;) {
      const event = model.log[this.#events];
      if (event === undefined || event.leafIndex >= treeSize) return;
      this.#events += 1;
      if (!isMine(event)) continue;
      if (event.date) this.expected.set(event.certificate.key, event);
      else this.expected.delete(event.certificate.key);
    }
  }
}

/** Full CRLs to go with a delta, beside its base: what clients may hold. */
const fullsKept = 3;

/** Holds every CRL that is published against the model: I5, from the bytes. */
export class Checker {
  readonly problems: string[] = [];
  published = 0;
  entriesRead = 0;
  readonly #parts: Parts;
  readonly #scopes = new Map<string, Scope>();
  /** By number, since the base. */
  readonly #fulls = new Map<bigint, Listed>();
  #base: PublishedCrl | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The server was started again: it begins with what the world saw last. */
  restarted(): void {
    for (const scope of this.#scopes.values()) scope.isServed = false;
  }

  /** After a start: everything that was served is served again. */
  checkServed(): void {
    for (const scope of this.#scopes.values())
      if (scope.crl && !scope.isServed) this.#problem(scope.crl, 'is served no more after a restart');
    this.#checkBase();
  }

  covers(scope: string): number {
    return this.#scopes.get(scope)?.crl?.coversTreeSize ?? 0;
  }

  entries(scope: string): number {
    return this.#scopes.get(scope)?.listed.size ?? 0;
  }

  newestThisUpdateSeconds(): number {
    return Math.max(0, ...[...this.#scopes.values()].map(({ crl }) => crl?.thisUpdateSeconds ?? 0));
  }

  /** Takes a CRL that the publisher released. */
  publish(crl: PublishedCrl): void {
    if (crl.scope === 'base') return this.#takeBase(crl);
    const scope = this.#scopes.get(crl.scope) ?? new Scope();
    this.#scopes.set(crl.scope, scope);
    const last = scope.crl;
    if (!scope.isServed && last?.crlNumber === crl.crlNumber) {
      if (!last.tbsSha256.equals(crl.tbsSha256)) this.#problem(crl, 'is another one of the same number');
      scope.isServed = true;
      return;
    }
    scope.isServed = true;
    this.published += 1;
    try {
      this.#checkNew(scope, crl);
    } catch (error) {
      this.#problem(crl, `cannot be read: ${error instanceof Error ? error.message : 'unknown'}`);
    }
  }

  #checkNew(scope: Scope, crl: PublishedCrl): void {
    const { model, issuer } = this.#parts;
    const parsed = readPublished(crl);
    if (!verify('sha256', parsed.tbs, issuer.publicKey, parsed.signature))
      this.#problem(crl, 'has a signature that does not verify');
    this.#checkHead(crl, parsed);
    if (scope.crl) this.#checkSuccession(scope.crl, crl);
    scope.cover(
      model,
      crl.coversTreeSize,
      isShard(crl.scope) ? ({ certificate }) => certificate.shard === crl.scope : () => true,
    );
    const entries = [...entriesIn(parsed.entries.bytes)];
    this.entriesRead += entries.length;
    const listed = new Map(entries.map(({ key, bytes }) => [key, bytes]));
    if (listed.size !== entries.length) this.#problem(crl, 'lists a serial twice');
    Object.assign(scope, { crl, parsed, listed });
    if (crl.scope === 'delta') this.#checkDelta(scope, crl, entries);
    else this.#checkList(scope, crl, entries);
    if (crl.scope === 'full') this.#remember(crl, listed);
    for (const problem of this.#parts.secondReader(crl, [...listed.keys()])) this.#problem(crl, problem);
  }

  #checkHead(crl: PublishedCrl, parsed: ParsedCrl): void {
    const { model, issuer, publicationUrl, validitySeconds, backdateSeconds } = this.#parts;
    const url = (scope: string): string => crlUrl(publicationUrl, issuer.keyId, scope);
    const { scope, crlNumber } = crl;
    const drafted = model.drafted.get(`${scope} ${crlNumber}`);
    const expect = (isSo: boolean, what: string): void => {
      if (!isSo) this.#problem(crl, what);
    };
    expect(drafted !== undefined, 'has a number that was never committed');
    expect(crl.url === url(scope), 'is served under another URL');
    expect(parsed.crlNumber === crlNumber, 'says another number');
    expect(parsed.thisUpdateSeconds === crl.thisUpdateSeconds, 'says another thisUpdate');
    expect(
      parsed.issuerName.equals(issuer.issuerName) && parsed.authorityKeyId === issuer.keyId,
      "is another issuer's",
    );
    expect(
      parsed.idp?.urls.join() === (isShard(scope) ? url(scope) : undefined),
      'has the wrong distribution point',
    );
    expect((parsed.deltaBase !== undefined) === (scope === 'delta'), 'has or lacks a delta indicator');
    expect(parsed.freshestUrls.join() === (scope === 'full' ? url('delta') : ''), 'has another freshest CRL');
    const { thisUpdateSeconds, nextUpdateSeconds } = parsed;
    const nowMs = drafted?.nowMs ?? 0;
    expect(thisUpdateSeconds * 1000 <= Math.min(nowMs), 'is dated in the future');
    expect(thisUpdateSeconds >= Math.floor(nowMs / 1000) - backdateSeconds, 'is dated too early');
    expect(nextUpdateSeconds >= thisUpdateSeconds + validitySeconds, 'ends too early');
  }

  #checkSuccession(last: PublishedCrl, crl: PublishedCrl): void {
    if (crl.crlNumber <= last.crlNumber)
      this.#problem(crl, `is older than ${last.crlNumber}, which was served`);
    if (crl.thisUpdateSeconds <= last.thisUpdateSeconds)
      this.#problem(crl, 'has a thisUpdate that does not rise');
    if (crl.nextUpdateSeconds < last.nextUpdateSeconds) this.#problem(crl, 'has a nextUpdate that falls');
    if (crl.coversTreeSize < last.coversTreeSize) this.#problem(crl, 'covers less of the log');
  }

  /** A shard or the full CRL: every standing serial that may not leave, as recorded, and nothing else. */
  #checkList(scope: Scope, crl: PublishedCrl, entries: readonly Entry[]): void {
    const { model } = this.#parts;
    for (const entry of entries) {
      const event = scope.expected.get(entry.key);
      if (event) this.#checkEntry(event, entry, crl);
      else this.#problem(crl, `lists ${hex(entry.key)}, which does not belong on it`);
    }
    const isScheduled = model.drafted.get(`${crl.scope} ${crl.crlNumber}`)?.scheduled === true;
    for (const [key, { certificate }] of scope.expected) {
      if (!scope.listed.has(key)) {
        if (!certificate.hasStood) this.#problem(crl, `lacks ${hex(key)}`);
        scope.expected.delete(key);
      } else if (isScheduled && crl.thisUpdateSeconds * 1000 > certificate.notAfterMs)
        certificate.hasStood = true;
    }
  }

  #checkDelta(scope: Scope, crl: PublishedCrl, entries: readonly Entry[]): void {
    for (const entry of entries) {
      const event = scope.expected.get(entry.key);
      if (!isRemoval(entry)) {
        if (event) this.#checkEntry(event, entry, crl);
        else this.#problem(crl, `lists ${hex(entry.key)}, which does not belong on it`);
      } else if (event && !event.certificate.hasStood)
        this.#problem(crl, `takes off ${hex(entry.key)} too early`);
      else if (!this.#parts.model.of(entry.key))
        this.#problem(crl, `takes off ${hex(entry.key)}, which never was on one`);
    }
    const deltaBase = scope.parsed?.deltaBase ?? 0n;
    if (this.#parts.model.drafted.get(`full ${deltaBase}`)?.base !== true)
      this.#problem(crl, `goes with ${deltaBase}, which is no base`);
    for (const [number, full] of this.#fulls)
      if (number >= deltaBase && number < crl.crlNumber) this.#checkTogether(full, scope, crl, number);
    this.#checkBase();
  }

  /** A full CRL and the delta say together what is true (RFC 5280 §5.2.4). */
  #checkTogether(full: Listed, { expected, listed }: Scope, delta: PublishedCrl, fullNumber: bigint): void {
    const wrong = (key: string, what: string): void =>
      this.#problem(delta, `with ${fullNumber} ${what} ${hex(key)}`);
    for (const [key, event] of expected) {
      const said = listed.get(key);
      const entry =
        said !== undefined && isRemoval({ key, bytes: said }) ? undefined : (said ?? full.get(key));
      if (entry === undefined) {
        if (!event.certificate.hasStood) wrong(key, 'lacks');
      } else if (entry !== this.#bytesOf(event)) wrong(key, 'says something else of');
    }
    for (const key of full.keys()) if (!expected.has(key) && !listed.has(key)) wrong(key, 'still lists');
  }

  #remember(crl: PublishedCrl, listed: Listed): void {
    const number = crl.crlNumber;
    this.#fulls.set(number, listed);
    const old = [...this.#fulls.keys()].filter(
      (one) => one !== this.#base?.crlNumber && !this.#mayBeBase(one),
    );
    for (const one of old.slice(0, -fullsKept)) this.#fulls.delete(one);
    const delta = this.#scopes.get('delta');
    if (delta?.crl && number >= (delta.parsed?.deltaBase ?? 0n) && number < delta.crl.crlNumber)
      this.#checkTogether(listed, delta, delta.crl, number);
  }

  /** The newest that was made as a base: the publisher says so right after it released it. */
  #mayBeBase(number: bigint): boolean {
    const bases = [...this.#fulls.keys()].filter((one) => this.#parts.model.drafted.get(`full ${one}`)?.base);
    return bases.at(-1) === number;
  }

  #takeBase(crl: PublishedCrl): void {
    if (this.#base && crl.crlNumber < this.#base.crlNumber)
      this.#problem(crl, 'is older than the base that was served');
    if (!this.#fulls.has(crl.crlNumber)) this.#problem(crl, 'was never served as the full CRL');
    this.#base = crl;
  }

  /** What the delta goes with is to be had. */
  #checkBase(): void {
    const { crl, parsed } = this.#scopes.get('delta') ?? {};
    if (crl && (this.#base === undefined || this.#base.crlNumber < (parsed?.deltaBase ?? 0n)))
      this.#problem(crl, 'goes with a base that is not to be had');
  }

  #checkEntry(event: Event, entry: Entry, crl: PublishedCrl): void {
    const { date } = event;
    if (date && date.seconds === undefined) {
      const seconds = dateOf(entry);
      const revokedSeconds = Math.floor(event.revokedAtMs / 1000);
      if (seconds > Math.min(revokedSeconds, crl.thisUpdateSeconds))
        this.#problem(crl, `dates ${hex(entry.key)} too late`);
      if (seconds < Math.min(revokedSeconds, date.earliestSeconds))
        this.#problem(crl, `dates ${hex(entry.key)} too early`);
      date.seconds = seconds;
    }
    if (entry.bytes !== this.#bytesOf(event))
      this.#problem(crl, `says something else of ${hex(entry.key)} than was recorded`);
  }

  #bytesOf(event: Event): string | undefined {
    const { certificate, date, reason, invalidityDateSeconds } = event;
    if (event.bytes === undefined && date?.seconds !== undefined)
      Object.assign(event, {
        bytes: entryBytes(certificate.key, date.seconds, reason, invalidityDateSeconds),
      });
    return event.bytes;
  }

  #problem(crl: PublishedCrl, what: string): void {
    this.problems.push(`CRL ${crl.scope} ${crl.crlNumber} ${what}`);
  }
}

function isShard(scope: string): boolean {
  return /^\d+$/.test(scope);
}

function hex(key: string): string {
  return Buffer.from(key, 'latin1').toString('hex');
}
