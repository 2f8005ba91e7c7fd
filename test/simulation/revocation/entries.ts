import type { Reason } from '../../../src/core/reasons.ts';
import { reasonCodes } from '../../../src/core/reasons.ts';

/** An entry of revokedCertificates as the simulation has it: bytes, one character each, so that they can be compared. */
export interface Entry {
  /** The serial's content bytes. */
  key: string;
  bytes: string;
}

const at = (bytes: Buffer, index: number): number => {
  const byte = bytes[index];
  if (byte === undefined) throw new Error('an entry ends too early');
  return byte;
};

/** Reads entries that stand one behind the other. Its own few lines, so that no reader under test is believed. */
export function* entriesIn(bytes: Buffer): Generator<Entry> {
  for (let start = 0; start < bytes.length; ) {
    if (at(bytes, start) !== 0x30 || at(bytes, start + 1) > 0x7f) throw new Error('no entry begins here');
    const end = start + 2 + at(bytes, start + 1);
    if (end > bytes.length || at(bytes, start + 2) !== 0x02) throw new Error('an entry without a serial');
    const key = bytes.toString('latin1', start + 4, start + 4 + at(bytes, start + 3));
    yield { key, bytes: bytes.toString('latin1', start, end) };
    start = end;
  }
}

/** The revocationDate of an entry, Unix seconds. */
export function dateOf({ key, bytes }: Entry): number {
  const text = bytes.slice(4 + key.length + 2, 4 + key.length + 15);
  const parts = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  if (!parts) throw new Error(`${text} is no UTCTime`);
  const [year = 0, month = 1, day, hour, minute, second] = parts.slice(1).map(Number);
  return Date.UTC(2000 + year, month - 1, day, hour, minute, second) / 1000;
}

/** True where the entry takes its serial off the base. */
export function isRemoval({ bytes }: Entry): boolean {
  return bytes.includes('\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x08');
}

const tlv = (tag: number, ...content: string[]): string => {
  const joined = content.join('');
  return String.fromCharCode(tag, joined.length) + joined;
};
const text = (seconds: number): string =>
  `${new Date(seconds * 1000).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;

/** The entry that a CRL has to have (RFC 5280 §5.1): its own few lines, too. Dates up to 2049. */
export function entryBytes(
  key: string,
  dateSeconds: number,
  reason: Reason,
  invalidityDateSeconds?: number,
): string {
  const extensions: string[] = [];
  if (reason !== 'unspecified')
    extensions.push(
      tlv(0x30, '\x06\x03\x55\x1d\x15', tlv(0x04, tlv(0x0a, String.fromCharCode(reasonCodes[reason])))),
    );
  if (invalidityDateSeconds !== undefined)
    extensions.push(tlv(0x30, '\x06\x03\x55\x1d\x18', tlv(0x04, tlv(0x18, text(invalidityDateSeconds)))));
  const date = tlv(0x17, text(dateSeconds).slice(2));
  return tlv(0x30, tlv(0x02, key), date, ...(extensions.length > 0 ? [tlv(0x30, ...extensions)] : []));
}
