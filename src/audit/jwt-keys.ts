import type { Leaf } from '../log/leaf.ts';
import type { StateRows, StoredJwtKey } from '../store/rows-port.ts';
import { keyIdOf } from '../x509/public-key.ts';
import { bodyOf } from './json-body.ts';
import { LeafRows } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 16;

/** Holds the keys of JWT-SVIDs against the leaves that brought them. */
export class JwtKeyCheck {
  readonly #rows: LeafRows<StoredJwtKey>;
  readonly #problems: Problems;

  constructor(rows: Pick<StateRows, 'jwtKeys'>, problems: Problems) {
    this.#problems = problems;
    this.#rows = new LeafRows(rows.jwtKeys, pageRows, ({ keyId, leafIndex }) =>
      problems.add(`the JWT-SVID key ${keyId} of leaf ${leafIndex} is not in the log`),
    );
  }

  leaf(leaf: Leaf, index: number): void {
    if (leaf.type !== 'authority') return;
    const { event, issuerKeyId, keyId, publicKey } = bodyOf(leaf);
    if (event !== 'jwt-key') return;
    const what = `the JWT-SVID key of leaf ${index}`;
    const row = this.#rows.at(index);
    if (!row) return this.#problems.add(`${what} is one that the store does not have`);
    const stored = { ...row, publicKey: row.publicKeySpki.toString('base64') };
    this.#problems.compare(what, stored, { issuerKeyId, keyId, publicKey });
    this.#problems.attempt(what, () => {
      if (keyIdOf(row.publicKeySpki) !== row.keyId) this.#problems.add(`${what} is another than its id says`);
    });
  }

  finish(): void {
    this.#rows.finish();
  }
}
