import type { StateRows, StoredCrl, StoredRevocation } from '../store/rows-port.ts';
import { type ParsedTbsCrl, parseTbsCrl } from '../x509/crl.ts';
import type { ParsedRevoked } from '../x509/crl-entries.ts';
import type { StoredHead } from './crl-scope.ts';
import type { Problems } from './verification.ts';

/** The DER TBSCertList of a row. */
export function storedTbs(rows: StateRows, { head, pieces, tail }: StoredCrl): Buffer {
  return Buffer.concat([head, ...rows.crlPieces(pieces), tail]);
}

/** All events of one serial, the first first; the last one counts. */
export type Events = readonly [StoredRevocation, ...StoredRevocation[]];

/** The entries of one CRL, walked beside the revocations in serial order. */
export class ListedCrl {
  readonly scope: string;
  readonly crlNumber: string;
  /** Number of the full CRL that a delta goes with. */
  readonly deltaBase: string | undefined;
  /** Of the serial that was taken last. */
  entry: ParsedRevoked | undefined;
  readonly #covers: number;
  readonly #what: string;
  readonly #problems: Problems;
  readonly #entries: Iterator<ParsedRevoked>;
  #next: ParsedRevoked | undefined;

  /** Throws `request-malformed` for bytes that are no CRL. */
  constructor(head: StoredHead, tbs: Buffer, problems: Problems) {
    const crl: ParsedTbsCrl = parseTbsCrl(tbs);
    this.scope = head.scope;
    this.crlNumber = head.crlNumber;
    this.deltaBase = crl.deltaBase?.toString();
    this.#covers = head.coversTreeSize;
    this.#what = `CRL ${head.crlNumber} (${head.scope}) of leaf ${head.leafIndex}`;
    this.#problems = problems;
    this.#entries = crl.revoked()[Symbol.iterator]();
    if (!crl.ascending) problems.add(`${this.#what}: its serials do not rise`);
    this.#advance();
  }

  /** Takes the entry of these events' serial, and says what is wrong with it by what the CRL covers, or that it is missing. */
  take(events: Events): void {
    this.#takeEntry(events);
    const { entry } = this;
    // One that was imported by a restore covers nothing of this log.
    if (this.#covers === 0) this.#compareImported(events, entry);
    else if (entry) this.#compareListed(events, entry);
    else if (this.#standing(events) && !hasLeft(events)) this.#missing(events, 'it');
  }

  /** The same of a delta and the CRL that it goes with: both together say what a full one would. */
  takeDelta(events: Events, base: ListedCrl | undefined): void {
    this.#takeEntry(events);
    const { entry } = this;
    const standing = this.#standing(events);
    if (entry?.reason === 'removeFromCRL') {
      if (standing && !hasLeft(events) && this.#covers > 0)
        this.#problem(`it takes ${standing.serial} off, which stands`);
    } else if (this.#covers === 0) this.#compareImported(events, entry);
    else if (entry) this.#compareListed(events, entry);
    else if (base?.entry && standing) this.#compare(standing, base.entry, 'with its base it');
    else if (base?.entry) this.#problem(`it leaves ${events[0].serial} on its base, which was released`);
    else if (base && standing && !hasLeft(events)) this.#missing(events, 'with its base it');
  }

  finish(): void {
    while (this.#next) this.#stranger(this.#next);
  }

  #takeEntry([{ serial }]: Events): void {
    while (this.#next && this.#next.serial < serial) this.#stranger(this.#next);
    this.entry = this.#next?.serial === serial ? this.#next : undefined;
    if (this.entry) this.#advance();
  }

  /** What counted by the leaves that it covers. */
  #covered(events: Events): StoredRevocation | undefined {
    return events.findLast(({ leafIndex }) => leafIndex < this.#covers);
  }

  #standing(events: Events): StoredRevocation | undefined {
    const covered = this.#covered(events);
    return covered?.reason === 'removeFromCRL' ? undefined : covered;
  }

  #compareListed(events: Events, entry: ParsedRevoked): void {
    const covered = this.#covered(events);
    if (!covered) this.#problem(`it covers ${this.#covers} leaves and lists leaf ${events[0].leafIndex}`);
    else if (covered.reason === 'removeFromCRL')
      this.#problem(`it lists ${covered.serial}, which was released by leaf ${covered.leafIndex}`);
    else this.#compare(covered, entry, 'it');
  }

  #compareImported(events: Events, entry: ParsedRevoked | undefined): void {
    if (entry && !events.some((event) => differences(event, entry).length === 0))
      this.#compare(events[events.length - 1] ?? events[0], entry, 'it');
  }

  #compare(event: StoredRevocation, entry: ParsedRevoked, who: string): void {
    for (const [name, onCrl, inStore] of differences(event, entry))
      this.#problem(`${who} gives ${event.serial} the ${name} ${onCrl}, the store ${inStore}`);
  }

  #missing(events: Events, who: string): void {
    const { leafIndex, serial } = this.#covered(events) ?? events[0];
    this.#problem(`${who} covers leaf ${leafIndex} and does not list ${serial}`);
  }

  #stranger({ serial }: ParsedRevoked): void {
    this.#problem(`it lists ${serial}, which the store does not know as revoked by its issuer`);
    this.#advance();
  }

  #problem(problem: string): void {
    this.#problems.add(`${this.#what}: ${problem}`);
  }

  #advance(): void {
    const next = this.#entries.next();
    this.#next = next.done === true ? undefined : next.value;
  }
}

type Difference = [name: string, onCrl: string | number | null, inStore: string | number | null];

/** It expired and need not stand any more, whether it does or not. */
function hasLeft(events: Events): boolean {
  return events.at(-1)?.mayLeave === 1;
}

function differences(event: StoredRevocation, entry: ParsedRevoked): Difference[] {
  const said: Difference[] = [
    ['reason', entry.reason, event.reason],
    ['date', entry.dateSeconds, event.crlDateSeconds],
    ['invalidity date', entry.invalidityDateSeconds ?? null, event.invalidityDateSeconds],
  ];
  return said.filter(([, onCrl, inStore]) => onCrl !== inStore);
}
