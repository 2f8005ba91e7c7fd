import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Json } from '../../src/core/canonical-json.ts';
import { type Reason, reasonCodes } from '../../src/core/reasons.ts';
import { parseSerial, type Serial } from '../../src/core/serial.ts';
import {
  crlBody,
  decisionContext,
  decodeCrlBody,
  decodeJsonBody,
  decodeLeaf,
  decodeRevocationBody,
  encodeLeaf,
  jsonBody,
  type Leaf,
  type LeafType,
  leafMaxBytes,
  leafTypes,
  revocationBody,
} from '../../src/log/leaf.ts';
import { refusal } from './refusal.ts';

const integrityLog = refusal('integrity-log');
const issuerKeyId = '00112233445566778899aabbccddeeff01234567';
const leaf: Leaf = {
  type: 'certificate',
  timeMs: 1_700_000_000_123,
  issuerKeyId,
  body: Buffer.from('3003020101', 'hex'),
  context: Buffer.alloc(32, 0xcc),
};

describe('leaf bytes', () => {
  it('stand where the document says', () => {
    const hex = `01010000018bcfe5687b14${issuerKeyId}00053003020101${'cc'.repeat(32)}`;
    expect(encodeLeaf(leaf).toString('hex')).toBe(hex);
    const operator = encodeLeaf({
      ...leaf,
      type: 'operator',
      issuerKeyId: '',
      timeMs: 0,
      body: Buffer.from('{}'),
    });
    expect(operator.toString('hex')).toBe(`0108${'00'.repeat(8)}0000027b7d${'cc'.repeat(32)}`);
  });

  it('come back as they went in', () => {
    const arbitrary = fc.record({
      type: fc.constantFrom(...(Object.keys(leafTypes) as LeafType[])),
      timeMs: fc.maxSafeNat(),
      issuerKeyId: fc
        .uint8Array({ minLength: 20, maxLength: 20 })
        .map((id) => Buffer.from(id).toString('hex')),
      body: fc.uint8Array({ minLength: 1, maxLength: 5000 }).map((body) => Buffer.from(body)),
      context: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((context) => Buffer.from(context)),
    });
    fc.assert(
      fc.property(arbitrary, (made) => {
        const bytes = encodeLeaf(made);
        expect(decodeLeaf(bytes)).toEqual(made);
        expect(encodeLeaf(decodeLeaf(bytes))).toEqual(bytes);
      }),
    );
  });

  it('are 65,535 at most', () => {
    const full = encodeLeaf({ ...leaf, body: Buffer.alloc(65_470) });
    expect(full.length).toBe(leafMaxBytes);
    expect(decodeLeaf(full).body.length).toBe(65_470);
    const tooLarge = refusal('request-too-large');
    expect(() => encodeLeaf({ ...leaf, body: Buffer.alloc(65_471) })).toThrow(tooLarge);
    expect(() => encodeLeaf({ ...leaf, body: Buffer.alloc(10_000_000) })).toThrow(tooLarge);
    expect(encodeLeaf({ ...leaf, type: 'token', issuerKeyId: '', body: Buffer.alloc(65_490) }).length).toBe(
      leafMaxBytes,
    );
    expect(() => decodeLeaf(Buffer.concat([full, Buffer.alloc(1)]))).toThrow(integrityLog);
  });

  it('are refused at every truncation and with anything after them', () => {
    const bytes = encodeLeaf(leaf);
    for (let length = 0; length < bytes.length; length++)
      expect(() => decodeLeaf(bytes.subarray(0, length))).toThrow(integrityLog);
    expect(() => decodeLeaf(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(integrityLog);
  });

  it.each([
    ['another version', 0, 2],
    ['version 0', 0, 0],
    ['type 0', 1, 0],
    ['type 9', 1, 9],
    ['a time past 2^53', 2, 0xff],
    ['an issuer of 19 bytes', 10, 19],
    ['an issuer of 21 bytes', 10, 21],
    ['an issuer of 255 bytes', 10, 255],
    ['a certificate without issuer', 10, 0],
    ['a longer body', 32, 6],
    ['a shorter body', 32, 4],
  ])('are refused with %s', (_, at, value) => {
    const bytes = encodeLeaf(leaf);
    bytes[at] = value;
    expect(() => decodeLeaf(bytes)).toThrow(integrityLog);
  });

  it.each([
    ['an issuer of 19 bytes', { issuer: Buffer.alloc(19) }],
    ['an issuer of 21 bytes', { issuer: Buffer.alloc(21) }],
    ['a certificate without issuer', { issuer: Buffer.alloc(0) }],
    ['an empty body', { body: Buffer.alloc(0) }],
    ['a short context', { context: Buffer.alloc(31) }],
    ['a long context', { context: Buffer.alloc(33) }],
  ])('are refused with %s where all else is whole', (_, change) => {
    const whole = { issuer: Buffer.alloc(20), body: Buffer.from('3000', 'hex'), context: Buffer.alloc(32) };
    const bytesOf = ({ issuer, body, context }: typeof whole) =>
      Buffer.concat([
        Buffer.from('01010000000000000001', 'hex'),
        Buffer.from([issuer.length]),
        issuer,
        Buffer.from([0, body.length]),
        body,
        context,
      ]);
    expect(decodeLeaf(bytesOf(whole)).timeMs).toBe(1);
    expect(() => decodeLeaf(bytesOf({ ...whole, ...change }))).toThrow(integrityLog);
  });

  it('never decode in two ways, whatever the bytes', () => {
    const near = fc.tuple(fc.nat(70), fc.nat(255)).map(([at, value]) => {
      const bytes = encodeLeaf(leaf);
      bytes[at % bytes.length] = value;
      return bytes;
    });
    fc.assert(
      fc.property(
        fc.oneof(
          near,
          fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
        ),
        (bytes) => {
          const outcome = decodedOr(bytes);
          expect([bytes, integrityLog]).toContainEqual(
            outcome instanceof Error ? outcome : encodeLeaf(outcome),
          );
        },
      ),
      { numRuns: 1000 },
    );
  });

  it.each([
    ['a fraction of a millisecond', { timeMs: 1.5 }],
    ['a negative time', { timeMs: -1 }],
    ['a short issuer', { issuerKeyId: '00' }],
    ['an upper-case issuer', { issuerKeyId: issuerKeyId.toUpperCase() }],
    ['no issuer', { issuerKeyId: '' }],
    ['a short context', { context: Buffer.alloc(31) }],
    ['an empty body', { body: Buffer.alloc(0) }],
    ['a type of the prototype', { type: 'toString' as LeafType }],
  ])('are not made with %s', (_, change) => {
    expect(() => encodeLeaf({ ...leaf, ...change })).toThrow(/assertion failed/);
  });
});

describe('a revocation body', () => {
  it('has serial, reason and time', () => {
    const body = revocationBody({
      serial: parseSerial('0a0b'),
      reason: 'keyCompromise',
      revokedAtMs: 1_700_000_000_123,
    });
    expect(body.toString('hex')).toBe('020a0b010000018bcfe5687b');
    expect(decodeRevocationBody(body)).toEqual({
      serial: '0a0b',
      reason: 'keyCompromise',
      revokedAtMs: 1_700_000_000_123,
    });
  });

  it('has an invalidity date where one is given, in whole seconds', () => {
    const revocation = {
      serial: parseSerial('0a0b'),
      reason: 'keyCompromise' as const,
      revokedAtMs: 1_700_000_000_123,
      invalidityDateSeconds: 1_700_000_000,
    };
    const body = revocationBody(revocation);
    expect(body.toString('hex')).toBe('020a0b010000018bcfe5687b000000006553f100');
    expect(decodeRevocationBody(body)).toEqual(revocation);
    const none = { ...revocation, invalidityDateSeconds: undefined };
    expect(revocationBody(none).toString('hex')).toBe('020a0b010000018bcfe5687b');
    expect(() => revocationBody({ ...revocation, invalidityDateSeconds: 0.5 })).toThrow(/assertion/);
  });

  it('comes back for every reason and length of serial', () => {
    for (const reason of Object.keys(reasonCodes) as Reason[])
      for (let length = 1; length <= 20; length++) {
        const revocation = { serial: parseSerial('7f'.repeat(length)), reason, revokedAtMs: length };
        expect(decodeRevocationBody(revocationBody(revocation))).toEqual(revocation);
      }
  });

  it.each([
    '',
    '00',
    '00010000018bcfe5687b',
    '020a0b070000018bcfe5687b',
    '020a0b0b0000018bcfe5687b',
    '020a0b01ff00018bcfe5687b',
    '020a0b010000018bcfe568',
    '020a0b010000018bcfe5687b00',
    '020a0b010000018bcfe5687b00000000655400',
    '020a0b010000018bcfe5687b000000006553f10000',
    '020a0b010000018bcfe5687bff00000065540000',
    '0180010000018bcfe5687b',
    '0100010000018bcfe5687b',
    `15${'01'.repeat(21)}010000018bcfe5687b`,
  ])('is refused as %j', (hex) => {
    expect(() => decodeRevocationBody(Buffer.from(hex, 'hex'))).toThrow(integrityLog);
  });

  it('is not made with a time that is none', () => {
    expect(() =>
      revocationBody({ serial: '01' as Serial, reason: 'unspecified', revokedAtMs: Number.NaN }),
    ).toThrow(/assertion/);
  });
});

describe('a CRL body', () => {
  const tbsSha256 = Buffer.alloc(32, 0xdd);

  it('has scope, number and hash', () => {
    const body = crlBody({ scope: 'full', crlNumber: 0x18bcfe5687bn, tbsSha256 });
    expect(body.toString('hex')).toBe(`0466756c6c06018bcfe5687b${'dd'.repeat(32)}`);
  });

  it('comes back for every number of at most 20 octets', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: (1n << 159n) - 1n }),
        fc.constantFrom('full', '0', '15', 'delta'),
        (crlNumber, scope) => {
          expect(decodeCrlBody(crlBody({ scope, crlNumber, tbsSha256 }))).toEqual({
            scope,
            crlNumber,
            tbsSha256,
          });
        },
      ),
    );
    expect(() => crlBody({ scope: 'full', crlNumber: 1n << 159n, tbsSha256 })).toThrow(/assertion/);
    expect(() => crlBody({ scope: 'full', crlNumber: -1n, tbsSha256 })).toThrow(/assertion/);
    expect(() => crlBody({ scope: 'Full', crlNumber: 1n, tbsSha256 })).toThrow(/assertion/);
    expect(() => crlBody({ scope: 'full', crlNumber: 1n, tbsSha256: tbsSha256.subarray(1) })).toThrow(
      /assertion/,
    );
  });

  const tail = 'dd'.repeat(32);
  it.each([
    '',
    `00${tail}`,
    `0001${'01'}${tail}`,
    `0130${'00'}${tail}`,
    `0130020001${tail}`,
    `013015${'01'.repeat(21)}${tail}`,
    `013014${'ff'.repeat(20)}${tail}`,
    `01300101${tail}00`,
    `01300101${tail.slice(2)}`,
    `01410101${tail}`,
    `01b00101${tail}`,
    `21${'30'.repeat(33)}0101${tail}`,
  ])('is refused as %j', (hex) => {
    expect(() => decodeCrlBody(Buffer.from(hex, 'hex'))).toThrow(integrityLog);
  });
});

