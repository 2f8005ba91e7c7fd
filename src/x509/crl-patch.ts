import { setImmediate as aTurn } from 'node:timers/promises';
import { type Serial, serialBytes } from '../core/serial.ts';
import { EntryCursor } from './crl-entries.ts';
import type { CrlList } from './crl-list.ts';
import { type CrlBytes, encodeRevoked } from './crl-tbs.ts';
import { tags } from './der.ts';
import { DerReader, malformed } from './der-reader.ts';

/** What makes a later CRL of an earlier one: what stands around its entries, and the entries that differ. */
export interface CrlPatch {
  /** DER of the later CRL up to its first entry. */
  head: Buffer;
  /** DER entries that are new or changed, one behind the other in serial order. */
  added: Buffer;
  /** Serials that are no longer listed, in serial order. */
  removed: readonly Serial[];
  /** DER of the later CRL behind its last entry: extensions and signature. */
  tail: Buffer;
}

/** Largest lists that are compared though they share no piece: of those it is not known where they differ. */
const unsharedMaxBytes = 4 * 1024 * 1024;
/** What is stepped over, and copied, between two looks at the clock. */
const stepsAtOnce = 2048;
const copiedAtOnce = 1024 * 1024;
/** Longest time without a turn for others. */
const sliceMs = 5;

/**
 * The patch from one CertificateList to a later one. Undefined where it would be larger than `maxBytes` or large lists share
 * nothing. Takes turns with others.
 */
export async function makePatch(
  before: CrlBytes,
  after: CrlBytes,
  maxBytes: number,
): Promise<CrlPatch | undefined> {
  if (after.list.byteLength > unsharedMaxBytes && sharesNothing(before.list, after.list)) return undefined;
  const added: Buffer[] = [];
  const removed: Serial[] = [];
  let size = after.head.length + after.tail.length;
  const turns = new Turns();
  for (const change of after.list.changesSince(before.list)) {
    if (change.after) {
      const entry = encodeRevoked(change.after);
      added.push(entry);
      size += entry.length;
    } else {
      removed.push(change.serial);
      size += change.serial.length;
    }
    if (size > maxBytes) return undefined;
    await turns.due();
  }
  return { head: after.head, added: Buffer.concat(added), removed, tail: after.tail };
}

/**
 * The later CertificateList, byte for byte, where `der` is the earlier one and its serials ascend. Its signature says
 * whether it is right. Takes turns with others. Throws `request-malformed` where patch and CRL cannot belong together.
 */
export async function applyPatch(der: Buffer, patch: CrlPatch): Promise<Buffer> {
  const [start, end] = entriesOf(der);
  const entry = new EntryCursor(der, start, end);
  const turns = new Turns();
  const parts = [patch.head];
  let isThere = entry.step();
  let copied = start;
  for (const { serial, bytes } of editsOf(patch)) {
    for (let steps = 0; isThere && entry.compareTo(serial) < 0; steps += 1) {
      isThere = entry.step();
      if (steps % stepsAtOnce === 0) await turns.due();
    }
    parts.push(der.subarray(copied, isThere ? entry.start : end));
    copied = isThere ? entry.start : end;
    if (isThere && entry.compareTo(serial) === 0) {
      copied = entry.end;
      isThere = entry.step();
    } else if (bytes === undefined) malformed('a serial to remove is not listed', copied);
    if (bytes) parts.push(bytes);
  }
  parts.push(der.subarray(copied, end), patch.tail);
  return joined(parts, turns);
}

async function joined(parts: readonly Buffer[], turns: Turns): Promise<Buffer> {
  const out = Buffer.allocUnsafe(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts)
    for (let from = 0; from < part.length; from += copiedAtOnce) {
      at += part.copy(out, at, from, from + copiedAtOnce);
      await turns.due();
    }
  return out;
}

/** Gives others a turn every few milliseconds. */
class Turns {
  #sinceMs = performance.now();

  async due(): Promise<void> {
    if (performance.now() - this.#sinceMs < sliceMs) return;
    await aTurn();
    this.#sinceMs = performance.now();
  }
}

function sharesNothing(before: CrlList, after: CrlList): boolean {
  const known = new Set(before.pieces);
  return !after.pieces.some((piece) => known.has(piece));
}

interface Edit {
  serial: Buffer;
  /** DER of the entry that stands there from now on. */
  bytes?: Buffer;
}

/** In serial order: the walk through the list never turns back. */
function editsOf({ added, removed }: CrlPatch): Edit[] {
  const edits: Edit[] = removed.map((serial) => ({ serial: serialBytes(serial) }));
  for (const entry = new EntryCursor(added); entry.step(); )
    edits.push({
      serial: added.subarray(entry.serialStart, entry.serialEnd),
      bytes: added.subarray(entry.start, entry.end),
    });
  edits.sort((a, b) => a.serial.length - b.serial.length || a.serial.compare(b.serial));
  return edits;
}

/** Where the entries of a CertificateList begin and end; both are where they would stand if there are none. */
export function entriesOf(der: Buffer): [start: number, end: number] {
  const list = new DerReader(der).enter(tags.sequence, 'CertificateList').enter(tags.sequence, 'TBSCertList');
  for (const what of ['version', 'signature', 'issuer', 'thisUpdate', 'nextUpdate']) list.skip(what);
  if (list.tag !== tags.sequence) return [list.at, list.at];
  list.expect(tags.sequence, 'revokedCertificates');
  return [list.contentStart, list.at];
}
