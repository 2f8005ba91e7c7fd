import type { Json } from '../core/canonical-json.ts';
import type { CrlBody } from '../log/leaf.ts';

/** The last CRL of a scope: its number belongs to this TBSCertList and to no other. */
export interface LastCrl {
  crlNumber: bigint;
  tbsSha256: Buffer;
}

/**
 * The highest CRL numbers this signer has seen, for each issuer and within it for each scope. They only rise
 * (RFC 5280 §5.2.3, I11).
 */
export class CrlNumbers {
  readonly #issuers = new Map<string, { highest: bigint; scopes: Map<string, LastCrl> }>();
  /** The highest number of each issuer when `begin` was called. */
  readonly #minimums = new Map<string, bigint>();

  /** Highest number of any scope of the issuer; undefined where none was seen. */
  highest(issuerKeyId: string): bigint | undefined {
    return this.#issuers.get(issuerKeyId)?.highest;
  }

  /** Every number from now on is above those that are known now, whatever its scope. */
  begin(): void {
    for (const [issuerKeyId, { highest }] of this.#issuers) this.#minimums.set(issuerKeyId, highest);
  }

  /** What `begin` found of the issuer. */
  minimum(issuerKeyId: string): bigint | undefined {
    return this.#minimums.get(issuerKeyId);
  }

  /** The CRL with the highest number of one scope (`full` or a shard's number). */
  ofScope(issuerKeyId: string, scope: string): LastCrl | undefined {
    return this.#issuers.get(issuerKeyId)?.scopes.get(scope);
  }

  /** Takes note of a CRL under its number; one that is not above its scope's last changes nothing there. */
  raise(issuerKeyId: string, crl: CrlBody): void {
    this.raiseHighest(issuerKeyId, crl.crlNumber);
    const scopes = this.#issuers.get(issuerKeyId)?.scopes;
    const last = scopes?.get(crl.scope);
    if (last && last.crlNumber >= crl.crlNumber) return;
    scopes?.set(crl.scope, { crlNumber: crl.crlNumber, tbsSha256: Buffer.from(crl.tbsSha256) });
  }

  /** Takes note of a number in use, whatever its scope. */
  raiseHighest(issuerKeyId: string, crlNumber: bigint): void {
    const issuer = this.#issuers.get(issuerKeyId);
    if (!issuer) this.#issuers.set(issuerKeyId, { highest: crlNumber, scopes: new Map() });
    else if (crlNumber > issuer.highest) issuer.highest = crlNumber;
  }

  /** Takes over whatever is higher in `other`. */
  merge(other: CrlNumbers): void {
    for (const [issuerKeyId, { highest, scopes }] of other.#issuers) {
      this.raiseHighest(issuerKeyId, highest);
      for (const [scope, last] of scopes) this.raise(issuerKeyId, { scope, ...last });
    }
  }

  /** `{<issuer key id>: {highest, scopes: {<scope>: {crlNumber, tbsSha256}}}}`: decimal text, hex. */
  toJson(): { readonly [issuerKeyId: string]: Json } {
    const entries = [...this.#issuers].map(([issuerKeyId, { highest, scopes }]) => {
      const byScope = [...scopes].map(([scope, { crlNumber, tbsSha256 }]) => {
        return [scope, { crlNumber: String(crlNumber), tbsSha256: tbsSha256.toString('hex') }] as const;
      });
      return [issuerKeyId, { highest: String(highest), scopes: Object.fromEntries(byScope) }] as const;
    });
    return Object.fromEntries(entries);
  }

  /** The highest number of each issuer as decimal text: what the guard has room for. */
  highestToJson(): { readonly [issuerKeyId: string]: Json } {
    return Object.fromEntries([...this.#issuers].map(([keyId, { highest }]) => [keyId, String(highest)]));
  }

  /** Reads what `toJson` or `highestToJson` made. Throws a plain Error naming the member. */
  static parse(value: unknown): CrlNumbers {
    const numbers = new CrlNumbers();
    for (const [issuerKeyId, issuer] of Object.entries(objectOf(value))) {
      if (!/^[0-9a-f]{40}$/.test(issuerKeyId)) throw new Error('issuer key id');
      if (typeof issuer === 'string') {
        numbers.raiseHighest(issuerKeyId, numberOf(issuer));
        continue;
      }
      const { highest, scopes } = objectOf(issuer);
      numbers.raiseHighest(issuerKeyId, numberOf(highest));
      for (const [scope, last] of Object.entries(objectOf(scopes))) {
        const { crlNumber, tbsSha256 } = objectOf(last);
        numbers.raise(issuerKeyId, { scope, crlNumber: numberOf(crlNumber), tbsSha256: hashOf(tbsSha256) });
      }
    }
    return numbers;
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object');
  return value as Record<string, unknown>;
}

function numberOf(value: unknown): bigint {
  // 49 digits hold the 20 octets of RFC 5280 §5.2.3.
  if (typeof value !== 'string' || !/^\d{1,49}$/.test(value)) throw new Error('CRL number');
  return BigInt(value);
}

function hashOf(value: unknown): Buffer {
  if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value)) throw new Error('SHA-256');
  return Buffer.from(value, 'hex');
}
