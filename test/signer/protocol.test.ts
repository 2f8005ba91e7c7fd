import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Reason, reasonCodes } from '../../src/core/reasons.ts';
import type { JwtClaims } from '../../src/core/jwt-svid.ts';
import { parseSerial } from '../../src/core/serial.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import type { OcspAnswer } from '../../src/x509/ocsp.ts';
import { VouchError } from '../../src/core/errors.ts';
import { encodeFrame, type Frame, FrameReader, frameMaxBytes } from '../../src/signer/frames.ts';
import {
  decodeAppendResult,
  decodeCheckpoint,
  decodeError,
  decodeGreeting,
  decodeRequest,
  encodeAppendResult,
  encodeCheckpoint,
  encodeError,
  encodeGreeting,
  encodeRequest,
  type Request,
} from '../../src/signer/protocol.ts';

const bytes = (max: number) => fc.uint8Array({ maxLength: max }).map((array) => Buffer.from(array));
const count = fc.nat(Number.MAX_SAFE_INTEGER);
const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((array) => Buffer.from(array));
const item = fc.record({
  purpose: fc.constantFrom(
    'record',
    'certificate',
    'server-certificate',
    'crl',
    'foreign',
    'ocsp-certificate',
    undefined,
  ),
  leaf: bytes(500),
});
const status = fc.oneof(
  fc.constant({ kind: 'good' as const }),
  fc.record({
    kind: fc.constant('revoked' as const),
    atSeconds: count,
    reason: fc.constantFrom(...(Object.keys(reasonCodes) as Reason[])),
  }),
);
const answer: fc.Arbitrary<OcspAnswer> = fc.record({
  form: fc.record({
    hash: fc.constantFrom('sha1' as const, 'sha256' as const),
    hasParameters: fc.boolean(),
    serial: fc.constantFrom('01', '7f00', `2a${'0f'.repeat(16)}`).map(parseSerial),
  }),
  status,
  producedAtSeconds: count,
  thisUpdateSeconds: count,
  nextUpdateSeconds: count,
  nonce: fc.option(bytes(128), { nil: undefined }),
});
const claims: fc.Arbitrary<JwtClaims> = fc.record({
  tokenIssuer: fc.string({ maxLength: 500 }),
  spiffeId: fc.constantFrom('spiffe://test.example/orders', 'spiffe://a/b/c').map(parseSpiffeId),
  audience: fc.array(fc.string({ maxLength: 300 }), { maxLength: 8 }),
  issuedAtSeconds: count,
  expiresAtSeconds: count,
  tokenId: fc.string({ maxLength: 16 }),
});
const request: fc.Arbitrary<Request> = fc.oneof(
  fc.record({ op: fc.constant('jwt' as const), keyId: fc.constant('ab'.repeat(20)), claims }),
  fc.record({ op: fc.constant('ocsp' as const), issuerKeyId: fc.constant('ab'.repeat(20)), answer }),
  fc.record({ op: fc.constant('hello' as const), version: fc.nat(0xffff_ffff) }),
  fc.record({
    op: fc.constant('resume' as const),
    genesis: fc.boolean(),
    checkpoint: fc.string(),
    peaks: fc.array(hash, { maxLength: 60 }),
    consistency: fc.array(hash, { maxLength: 60 }),
  }),
  fc.record({ op: fc.constant('openLog' as const), statement: fc.string(), rootSpki: bytes(300) }),
  fc.record({ op: fc.constant('leaves' as const), leaves: fc.array(bytes(300)) }),
  fc.record({ op: fc.constant('append' as const), firstIndex: count, items: fc.array(item) }),
  fc.record({
    op: fc.constant('signLogged' as const),
    request: fc
      .tuple(item, fc.record({ index: count, treeSize: count, path: fc.array(hash, { maxLength: 60 }) }))
      .map(([one, place]) => ({ ...one, ...place })),
  }),
  fc.record({
    op: fc.constant('upload' as const),
    upload: fc.nat(0xffff_ffff),
    part: bytes(500),
    last: fc.boolean(),
  }),
  fc.constantFrom<Request>({ op: 'resumed' }, { op: 'ping' }, { op: 'stop' }),
);

const decoded = ({ kind, payload }: ReturnType<typeof encodeRequest>) => decodeRequest(kind, payload);

