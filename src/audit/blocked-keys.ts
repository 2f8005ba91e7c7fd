import type { StateRows, StoredBlockedKey } from '../store/rows-port.ts';
import { decodeLeaf, decodeRevocationBody, type Leaf } from '../log/leaf.ts';
import { bodyOf, textOf } from './json-body.ts';
import { RowWalk } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 256;

/** A certificate by its two names. */
interface Named {
  issuerKeyId: string;
  serial: string;
}

/**
 * Holds blocked keys against the leaves that block them. Each row names the revocation of its certificate: one for
 * keyCompromise, which `RevocationCheck` follows forwards, or for another reason, where an operator's `key-blocked`
 * came after it.
 */
export class BlockedKeyCheck {
  readonly #rows: StateRows;
  readonly #problems: Problems;
  /** What operators' leaves name. */
  readonly #said = new Set<string>();

  constructor(rows: StateRows, problems: Problems) {
    this.#rows = rows;
    this.#problems = problems;
  }

  leaf(leaf: Leaf, index: number): void {
    const named = leaf.type === 'operator' ? blockedLater(leaf) : undefined;
    if (!named) return;
    this.#said.add(nameOf(named));
    if (this.#rows.certificateKey(named.issuerKeyId, named.serial)?.keyBlocked === 0)
      this.#problems.add(`leaf ${index} blocks the key of ${named.serial}, and the store does not`);
  }

  finish(): void {
    const keys = new RowWalk<StoredBlockedKey>((last) =>
      this.#rows.blockedKeys(last?.spkiSha256 ?? '', pageRows),
    );
    for (const { spkiSha256, leafIndex } of keys.rest()) {
      const what = `the blocked key ${spkiSha256}`;
      const named = this.#problems.attempt(what, () => this.#blocking(leafIndex));
      const key = named && this.#rows.certificateKey(named.issuerKeyId, named.serial);
      // The key of a certificate that the state does not know, as a restore leaves it, nothing here tells.
      if (!named || (key && key.spkiSha256 !== spkiSha256))
        this.#problems.add(`${what}: leaf ${leafIndex} blocks no such key`);
    }
  }

  #blocking(leafIndex: number): Named | undefined {
    const [row] = this.#rows.leaves(leafIndex - 1, 1);
    const leaf = row?.leafIndex === leafIndex ? decodeLeaf(row.bytes) : undefined;
    if (leaf?.type !== 'revocation') return undefined;
    const { serial, reason } = decodeRevocationBody(leaf.body);
    const named = { issuerKeyId: leaf.issuerKeyId, serial };
    return reason === 'keyCompromise' || this.#said.has(nameOf(named)) ? named : undefined;
  }
}

/** Whose key an operator's leaf blocks. */
function blockedLater(leaf: Leaf): Named | undefined {
  const body = bodyOf(leaf);
  if (body.verb !== 'key-blocked') return undefined;
  return { issuerKeyId: textOf(body.issuerKeyId), serial: textOf(body.serial) };
}

function nameOf({ issuerKeyId, serial }: Named): string {
  return `${issuerKeyId} ${serial}`;
}
