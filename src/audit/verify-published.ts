import { VouchError } from '../core/errors.ts';
import { bundleSchema } from '../wire/enrollment.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { Frontier, hashBytes } from '../log/merkle.ts';
import { noteMaxBytes, openCheckpoint } from '../log/note.ts';
import { openStatement } from '../log/statement.ts';
import { tilePath } from '../log/tiles.ts';
import { tileWidth } from '../log/tile-nodes.ts';
import type { LogVerification } from './verification.ts';

const timeoutMs = 10_000;
const bundleMaxBytes = 1024 * 1024;

/**
 * Verifies a published log from its URLs alone: root by its pin, the root's statement, the checkpoint by the
 * statement's log key, and the root hash over every hash tile. Leaves are not public, so certificates and revocations
 * count as 0 here; `--state` reads them.
 */
export async function verifyPublished(
  url: string,
  rootPin: string,
  progress: (done: number, of: number) => void,
): Promise<LogVerification> {
  const base = url.replace(/\/+$/, '');
  const bundle = bundleSchema.parse(
    JSON.parse((await get(`${base}/bundle.json`, bundleMaxBytes)).toString('utf8')),
  );
  const root = bundle.keys
    .flatMap((key) => key.x5c?.[0] ?? [])
    .map((text) => importPublicKey(parseCertificate(Buffer.from(text, 'base64')).spki))
    .find((key) => `sha256:${key.sha256}` === rootPin);
  if (!root)
    throw new VouchError(
      'denied-server',
      'no root in the bundle has this pin: another authority answers there',
    );
  const statement = openStatement(bundle.vouch_statement, root.key);
  const note = (await get(`${base}/log/checkpoint`, noteMaxBytes)).toString('utf8');
  const checkpoint = openCheckpoint(note, statement.logKeys);
  const frontier = Frontier.empty();
  for (let index = 0; index * tileWidth < checkpoint.treeSize; index += 1) {
    const width = Math.min(tileWidth, checkpoint.treeSize - index * tileWidth);
    const tile = await get(`${base}/log/${tilePath(0, index, width)}`, tileWidth * hashBytes);
    if (tile.length !== width * hashBytes)
      throw new VouchError('integrity-log', `${tilePath(0, index, width)} has a wrong length`);
    for (let at = 0; at < tile.length; at += hashBytes) frontier.append(tile.subarray(at, at + hashBytes));
    progress(frontier.size, checkpoint.treeSize);
  }
  const rootHash = frontier.root();
  const problems = rootHash.equals(checkpoint.rootHash)
    ? []
    : ['the root over the tiles is not the one that the log key signed'];
  return {
    treeSize: checkpoint.treeSize,
    rootHash: rootHash.toString('hex'),
    certificates: 0,
    revocations: 0,
    problems,
  };
}

async function get(url: string, maxBytes: number): Promise<Buffer> {
  const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(timeoutMs) }).catch(
    (error: unknown) => {
      throw new VouchError('unavailable-server', `cannot fetch ${url}`, { cause: error });
    },
  );
  if (!response.ok) throw new VouchError('unavailable-server', `${url} answered ${response.status}`);
  const bytes = Buffer.from(await response.arrayBuffer());
  if (bytes.length > maxBytes) throw new VouchError('integrity-log', `${url} is larger than it can be`);
  return bytes;
}
