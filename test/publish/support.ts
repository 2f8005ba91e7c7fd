import type { PublishedDocument } from '../../src/publish/port.ts';

/** Never aborted. */
export const { signal } = new AbortController();

/** A document of this version whose text says so. */
export function crl(version: bigint, length = 0): PublishedDocument {
  const text = Buffer.from(`CRL ${version}\n`);
  const filling = Array.from({ length }, () => Buffer.alloc(32 * 1024, `${version % 10n}`));
  return { chunks: [text, ...filling], contentType: 'application/pkix-crl', version };
}
