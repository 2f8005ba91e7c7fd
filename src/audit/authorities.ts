import type { AuthorityRecord } from '../store/records.ts';
import { type Issuer, issuerOf, signedBy } from '../issuance/issuer.ts';
import type { Problems } from './verification.ts';

/** Root and issuers as the store has them. */
export class Authorities {
  readonly records: readonly AuthorityRecord[];
  readonly #issuers = new Map<string, Issuer>();

  constructor(records: readonly AuthorityRecord[], problems: Problems) {
    this.records = records;
    for (const record of records) {
      const issuer = problems.attempt(`the certificate of ${record.keyId}`, () => issuerOf(record));
      if (issuer) this.#issuers.set(record.keyId, issuer);
    }
  }

  issuer(keyId: string): Issuer | undefined {
    return this.#issuers.get(keyId);
  }

  isRoot(keyId: string): boolean {
    return this.records.some((record) => record.keyId === keyId && record.kind === 'root');
  }

  /** True where the signature verifies with the key of this authority. */
  signed(keyId: string, bytes: Buffer, signature: Buffer): boolean {
    const issuer = this.#issuers.get(keyId);
    return issuer !== undefined && signedBy(issuer, bytes, signature);
  }
}