describe('a JSON body', () => {
  it('is canonical and comes back', () => {
    const value: Json = { b: [1, null, true, 'ü'], a: { z: '', y: -1 } };
    expect(jsonBody(value).toString()).toBe('{"a":{"y":-1,"z":""},"b":[1,null,true,"ü"]}');
    expect(decodeJsonBody(jsonBody(value))).toEqual(value);
  });

  it.each([
    '',
    '{',
    '{"a":1,"a":1}',
    '{"b":1,"a":2}',
    '{ "a":1}',
    '{"a":1}\n',
    '{"a":1.5}',
    '{"a":1e3}',
    '{"a":"\\u0041"}',
    'NaN',
    '{"a":12345678901234567890}',
  ])('is refused as %j', (text) => {
    expect(() => decodeJsonBody(Buffer.from(text))).toThrow(integrityLog);
  });

  it('is refused when it is not UTF-8 or nested without end', () => {
    expect(() => decodeJsonBody(Buffer.from('2261ff22', 'hex'))).toThrow(integrityLog);
    expect(() => decodeJsonBody(Buffer.from('['.repeat(65_000)))).toThrow(integrityLog);
    expect(() => decodeJsonBody(Buffer.from('['.repeat(30_000) + ']'.repeat(30_000)))).toThrow(integrityLog);
  });
});

describe('the context', () => {
  it('is SHA-256 over salt and decision', () => {
    const salt = Buffer.alloc(16, 1);
    const decision = '{"entry":"e1","operator":"ü"}';
    expect(decisionContext(salt, decision)).toEqual(
      createHash('sha256').update(salt).update(decision, 'utf8').digest(),
    );
    expect(() => decisionContext(Buffer.alloc(15), decision)).toThrow(/16 bytes/);
  });
});

function decodedOr(bytes: Buffer): Leaf | Error {
  try {
    return decodeLeaf(bytes);
  } catch (error) {
    return error instanceof Error ? error : new Error('threw something else');
  }
}
