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
