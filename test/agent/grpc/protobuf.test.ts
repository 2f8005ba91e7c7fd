import fc from 'fast-check';
import protobuf from 'protobufjs';
import { describe, expect, test } from 'vitest';
import {
  allBytes,
  allTexts,
  bytesField,
  doubleField,
  lastText,
  mapField,
  optionalField,
  readFields,
  varintField,
} from '../../../src/agent/grpc/protobuf.ts';
import { validateResponse } from '../../../src/agent/workload-api/messages.ts';

const { root } = protobuf.parse(`
  syntax = "proto3";
  message M {
    string text = 1; repeated string texts = 2; bytes bytes = 3; uint64 number = 1000; double double = 5;
    bool flag = 6; map<string, bytes> map = 536870911; fixed32 f32 = 8; fixed64 f64 = 9; int32 negative = 10;
  }
  message Struct { map<string, Value> fields = 1; }
  message Value {
    oneof kind {
      int32 null_value = 1; double number_value = 2; string string_value = 3; bool bool_value = 4;
      Struct struct_value = 5; ListValue list_value = 6;
    }
  }
  message ListValue { repeated Value values = 1; }
  message Validated { string spiffe_id = 1; Struct claims = 2; }
`);
const M = root.lookupType('M');

describe('messages against another implementation', () => {
  test('what we write, it reads', () => {
    fc.assert(
      fc.property(
        fc.record({
          text: fc.string({ unit: 'grapheme' }),
          texts: fc.array(fc.string(), { maxLength: 3 }),
          bytes: fc.uint8Array({ maxLength: 300 }),
          number: fc.maxSafeNat(),
          double: fc.double({ noNaN: true }),
          flag: fc.boolean(),
          map: fc.dictionary(fc.string(), fc.uint8Array({ maxLength: 5 }), { maxKeys: 3 }),
        }),
        (value) => {
          const ours = Buffer.concat([
            optionalField(1, value.text),
            ...value.texts.map((one) => bytesField(2, one)),
            optionalField(3, value.bytes),
            varintField(1000, value.number),
            doubleField(5, value.double),
            varintField(6, value.flag ? 1 : 0),
            ...Object.entries(value.map).map(([name, one]) => mapField(536870911, name, one)),
          ]);
          const read = M.toObject(M.decode(ours), {
            longs: Number,
            arrays: true,
            objects: true,
            defaults: true,
          });
          expect(read).toMatchObject({
            ...value,
            bytes: Buffer.from(value.bytes),
            map: Object.fromEntries(Object.entries(value.map).map(([name, one]) => [name, Buffer.from(one)])),
          });
        },
      ),
    );
  });

  test('what it writes, we read, and pass over what we do not know', () => {
    const bytes = Buffer.from(
      M.encode({
        f32: 1,
        f64: 2,
        text: 'ä',
        texts: ['', 'b'],
        bytes: [1],
        number: 300,
        negative: -1,
      }).finish(),
    );
    const fields = readFields(bytes);
    expect(lastText(fields, 1)).toBe('ä');
    expect(allTexts(fields, 2)).toEqual(['', 'b']);
    expect(allBytes(fields, 3)).toEqual([Buffer.of(1)]);
    expect(fields.find(({ number }) => number === 1000)?.value).toBe(300);
    expect(fields.map(({ number }) => number)).not.toContain(8);
    expect(lastText(readFields(Buffer.concat([bytesField(1, 'a'), bytesField(1, 'b')])), 1)).toBe('b');
  });

  test('nothing that comes makes the reader do anything but read or refuse', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          readFields(Buffer.from(bytes));
        } catch (error) {
          expect(error).toMatchObject({ name: 'GrpcError', status: 3 });
        }
      }),
    );
  });

  test('a message of too many fields is refused', () => {
    expect(() => readFields(Buffer.alloc(10_000, Buffer.of(8, 0)))).toThrow('malformed');
  });
});

test('claims of every kind travel in a Struct', () => {
  const Validated = root.lookupType('Validated');
  const claims = { a: null, b: 1.5, c: 'text', d: false, e: [1, 'x', [true]], f: { g: {} } };
  const read = Validated.toObject(Validated.decode(validateResponse('spiffe://a/b', claims)));
  const list = (...values: object[]) => ({ listValue: { values } });
  expect(read.claims).toEqual({
    fields: {
      a: { nullValue: 0 },
      b: { numberValue: 1.5 },
      c: { stringValue: 'text' },
      d: { boolValue: false },
      e: list({ numberValue: 1 }, { stringValue: 'x' }, list({ boolValue: true })),
      f: { structValue: { fields: { g: { structValue: {} } } } },
    },
  });
  let deep: unknown = 1;
  for (let depth = 0; depth < 20; depth++) deep = [deep];
  expect(() => validateResponse('spiffe://a/b', { deep })).toThrow('nested too deep');
});
