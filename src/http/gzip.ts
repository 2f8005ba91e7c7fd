import { promisify } from 'node:util';
import { constants, crc32, deflateRaw } from 'node:zlib';
import { paced } from '../jobs/paced.ts';

const deflated = promisify(deflateRaw);
/** What is smaller is sent as it is: a packet or ten, either way. */
export const gzipLeastBytes = 16 * 1024;
/** A tenth smaller, or it is not worth a second copy. */
const worthShare = 0.9;
const acceptMaxChars = 1024;
/** ID, deflate, no flags, no time, unknown system (RFC 1952 §2.3). */
const header = Buffer.from('1f8b08000000000000ff', 'hex');
/** A final block that is empty, behind blocks that each end on a byte (RFC 1951 §3.2.3). */
const lastBlock = Buffer.from('0300', 'hex');

/** A chunk that is served again in a later document is not compressed again. */
const made = new WeakMap<Buffer, Buffer>();

/**
 * One gzip member over the chunks, itself in chunks; undefined where it is hardly smaller, or not `wanted` any more.
 * Compressed in zlib's threads, chunk by chunk: as small as in one piece, and a new CRL costs the chunks that changed.
 */
export async function gzipped(
  chunks: readonly Buffer[],
  wanted: () => boolean,
): Promise<Buffer[] | undefined> {
  const parts: Buffer[] = [header];
  let [crc, plainBytes, gzipBytes] = [0, 0, 0];
  for await (const chunk of paced(chunks)) {
    let part = made.get(chunk);
    if (!part) {
      part = await deflated(chunk, { level: 1, finishFlush: constants.Z_SYNC_FLUSH });
      made.set(chunk, part);
    }
    parts.push(part);
    crc = crc32(chunk, crc);
    plainBytes += chunk.length;
    gzipBytes += part.length;
    if (!wanted()) return undefined;
  }
  if (gzipBytes > plainBytes * worthShare) return undefined;
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc);
  trailer.writeUInt32LE(plainBytes % 2 ** 32, 4);
  return [...parts, lastBlock, trailer];
}

/** Whether a peer takes gzip (RFC 9110 §12.5.3): by its name, or by `*` where it is not named. */
export function acceptsGzip(header: string | undefined): boolean {
  const asked = new Map(
    (header ?? '')
      .slice(0, acceptMaxChars)
      .toLowerCase()
      .split(',')
      .map((one) => {
        const [coding = '', weight = ''] = one.split(';').map((part) => part.trim());
        return [coding, weight] as const;
      }),
  );
  const weight = asked.get('gzip') ?? asked.get('*');
  return weight !== undefined && !/^q=0(?:\.0*)?$/.test(weight);
}
