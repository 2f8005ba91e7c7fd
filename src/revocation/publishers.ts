import type { RevocationRecord } from '../store/records.ts';
import type { LastCrls } from './last-crls.ts';
import type { PublishedCrl } from './published-crls.ts';
import type { CrlPublisher } from './publisher.ts';
import { baseScope } from './revoked-lists.ts';

/** Which CRLs no others follow. */
interface Ends {
  last: Pick<LastCrls, 'areLast' | 'look'>;
  /** Those that were the last ones when the server started: they are served, and nothing is published any more. */
  stored: readonly PublishedCrl[];
}

const noEnds: Ends = { last: { areLast: () => false, look: () => Promise.resolve() }, stored: [] };

/** The CRLs of all issuers: each has a publisher of its own, and one whose signer is away holds up no other. */
export class CrlPublishers {
  readonly #publishers: readonly CrlPublisher[];
  readonly #ends: Ends;

  constructor(publishers: readonly CrlPublisher[], ends: Ends = noEnds) {
    this.#publishers = publishers;
    this.#ends = ends;
  }

  async start(): Promise<void> {
    await Promise.all(this.#publishers.map((publisher) => publisher.start()));
  }

  async publishDue(): Promise<void> {
    for (const publisher of this.#going()) publisher.publishDue();
    await this.#ends.last.look(this.#publishers.map(({ issuerKeyId }) => issuerKeyId));
  }

  /** Whether the last CRLs of this issuer are out: all that it issued has expired. */
  hasEnded(issuerKeyId: string): boolean {
    const of = this.#publishers.find((publisher) => publisher.issuerKeyId === issuerKeyId);
    return of === undefined || this.#ends.last.areLast(issuerKeyId, of.current());
  }

  /** Takes a revocation that is durable; it goes to the CRLs of its issuer. */
  add(record: RevocationRecord): void {
    for (const publisher of this.#publishers)
      if (publisher.issuerKeyId === record.issuerKeyId) publisher.add(record);
  }

  /**
   * As `CrlPublisher.published`, of each issuer that is concerned: the full CRL of the first record's issuer, once all
   * of them are out.
   */
  async published(
    records: readonly RevocationRecord[],
    timeoutMs: number,
  ): Promise<PublishedCrl | undefined> {
    const isOf = (publisher: CrlPublisher, record: RevocationRecord | undefined): boolean =>
      publisher.issuerKeyId === record?.issuerKeyId;
    const concerned = this.#publishers
      .filter((publisher) => records.length === 0 || records.some((record) => isOf(publisher, record)))
      .toSorted((a, b) => Number(isOf(b, records[0])) - Number(isOf(a, records[0])));
    const crls = await Promise.all(
      concerned.map((publisher) =>
        publisher.published(
          records.filter((record) => isOf(publisher, record)),
          timeoutMs,
        ),
      ),
    );
    return crls.includes(undefined) ? undefined : crls[0];
  }

  /** Re-signs every CRL; whether each has a newer one by the deadline. */
  async publishNow(timeoutMs: number): Promise<boolean> {
    const all = await Promise.all(this.#going().map((publisher) => publisher.publishNow(timeoutMs)));
    return !all.includes(false);
  }

  /** Why peers may not see what they should, by issuer. */
  problems(): { issuerKeyId: string; problem: string }[] {
    return this.#going().flatMap((publisher) =>
      publisher.problems().map((problem) => ({ issuerKeyId: publisher.issuerKeyId, problem })),
    );
  }

  /** What is served now, issuer by issuer. */
  current(): PublishedCrl[] {
    return [
      ...this.#publishers.flatMap((publisher) => publisher.current()),
      ...this.#ends.stored.filter(({ scope }) => scope !== baseScope),
    ];
  }

  /** Those that have more to publish. */
  #going(): readonly CrlPublisher[] {
    return this.#publishers.filter(({ issuerKeyId }) => !this.hasEnded(issuerKeyId));
  }

  async close(): Promise<void> {
    await Promise.all(this.#publishers.map((publisher) => publisher.close()));
  }
}
