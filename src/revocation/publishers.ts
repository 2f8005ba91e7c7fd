import type { RevocationRecord } from '../store/port.ts';
import type { PublishedCrl } from './published-crls.ts';
import type { CrlPublisher } from './publisher.ts';

/** The CRLs of all issuers: each has a publisher of its own, and one whose signer is away holds up no other. */
export class CrlPublishers {
  readonly #publishers: readonly CrlPublisher[];

  constructor(publishers: readonly CrlPublisher[]) {
    this.#publishers = publishers;
  }

  async start(): Promise<void> {
    await Promise.all(this.#publishers.map((publisher) => publisher.start()));
  }

  publishDue(): void {
    for (const publisher of this.#publishers) publisher.publishDue();
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
    const all = await Promise.all(this.#publishers.map((publisher) => publisher.publishNow(timeoutMs)));
    return !all.includes(false);
  }

  /** Why peers may not see what they should, by issuer. */
  problems(): { issuerKeyId: string; problem: string }[] {
    return this.#publishers.flatMap((publisher) =>
      publisher.problems().map((problem) => ({ issuerKeyId: publisher.issuerKeyId, problem })),
    );
  }

  /** What is served now, issuer by issuer. */
  current(): PublishedCrl[] {
    return this.#publishers.flatMap((publisher) => publisher.current());
  }

  async close(): Promise<void> {
    await Promise.all(this.#publishers.map((publisher) => publisher.close()));
  }
}