describe('requests', () => {
  it('read back as they were written', () => {
    fc.assert(
      fc.property(request, (one) => {
        const { kind, payload } = encodeRequest(one);
        expect(decodeRequest(kind, payload)).toEqual(one);
      }),
    );
  });

  it('of all 256 kinds are known or refused by name; an unknown one never falls through (I7)', () => {
    const known = new Set(['resumed', 'ping', 'stop']);
    for (let kind = 0; kind < 256; kind += 1) {
      try {
        expect(known).toContain(decodeRequest(kind, Buffer.alloc(0)).op);
      } catch (error) {
        expect((error as VouchError).code).toBe(
          kind >= 1 && kind <= 12 ? 'request-malformed' : 'request-unknown-type',
        );
      }
    }
  });

  it('from random bytes are refused, never another exception, whatever their length says', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10 }), bytes(400), (kind, payload) => {
        try {
          decodeRequest(kind, payload);
        } catch (error) {
          expect(error).toBeInstanceOf(VouchError);
          expect((error as VouchError).code).toBe('request-malformed');
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('with a byte cut off, added or changed are refused or another valid request', () => {
    fc.assert(
      fc.property(request, fc.nat(), fc.nat(255), (one, at, value) => {
        const { kind, payload } = encodeRequest(one);
        expect(() => decodeRequest(kind, Buffer.concat([payload, Buffer.from([0])]))).toThrow(VouchError);
        if (payload.length === 0) return;
        expect(() => decodeRequest(kind, payload.subarray(0, -1))).toThrow(VouchError);
        const changed = Buffer.from(payload);
        changed[at % payload.length] = value;
        try {
          decodeRequest(kind, changed);
        } catch (error) {
          expect(error).toBeInstanceOf(VouchError);
        }
      }),
    );
  });

  it('to take up leaves hold no more of them than one append: millions of empty ones would hold the signer up', () => {
    const leaves = (count: number) =>
      encodeRequest({ op: 'leaves', leaves: Array(count).fill(Buffer.alloc(0)) });
    expect(decoded(leaves(65_536))).toMatchObject({ op: 'leaves' });
    expect(() => decoded(leaves(65_537))).toThrow(expect.objectContaining({ code: 'request-malformed' }));
  });

  it('that announce a huge list cost nothing', () => {
    const append = Buffer.alloc(12);
    append.writeUInt32BE(0xffff_ffff, 8);
    expect(() => decodeRequest(5, append)).toThrow(/malformed/);
    append.writeUInt32BE(65_536, 8);
    expect(() => decodeRequest(5, append)).toThrow(/malformed/);
  });
});

describe('answers', () => {
  const checkpoint = {
    origin: 'a/b',
    treeSize: 7,
    rootHash: Buffer.alloc(32, 1),
    note: 'a/b\n7\nx\n\n— sig\n',
  };

  it('read back as they were written', () => {
    expect(decodeCheckpoint(encodeCheckpoint(checkpoint))).toEqual(checkpoint);
    const refused = new VouchError('policy-names', 'no', { retryAfterSeconds: 3 });
    const result = { signatures: [Buffer.from('sig'), undefined, refused, Buffer.alloc(0)], checkpoint };
    const read = decodeAppendResult(encodeAppendResult(result));
    expect(read.checkpoint).toEqual(checkpoint);
    expect(read.signatures).toEqual(result.signatures);
    expect(read.signatures[2]).toMatchObject({ code: 'policy-names', detail: 'no', retryAfterSeconds: 3 });
    const log = { trustDomain: 'a', logOrigin: 'a/b', floorSize: 7 };
    const greeting = { version: 1, pid: 5, ...log, issuerKeyIds: ['x'] };
    expect(decodeGreeting(encodeGreeting(greeting))).toEqual(greeting);
  });

  it('never carry the text of an error that is not ours', () => {
    const read = decodeError(encodeError(new Error('PIN 1234 refused')));
    expect(read.code).toBe('internal');
    expect(read.detail).not.toContain('1234');
  });

  it('with an unknown code become internal', () => {
    const odd = encodeError(new VouchError('internal', 'x'));
    odd.write('intruder', 4);
    expect(decodeError(odd).code).toBe('internal');
  });

  it('that are junk are refused', () => {
    for (const junk of [Buffer.from('{}'), Buffer.from('null'), Buffer.from('x'), Buffer.alloc(0)])
      expect(() => decodeGreeting(junk)).toThrow(VouchError);
  });
});

describe('frames', () => {
  const frame: fc.Arbitrary<Frame> = fc.record({
    requestId: fc.nat(0xffff_ffff),
    kind: fc.nat(255),
    payload: bytes(3000),
  });

  it('come out as they went in, however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 5000 })),
        (frames, cuts) => {
          const reader = new FrameReader();
          let rest = Buffer.concat(frames.flatMap((one) => encodeFrame(one)));
          const out: Frame[] = [];
          for (const cut of [...cuts, rest.length + 1]) {
            out.push(...reader.push(rest.subarray(0, cut)));
            rest = rest.subarray(cut);
          }
          expect(out).toEqual(frames);
        },
      ),
    );
  });

  it('too short or too long are refused as soon as the length is there', () => {
    for (const length of [0, 4, frameMaxBytes + 1, 0xffff_ffff]) {
      const head = Buffer.alloc(4);
      head.writeUInt32BE(length);
      expect(() => new FrameReader().push(head)).toThrow(VouchError);
    }
    const payload = Buffer.alloc(frameMaxBytes - 4);
    expect(() => encodeFrame({ requestId: 1, kind: 1, payload })).toThrow(/holds/);
  });

  it('of many bytes arrive in linear time', () => {
    const payload = Buffer.alloc(frameMaxBytes - 4096, 7);
    const [head, body] = encodeFrame({ requestId: 1, kind: 1, payload });
    const reader = new FrameReader();
    expect(reader.push(head)).toEqual([]);
    let frames: Frame[] = [];
    for (let at = 0; at < body.length; at += 16_384) frames = reader.push(body.subarray(at, at + 16_384));
    expect(frames[0]?.payload.length).toBe(payload.length);
  });
});
