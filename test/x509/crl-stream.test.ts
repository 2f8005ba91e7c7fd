import { describe, expect, it } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { algorithmIdentifier } from '../../src/x509/algorithm.ts';
import { type ParsedCrlHead, type ParsedTbsCrl, parseTbsCrl } from '../../src/x509/crl.ts';
import { CrlStreamReader, crlPartMaxBytes } from '../../src/x509/crl-stream.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { explicit, integer, nullValue, octetString, sequence, tags, time } from '../../src/x509/der.ts';
import { rdnName } from '../../src/x509/name.ts';
import { freshSerial, nowSeconds } from './authority.ts';
import { rawExtension } from './raw-certificate.ts';
import { limitMs } from '../support/limits.ts';
import { expectRefusal } from './refusal.ts';

type Cut = (left: number) => number;

/** What the reader says of bytes in chunks of the sizes that `cut` gives. */
function streamed(tbs: Buffer, cut: Cut): ParsedCrlHead {
  const reader = new CrlStreamReader();
  for (let at = 0; at < tbs.length; ) {
    const size = Math.min(tbs.length - at, cut(tbs.length - at));
    reader.push(Buffer.from(tbs.subarray(at, at + size)));
    at += size;
  }
  return reader.end();
}

/** The same of a whole one. */
function headOf({ tbs: _tbs, entries: _entries, revoked: _revoked, has: _has, ...head }: ParsedTbsCrl) {
  return head;
}

function verdict(read: () => ParsedCrlHead): ParsedCrlHead | 'refused' {
  try {
    return read();
  } catch (error) {
    if (error instanceof VouchError && error.code === 'request-malformed') return 'refused';
    throw error;
  }
}

/** mulberry32: the same bytes for the same seed. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) % below;
  };
}

const name = rdnName({ commonName: 'Test issuer' });
const crlNumber = rawExtension('2.5.29.20', integer(300n));
const reasons = ['keyCompromise', 'unspecified', 'superseded', 'removeFromCRL', 'certificateHold'] as const;
const entries = Array.from({ length: 400 }, freshSerial)
  .toSorted()
  .map((serial, index) => {
    const reason = reasons[index % reasons.length] ?? 'unspecified';
    return encodeRevoked({ serial, dateSeconds: nowSeconds - index, reason });
  });
const unknownEntry = sequence(
  integer(1n),
  time(nowSeconds),
  sequence(rawExtension('1.2.3', nullValue, true), rawExtension('2.5.29.21', Buffer.from([10, 1, 0]))),
);

/** A TBSCertList with these elements behind nextUpdate. */
function rawTbs(...behind: readonly Buffer[]): Buffer {
  const times = [time(nowSeconds), time(nowSeconds + 60)];
  return sequence(integer(1n), algorithmIdentifier('ecdsa-sha256'), name, ...times, ...behind);
}

const tail = explicit(0, sequence(crlNumber));
const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = entries;
const good: readonly [string, Buffer][] = [
  ['an empty list', rawTbs(tail)],
  ['one entry', rawTbs(sequence(first), tail)],
  ['many', rawTbs(sequence(...entries), tail)],
  ['serials that fall', rawTbs(sequence(second, first), tail)],
  ['one serial twice', rawTbs(sequence(first, first), tail)],
  ['what is critical and unknown', rawTbs(sequence(unknownEntry, first), tail)],
  ['a delta', rawTbs(explicit(0, sequence(crlNumber, rawExtension('2.5.29.27', integer(7n), true))))],
];

const random = generator(20261126);
const cuts: readonly [string, Cut][] = [
  ['whole', (left) => left],
  ['each byte', () => 1],
  ['a few bytes', () => 1 + random(9)],
  ['any', () => 1 + random(5000)],
  ['empty ones between', () => random(3)],
];

