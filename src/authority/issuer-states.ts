import { VouchError } from '../core/errors.ts';
import { type Issuer, issuerOf } from '../issuance/issuer.ts';
import type { StoreReader } from '../store/port.ts';
import type { AuthorityRecord } from '../store/records.ts';
import { parseCertificate } from '../x509/certificate.ts';

/** The issuers of a state and what each may do now; what the root says of them is read again after a ceremony. */
export class IssuerStates {
  /** All whose keys sign, CRLs at least, in the order in which they issue. */
  readonly all: readonly Issuer[];
  readonly #store: Pick<StoreReader, 'authorities' | 'revocation'>;
  #states = new Map<string, AuthorityRecord['state']>();

  /** Throws `integrity-state` where there is none. */
  constructor(store: Pick<StoreReader, 'authorities' | 'revocation' | 'lastCrlNumber'>) {
    this.#store = store;
    const hasSigned = (keyId: string): boolean => store.lastCrlNumber(keyId) > 0n;
    this.all = issuersIn(store)
      .filter(({ state, keyId }) => state !== 'prepared' && (state !== 'retired' || hasSigned(keyId)))
      .map(issuerOf);
    if (this.all.length === 0)
      throw new VouchError(
        'integrity-state',
        'the state has no issuer that ever was active; restore it with `vouch restore`',
      );
    this.reread();
  }

  reread(): void {
    const root = this.#store.authorities().find(({ kind }) => kind === 'root');
    // What the root has revoked is tainted, also where an import was cut short before it said so.
    const stateOf = ({ state, certificateDer }: AuthorityRecord): AuthorityRecord['state'] =>
      root && this.#store.revocation(root.keyId, parseCertificate(certificateDer).serial) ? 'tainted' : state;
    this.#states = new Map(issuersIn(this.#store).map((record) => [record.keyId, stateOf(record)]));
  }

  mayIssue(issuerKeyId: string): boolean {
    return this.#states.get(issuerKeyId) === 'active';
  }

  /** By the root: nothing that it issued counts any more. */
  isRevoked(issuerKeyId: string): boolean {
    return this.#states.get(issuerKeyId) === 'tainted';
  }
}

function issuersIn(store: Pick<StoreReader, 'authorities'>): AuthorityRecord[] {
  return store.authorities().filter(({ kind }) => kind === 'issuer');
}
