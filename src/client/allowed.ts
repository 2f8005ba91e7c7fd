import { VouchError } from '../core/errors.ts';
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from '../core/spiffe-id.ts';

/**
 * Who may be at the other end: SPIFFE IDs, or prefixes that end in `/*`, as peers.json lists them. Made only by
 * `parseAllowed`, and so that asking does not take longer with a longer list of IDs: it is asked for every open
 * connection again and again.
 */
export interface AllowedPeers {
  /** The list as it was given. */
  patterns: readonly string[];
  ids: ReadonlySet<string>;
  /** Without their `*`. */
  prefixes: readonly string[];
}

/** Checks a list by the grammar of SPIFFE IDs. Throws `config-invalid` naming the first that is wrong. */
export function parseAllowed(list: readonly string[]): AllowedPeers {
  for (const pattern of list) {
    try {
      parsePattern(pattern);
    } catch (cause) {
      throw new VouchError(
        'config-invalid',
        `allowed peers must be SPIFFE IDs or a prefix that ends in /*: ${JSON.stringify(pattern.slice(0, 80))}`,
        { cause },
      );
    }
  }
  return {
    patterns: [...list],
    ids: new Set(list.filter((pattern) => !pattern.endsWith('/*'))),
    prefixes: list.filter((pattern) => pattern.endsWith('/*')).map((pattern) => pattern.slice(0, -1)),
  };
}

/** Compares bytes: equal to an ID of the list, or under one of its prefixes. An empty list allows nobody. */
export function isAllowed(id: SpiffeId, allowed: AllowedPeers): boolean {
  return allowed.ids.has(id) || allowed.prefixes.some((prefix) => id.startsWith(prefix));
}

function parsePattern(pattern: string): void {
  if (!pattern.endsWith('/*')) {
    parseSpiffeId(pattern);
    return;
  }
  const prefix = pattern.slice(0, -2);
  if (/^spiffe:\/\/[^/]*$/.test(prefix)) parseTrustDomain(prefix.slice('spiffe://'.length));
  else parseSpiffeId(prefix);
}
