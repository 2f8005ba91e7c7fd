import { hash } from 'node:crypto';
import type { Bundle } from '../authority/bundle.ts';
import type { Discovery } from '../authority/discovery.ts';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { discoveryPaths } from '../core/publication.ts';
import { parseTilePath, type TileTree } from '../log/tiles.ts';
import type { PublishedCrl } from '../revocation/published-crls.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { StoreReader } from '../store/port.ts';
import { crlChunks, wholeCrl } from '../x509/crl-tbs.ts';
import type { Document, Publication } from './publication.ts';

/** Tiles are on disk before a checkpoint over them is public. */
export function publishCheckpoint(
  publication: Publication,
  { tree, sequencer }: { tree: TileTree; sequencer: Sequencer },
  clock: Clock,
): void {
  const checkpoint = sequencer.checkpoint();
  if (!checkpoint) return;
  tree.flush();
  publication.put('/log/checkpoint', {
    chunks: [Buffer.from(checkpoint.note)],
    contentType: 'text/plain; charset=utf-8',
    lastModifiedMs: clock.now(),
    staleUntilSeconds: undefined,
    immutable: false,
  });
}

/** Bundle, CA certificates and the root's CRL, which change in ceremonies only. */
export function publishAuthorities(
  publication: Publication,
  { bundle, store }: { bundle: Bundle; store: StoreReader },
  clock: Clock,
): void {
  const fixed = { lastModifiedMs: clock.now(), staleUntilSeconds: undefined, immutable: false };
  publication.put('/bundle.json', {
    ...fixed,
    chunks: [bundle.jsonBytes],
    contentType: 'application/json',
    version: BigInt(bundle.sequence),
  });
  publication.put('/bundle.pem', {
    ...fixed,
    chunks: [Buffer.from(bundle.pem)],
    contentType: 'application/x-pem-file',
    version: BigInt(bundle.sequence),
  });
  const { discovery, sequence } = bundle;
  for (const [name, bytes] of Object.entries(discovery) as [keyof Discovery, Buffer][])
    publication.put(discoveryPaths[name], {
      ...fixed,
      chunks: [bytes],
      contentType: 'application/json',
      version: name === 'jwks' ? BigInt(sequence) : undefined,
    });
  for (const authority of store.authorities())
    publication.put(`/ca/${authority.keyId}.cer`, {
      ...fixed,
      chunks: [authority.certificateDer],
      contentType: 'application/pkix-cert',
    });
  const root = store.authorities().find((authority) => authority.kind === 'root');
  const chain = root && store.crossChain();
  if (chain !== undefined)
    publication.put(`/ca/${root?.keyId}.chain.pem`, {
      ...fixed,
      chunks: [Buffer.from(chain)],
      contentType: 'application/x-pem-file',
    });
  const rootCrl = root && store.lastCrls(root.keyId)[0];
  if (!root || !rootCrl?.signature) return;
  const { crlNumber, thisUpdateSeconds, nextUpdateSeconds } = rootCrl;
  const der = wholeCrl(rootCrl.tbs, root.algorithm, rootCrl.signature);
  publication.put(
    `/crl/${root.keyId}.crl`,
    crlDocument({ der, crlNumber, thisUpdateSeconds, nextUpdateSeconds }),
  );
}

/** A CRL as it is served. `tbsSha256`, where it is at hand, spares hashing the bytes again. */
export function crlDocument(
  crl: Pick<PublishedCrl, 'der' | 'crlNumber' | 'thisUpdateSeconds' | 'nextUpdateSeconds'> &
    Partial<Pick<PublishedCrl, 'tbsSha256'>>,
): Document {
  const { der, crlNumber, thisUpdateSeconds, nextUpdateSeconds, tbsSha256 } = crl;
  // What was signed, and the signature, which stands in the tail.
  const etag = tbsSha256 && `"${hash('sha256', Buffer.concat([tbsSha256, der.tail]), 'base64url')}"`;
  return {
    chunks: crlChunks(der),
    ...(etag !== undefined && { etag }),
    contentType: 'application/pkix-crl',
    version: crlNumber,
    lastModifiedMs: thisUpdateSeconds * 1000,
    staleUntilSeconds: nextUpdateSeconds,
    immutable: false,
  };
}

/** A hash tile of the public tree. Entry bundles carry names and are for operators only. */
export function tileAt({ tree }: { tree: TileTree }, path: string): Buffer | undefined {
  if (!path.startsWith('/log/')) return undefined;
  const tile = parseTilePath(path.slice('/log/'.length));
  if (!tile || tile.level === 'entries') return undefined;
  try {
    return tree.tile(tile.level, tile.index, tile.width);
  } catch (error) {
    if (error instanceof VouchError && error.code === 'request-not-found') return undefined;
    throw error;
  }
}
