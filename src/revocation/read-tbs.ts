import { createHash } from 'node:crypto';
import { Slice } from '../jobs/slice.ts';
import type { ParsedCrlHead } from '../x509/crl.ts';
import { CrlStreamReader } from '../x509/crl-stream.ts';
import { type CrlBytes, crlChunks } from '../x509/crl-tbs.ts';

/** Reads a TBSCertList whole, from its bytes. Yields between slices. Throws `request-malformed`. */
export async function readTbs(tbs: CrlBytes): Promise<ParsedCrlHead> {
  const reader = new CrlStreamReader();
  await inSlices(crlChunks(tbs), (chunk) => reader.push(chunk));
  return reader.end();
}

/** SHA-256 of a CRL. Yields between slices. */
export async function crlSha256(tbs: CrlBytes): Promise<Buffer> {
  const sha256 = createHash('sha256');
  await inSlices(crlChunks(tbs), (chunk) => sha256.update(chunk));
  return sha256.digest();
}

async function inSlices<T>(items: Iterable<T>, work: (item: T) => unknown): Promise<void> {
  const slice = new Slice();
  for (const item of items) {
    work(item);
    if (slice.isOver) await slice.turn();
  }
}
