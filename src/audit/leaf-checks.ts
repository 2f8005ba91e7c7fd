import type { StoreReader } from '../store/port.ts';
import type { Leaf } from '../log/leaf.ts';
import type { Authorities } from './authorities.ts';
import { BlockedKeyCheck } from './blocked-keys.ts';
import { CeremonyCheck } from './ceremonies.ts';
import { CertificateCheck } from './certificates.ts';
import { ClockMarkCheck } from './clock-mark.ts';
import { checkCoverage } from './crl-coverage.ts';
import { CrlCheck } from './crls.ts';
import { JwtKeyCheck } from './jwt-keys.ts';
import { MassRevocationCheck } from './mass-revocations.ts';
import { RegistrationCheck } from './registrations.ts';
import { RevocationCheck } from './revocations.ts';
import type { Problems } from './verification.ts';

/** Every table against the leaves: all of them see each leaf in its order, then the end. */
export class LeafChecks {
  readonly #store: StoreReader;
  readonly #problems: Problems;
  readonly #shardCount: number;
  readonly #authorities: Authorities;
  readonly #certificates: CertificateCheck;
  readonly #revocations: RevocationCheck;
  readonly #crls: CrlCheck;
  readonly #checks: { leaf: (leaf: Leaf, index: number) => void; finish: () => void }[];

  constructor(store: StoreReader, authorities: Authorities, problems: Problems) {
    const rows = store.rows();
    this.#store = store;
    this.#problems = problems;
    this.#shardCount = store.identity().shardCount;
    this.#authorities = authorities;
    this.#certificates = new CertificateCheck(rows, authorities, problems);
    this.#revocations = new RevocationCheck({ rows, shardCount: this.#shardCount, authorities, problems });
    this.#crls = new CrlCheck(rows, authorities, problems);
    this.#checks = [
      new CeremonyCheck(store, authorities, problems),
      new RegistrationCheck(rows, problems),
      new JwtKeyCheck(rows, problems),
      new BlockedKeyCheck(rows, problems),
      new MassRevocationCheck(rows, problems),
      new ClockMarkCheck(store.clockMark().wallMs, problems),
      this.#certificates,
      this.#revocations,
      this.#crls,
    ];
  }

  leaf(leaf: Leaf, index: number): void {
    for (const check of this.#checks) check.leaf(leaf, index);
  }

  finish(): void {
    for (const check of this.#checks) check.finish();
    const scopes = this.#crls.scopes();
    const issuers = [
      ...this.#authorities.records.map(({ keyId }) => keyId),
      ...scopes.map((one) => one.issuerKeyId),
    ];
    for (const issuerKeyId of new Set(issuers))
      checkCoverage({
        issuerKeyId,
        scopes: scopes.filter((scope) => scope.issuerKeyId === issuerKeyId),
        rows: this.#store.rows(),
        shardCount: this.#shardCount,
        problems: this.#problems,
      });
  }

  counts(): { certificates: number; revocations: number } {
    return { certificates: this.#certificates.count, revocations: this.#revocations.count };
  }
}
