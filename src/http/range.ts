/** Bytes `from` to `to`, both counted in, as Content-Range says them. */
export interface ByteRange {
  from: number;
  to: number;
}

/**
 * The one range that is asked for (RFC 9110 §14.1.2); `unsatisfiable` where it has none of the bytes; undefined where the
 * header is to be ignored: several ranges, other units, no range at all.
 */
export function rangeOf(header: string | undefined, length: number): ByteRange | 'unsatisfiable' | undefined {
  const [, first, last] = /^bytes=(\d{0,15})-(\d{0,15})$/i.exec(header ?? '') ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined;
  if (first === '') {
    const count = Math.min(Number(last), length);
    return count === 0 ? 'unsatisfiable' : { from: length - count, to: length - 1 };
  }
  const from = Number(first);
  if (last !== '' && Number(last) < from) return undefined;
  if (from >= length) return 'unsatisfiable';
  return { from, to: last === '' ? length - 1 : Math.min(Number(last), length - 1) };
}

/** The chunks cut to a range; views, no copies. */
export function* chunksOf(chunks: readonly Buffer[], { from, to }: ByteRange): Generator<Buffer> {
  let at = 0;
  for (const chunk of chunks) {
    if (at > to) return;
    const part = chunk.subarray(Math.max(0, from - at), to + 1 - at);
    at += chunk.length;
    if (part.length > 0) yield part;
  }
}
