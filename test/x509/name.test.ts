import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ia5String, integer, oid, sequence, set, tlv, utf8String } from '../../src/x509/der.ts';
import { emptyName, nameText, rdnName } from '../../src/x509/name.ts';
import { makeRoot } from './authority.ts';
import { expectRefusal } from './refusal.ts';

const attribute = (type: string, value: Buffer): Buffer => sequence(oid(type), value);

describe('rdnName', () => {
  it('writes organization, then common name', () => {
    const name = rdnName({ commonName: 'example.org root', organization: 'Example' });
    expect(nameText(name)).toBe('O=Example, CN=example.org root');
    expect(new X509Certificate(makeRoot({ subjectName: name }).der).subject).toBe(
      'O=Example\nCN=example.org root',
    );
  });

  it('is empty without parts', () => {
    expect(rdnName({})).toEqual(emptyName);
    expect(nameText(emptyName)).toBe('');
  });

  it.each(['', 'a'.repeat(65), 'a\nb', 'a\0', '\ud800'])('refuses %j', (commonName) => {
    expectRefusal(() => rdnName({ commonName }), 'policy-names', /1 to 64 characters/);
  });

  it('counts characters, not bytes', () => {
    expect(nameText(rdnName({ commonName: '𝔘'.repeat(64) }))).toBe(`CN=${'𝔘'.repeat(64)}`);
  });
});

describe('nameText', () => {
  it('escapes what could pass for another attribute or move a terminal', () => {
    const name = sequence(set(attribute('2.5.4.3', utf8String('a, O=b+c="d"\u001b[2J\u202e\n'))));
    expect(nameText(name)).toBe('CN=a\\, O\\=b\\+c\\=\\"d\\"\\1b[2J\\e2\\80\\ae\\0a');
  });

  it('shows every string type, unknown attributes by their OID', () => {
    const name = sequence(
      set(attribute('2.5.4.6', tlv(0x13, Buffer.from('DE')))),
      set(attribute('0.9.2342.19200300.100.1.25', ia5String('example'))),
      set(attribute('2.5.4.10', tlv(0x1e, Buffer.from('00fc', 'hex')))),
      set(attribute('2.5.4.11', tlv(0x14, Buffer.from('fc', 'hex')))),
      set(attribute('1.2.3.4', tlv(0x1a, Buffer.from('x')))),
    );
    expect(nameText(name)).toBe('C=DE, DC=example, O=ü, OU=ü, 1.2.3.4=x');
  });

  it('shows several attributes in one RDN', () => {
    const name = sequence(set(attribute('2.5.4.3', utf8String('a')), attribute('2.5.4.10', utf8String('b'))));
    expect(nameText(name)).toBe('CN=a, O=b');
  });

  const a = attribute('2.5.4.3', utf8String('a'));
  const b = attribute('2.5.4.10', utf8String('b'));

  it.each([
    ['an empty RDN', sequence(set())],
    ['an RDN out of order', sequence(tlv(0x31, b, a))],
    ['the same attribute twice in an RDN', sequence(tlv(0x31, a, a))],
    ['an attribute without value', sequence(set(sequence(oid('2.5.4.3'))))],
    [
      'an attribute with two values',
      sequence(set(sequence(oid('2.5.4.3'), utf8String('a'), utf8String('b')))),
    ],
    ['a UTF8String that is none', sequence(set(attribute('2.5.4.3', tlv(0x0c, Buffer.from([0xc0, 0x80])))))],
    ['an attribute that is an INTEGER', sequence(set(attribute('2.5.4.3', integer(5n))))],
    ['an attribute under a context tag', sequence(set(attribute('2.5.4.3', tlv(0x86, Buffer.from('a')))))],
    ['a UniversalString', sequence(set(attribute('2.5.4.3', tlv(0x1c, Buffer.alloc(4)))))],
    ['a BMPString of three bytes', sequence(set(attribute('2.5.4.3', tlv(0x1e, Buffer.alloc(3)))))],
    ['trailing data', Buffer.concat([emptyName, emptyName])],
    ['nothing', Buffer.alloc(0)],
    ['an attribute outside of a SET', sequence(a)],
  ])('refuses %s', (_name, der) => {
    expectRefusal(() => nameText(der), 'request-malformed');
  });

  it('gives back what rdnName wrote', () => {
    const text = fc.string({ unit: fc.constantFrom(...'abcXYZ 0123.-üß漢'), minLength: 1, maxLength: 64 });
    fc.assert(
      fc.property(text, text, (organization, commonName) => {
        expect(nameText(rdnName({ organization, commonName }))).toBe(`O=${organization}, CN=${commonName}`);
      }),
    );
  });
});
