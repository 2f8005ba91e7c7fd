import { expect, it } from 'vitest';
import { encodeTranscript, openTranscript } from '../../src/ceremony/transcript.ts';
import type { Transcript } from '../../src/wire/ceremony.ts';
import { softwareCeremony } from './software-ceremony.ts';

const { root, files } = softwareCeremony(Date.parse('2026-06-01T12:00:00Z'));
const bytes = files.get('transcript.json') ?? Buffer.alloc(0);
const transcript = JSON.parse(bytes.toString()) as Transcript;

/** Opens a text that the root has signed, whatever it is. */
function opened(payload: Buffer): Transcript {
  const jws = root.sign({ kind: 'transcript', payload }).signed.toString('ascii');
  return openTranscript(payload, jws, { spki: root.key.publicKeySpki, algorithm: root.key.algorithm });
}

it('is one encoding of what it says, whoever signed another', () => {
  expect(opened(bytes)).toEqual(transcript);
  expect(encodeTranscript(transcript)).toEqual(bytes);
  for (const text of [JSON.stringify(transcript, undefined, 2), `${bytes.toString()}\n`, '{}', 'no JSON'])
    expect(() => opened(Buffer.from(text)), text.slice(0, 20)).toThrow(/not one that a ceremony writes/);
  const more = { ...transcript, more: true };
  expect(() => opened(encodeTranscript(more))).toThrow(/not one that a ceremony writes/);
});

it('says nothing that moves the cursor, hides or reorders what people compare', () => {
  const forged = 'Ada\nthe pin\nsha256:0000\nType yes to go on: \u001b[8m';
  for (const name of [forged, '\u001b[2J', 'a\u202eb', 'a\u2028b', 'a\u007fb', 'a\u200bb'])
    expect(
      () => opened(encodeTranscript({ ...transcript, operators: [name] })),
      JSON.stringify(name),
    ).toThrow(/not one that a ceremony writes/);
  const operators = ['Žofie Ødegård', '宮本 茂', "O'Brien (PIN)"];
  expect(opened(encodeTranscript({ ...transcript, operators })).operators).toEqual(operators);
});

it('has room for a leaf of the log, and is refused where it has not', () => {
  const [item] = transcript.signed;
  const large = { ...transcript, signed: Array.from({ length: 32 }, () => item ?? transcript.signed[0]) };
  const wide = {
    ...large,
    operators: Array.from({ length: 32 }, () => '✓'.repeat(200)),
    outputs: Array.from({ length: 32 }, () => ({ name: '✓'.repeat(255), sha256: '0'.repeat(64) })),
  } as Transcript;
  expect(() => encodeTranscript(wide)).toThrow(expect.objectContaining({ code: 'config-invalid' }));
  expect(() => opened(Buffer.alloc(50_000, ' '))).toThrow(/not one that a ceremony writes/);
});