describe('CrlStreamReader says what parseTbsCrl says', () => {
  for (const [what, tbs] of good)
    it.each(cuts)(`of ${what}, cut: %s`, (_how, cut) => {
      expect(streamed(tbs, cut)).toEqual(headOf(parseTbsCrl(tbs)));
    });

  it('at a cut before each byte', () => {
    const tbs = rawTbs(sequence(first, second), tail);
    const expected = headOf(parseTbsCrl(tbs));
    for (let at = 1; at < tbs.length; at++)
      expect(streamed(tbs, (left) => (left === tbs.length ? at : left))).toEqual(expected);
  });

  it('of bytes that somebody changed, cut or added to', () => {
    const verdicts = { taken: 0, refused: 0 };
    for (let round = 0; round < 6000; round++) {
      const [, tbs] = good[random(good.length)] ?? ['', Buffer.alloc(0)];
      // Most of the length fields stand near the beginning and the end.
      const near = random(3);
      const place = random(near === 0 ? tbs.length : Math.min(tbs.length, 120));
      const at = near === 2 ? tbs.length - 1 - place : place;
      const what = random(4);
      const value = Buffer.from([[0, 0x30, 0x7f, 0x80, 0x84, 0xa0, 0xff, random(256)][random(8)] ?? 0]);
      const changed = Buffer.concat([
        tbs.subarray(0, at),
        ...(what === 1 ? [] : [value]),
        what === 3 ? Buffer.alloc(0) : tbs.subarray(what === 2 ? at : at + 1),
      ]);
      const expected = verdict(() => headOf(parseTbsCrl(changed)));
      const size = 1 + random(200);
      expect(
        verdict(() => streamed(changed, () => 1 + random(size))),
        changed.toString('hex'),
      ).toEqual(expected);
      verdicts[expected === 'refused' ? 'refused' : 'taken']++;
    }
    expect(verdicts.taken).toBeGreaterThan(100);
    expect(verdicts.refused).toBeGreaterThan(1000);
  });
});

describe('CrlStreamReader refuses', () => {
  const announced = (tag: number, length: number): Buffer => {
    const head = Buffer.from([tag, 0x84, 0, 0, 0, 0]);
    head.writeUInt32BE(length, 2);
    return head;
  };
  const wrapped = (content: Buffer, more: number): Buffer =>
    Buffer.concat([announced(tags.sequence, content.length + more), content]);
  const opening = Buffer.from(rawTbs().subarray(2));

  it.each<[string, Buffer]>([
    ['one that announces more than is read', announced(tags.sequence, 300 * 1024 * 1024)],
    ['an issuer that announces 1 MiB', wrapped(announced(tags.sequence, 1 << 20), 1 << 20)],
    [
      'an entry that announces 1 MiB',
      wrapped(
        Buffer.concat([opening, announced(tags.sequence, (1 << 20) + 6), announced(tags.sequence, 1 << 20)]),
        (1 << 20) + 6,
      ),
    ],
    ['extensions that announce 1 MiB', wrapped(Buffer.concat([opening, announced(0xa0, 1 << 20)]), 1 << 20)],
  ])('%s, as soon as it is announced', (_what, bytes) => {
    expectRefusal(() => new CrlStreamReader().push(bytes), 'request-malformed');
  });

  it('parts of more bytes than it holds, however they come', () => {
    const filler = rawExtension('1.2.3.4', octetString(Buffer.alloc(crlPartMaxBytes)));
    const large = sequence(integer(1n), time(nowSeconds), sequence(filler));
    for (const tbs of [rawTbs(sequence(large), tail), rawTbs(explicit(0, sequence(crlNumber, filler)))]) {
      expect(parseTbsCrl(tbs).crlNumber).toBe(300n);
      for (const cut of [tbs.length, 60_000, 1000])
        expectRefusal(() => streamed(tbs, () => cut), 'request-malformed', /more than 65536 bytes/);
    }
  });

  it('one that is not finished, and one that goes on', () => {
    for (const [, tbs] of good) {
      const reader = new CrlStreamReader();
      expectRefusal(() => reader.end(), 'request-malformed', /cut short/);
      reader.push(tbs.subarray(0, -1));
      expectRefusal(() => reader.end(), 'request-malformed', /cut short/);
      reader.push(tbs.subarray(-1));
      expectRefusal(() => reader.push(Buffer.from([0])), 'request-malformed', /trailing/);
    }
  });
});

/** Processor time of this thread so far, which neighbours on the machine do not add to. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

it('CrlStreamReader reads a million entries in a second, each chunk at once', () => {
  const list = Buffer.concat(Array.from({ length: 2500 }, () => Buffer.concat(entries)));
  const tbs = rawTbs(sequence(list), tail);
  const longest: number[] = [];
  const totals = [0, 1, 2].map(() => {
    const startMs = cpuMs();
    let lastMs = startMs;
    const turns: number[] = [];
    const head = streamed(tbs, () => {
      turns.push(cpuMs() - lastMs);
      lastMs = cpuMs();
      return 256 * 1024;
    });
    expect(head).toMatchObject({ count: 1_000_000, ascending: false });
    longest.push(Math.max(...turns));
    return cpuMs() - startMs;
  });
  expect(Math.min(...totals)).toBeLessThan(limitMs(1000));
  expect(Math.min(...longest)).toBeLessThan(limitMs(20));
});
