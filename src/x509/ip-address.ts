/**
 * Bytes of a textual IPv4 (4) or IPv6 (16) address, or undefined: dotted decimal without leading zeros; RFC 4291 §2.2
 * groups with at most one `::` and an optional dotted tail; no zone.
 */
export function ipBytes(text: string): Buffer | undefined {
  if (text.length > 45) return undefined;
  if (!text.includes(':')) return ipv4Bytes(text);
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groups(halves[0] ?? '', halves.length === 1);
  const after = groups(halves[1] ?? '', true);
  if (!head || !after) return undefined;
  const missing = 8 - head.length - after.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const out = Buffer.alloc(16);
  [...head, ...Array<number>(missing).fill(0), ...after].forEach((group, index) => {
    out.writeUInt16BE(group, index * 2);
  });
  return out;
}

/** Canonical text of 4 or 16 bytes: RFC 5952, lower case, the longest run of zeros as `::`; undefined for other lengths. */
export function ipText(bytes: Uint8Array): string | undefined {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return undefined;
  const words = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2] ?? 0) << 8) | (bytes[i * 2 + 1] ?? 0));
  const { start, length } = longestZeroRun(words);
  const hex = (part: number[]): string => part.map((word) => word.toString(16)).join(':');
  return length < 2 ? hex(words) : `${hex(words.slice(0, start))}::${hex(words.slice(start + length))}`;
}

function ipv4Bytes(text: string): Buffer | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256))
    return undefined;
  return Buffer.from(parts.map(Number));
}

/** The 16-bit groups of one side of `::`; none for an empty side. Only the address's end may be dotted. */
function groups(text: string, mayBeDotted: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const dotted = mayBeDotted ? ipv4Bytes(parts.at(-1) ?? '') : undefined;
  const hexParts = dotted ? parts.slice(0, -1) : parts;
  if (!hexParts.every((part) => /^[0-9a-fA-F]{1,4}$/.test(part))) return undefined;
  return [
    ...hexParts.map((part) => Number.parseInt(part, 16)),
    ...(dotted ? [dotted.readUInt16BE(0), dotted.readUInt16BE(2)] : []),
  ];
}

function longestZeroRun(words: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < words.length; start++) {
    let length = 0;
    while (words[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
