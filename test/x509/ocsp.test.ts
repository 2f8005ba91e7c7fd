import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  explicit,
  implicit,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  tlv,
} from '../../src/x509/der.ts';
import { oids } from '../../src/x509/oids.ts';
import { issuerHashes, ocspRequestMaxBytes, parseOcspRequest } from '../../src/x509/ocsp.ts';
import { rawExtension } from './raw-certificate.ts';
import { makeRoot } from './authority.ts';
import { bestOfThreeMs, limitMs } from '../support/limits.ts';
import { expectRefusal } from './refusal.ts';

const root = makeRoot();
const issuer = { nameDer: root.name, spki: root.key.info.spki };
const serial = Buffer.from(`01${'ab'.repeat(16)}`, 'hex');

function certId(hash: 'sha1' | 'sha256' = 'sha1', parameters: Buffer[] = [nullValue]): Buffer {
  const { issuerNameHash, issuerKeyHash } = issuerHashes(issuer, hash);
  return sequence(
    sequence(oid(oids[hash]), ...parameters),
    octetString(issuerNameHash),
    octetString(issuerKeyHash),
    integer(serial),
  );
}

/** An OCSPRequest of these Requests, with more behind them. */
function request(requests: Buffer[], ...more: Buffer[]): Buffer {
  return sequence(sequence(sequence(...requests), ...more));
}

function nonceOf(value: Buffer): Buffer {
  return explicit(2, sequence(rawExtension(oids.ocspNonce, value)));
}

describe('an OCSPRequest', () => {
  it('names one certificate, by SHA-1 or SHA-256, with parameters or without', () => {
    for (const hash of ['sha1', 'sha256'] as const)
      for (const parameters of [[nullValue], []]) {
        const { certId: found, nonce } = parseOcspRequest(request([sequence(certId(hash, parameters))]));
        expect(found).toEqual({
          hash,
          hasParameters: parameters.length > 0,
          ...issuerHashes(issuer, hash),
          serial: serial.toString('hex'),
        });
        expect(nonce).toBeUndefined();
      }
  });

  it('may carry a nonce of 1 to 128 bytes, a name and a signature', () => {
    for (const size of [1, 16, 32, 128]) {
      const nonce = randomBytes(size);
      const asked = request([sequence(certId())], nonceOf(octetString(nonce)));
      expect(parseOcspRequest(asked).nonce).toEqual(nonce);
    }
    const name = explicit(1, implicit(6, Buffer.from('http://client.example')));
    const named = sequence(
      sequence(name, sequence(sequence(certId()))),
      explicit(0, sequence(sequence(oid(oids.ecdsaWithSha256)), tlv(3, Buffer.from([0, 1])))),
    );
    expect(parseOcspRequest(named).certId.serial).toBe(serial.toString('hex'));
  });

  it('with another hash is read, and names nobody', () => {
    const other = sequence(
      sequence(oid('2.16.840.1.101.3.4.2.3')),
      octetString(Buffer.alloc(64)),
      octetString(Buffer.alloc(64)),
      integer(serial),
    );
    expect(parseOcspRequest(request([sequence(other)])).certId.hash).toBeUndefined();
  });
});

describe('a hostile OCSPRequest is refused at once', () => {
  const good = request([sequence(certId())]);
  const one = sequence(certId());
  const nested = (depth: number): Buffer => (depth === 0 ? nullValue : sequence(nested(depth - 1)));
  const unknown = (critical: boolean): Buffer =>
    explicit(2, sequence(rawExtension('1.3.6.1.5.5.7.48.1.9', nullValue, critical)));

  const cases: [string, Buffer, RegExp][] = [
    ['nothing', Buffer.alloc(0), /empty/],
    ['garbage', randomBytes(200).fill(0xff, 0, 1), /not valid DER/],
    ['1 MB', Buffer.alloc(1_000_000, 0x30), /larger than 4096/],
    ['one byte too many', Buffer.alloc(ocspRequestMaxBytes + 1), /larger than 4096/],
    ['one cut short', good.subarray(0, -1), /longer than what contains it/],
    ['one with something behind it', Buffer.concat([good, nullValue]), /trailing data/],
    ['deep nesting', request([nested(40)]), /nested deeper/],
    ['no certificate', request([]), /empty/],
    ['two certificates', request([one, one]), /one certificate/],
    ['forty certificates', request(Array<Buffer>(40).fill(one)), /one certificate/],
    ['a written default version', sequence(sequence(explicit(0, integer(0n)), sequence(one))), /another tag/],
    [
      'an indefinite length',
      Buffer.concat([Buffer.from([0x30, 0x80]), good.subarray(2), Buffer.alloc(2)]),
      /indefinite|longer/,
    ],
    ['an empty nonce', request([one], nonceOf(octetString(Buffer.alloc(0)))), /1 to 128/],
    ['a nonce of 129 bytes', request([one], nonceOf(octetString(Buffer.alloc(129)))), /1 to 128/],
    ['a nonce that is no OCTET STRING', request([one], nonceOf(nullValue)), /another tag/],
    ['two nonces', request([one], explicit(2, sequence(...twice(octetString(Buffer.alloc(8)))))), /twice/],
    ['a critical extension', request([one], unknown(true)), /critical extension/],
    ['a serial of 21 bytes', request([sequence(withSerial(Buffer.alloc(21, 1)))]), /longer than 20/],
    ['a negative serial', request([sequence(withSerial(Buffer.from([0x80])))]), /negative/],
  ];

  it.each(cases)('%s', (_name, der, why) => {
    expectRefusal(() => parseOcspRequest(der), 'request-malformed', why);
    const call = (): void => expectRefusal(() => parseOcspRequest(der), 'request-malformed');
    expect(bestOfThreeMs(call)).toBeLessThan(limitMs(20));
  });

  it('but an extension that is not critical is stepped over', () => {
    expect(parseOcspRequest(request([one], unknown(false))).nonce).toBeUndefined();
  });
});

function twice(value: Buffer): Buffer[] {
  return [rawExtension(oids.ocspNonce, value), rawExtension(oids.ocspNonce, value)];
}

function withSerial(content: Buffer): Buffer {
  return sequence(
    sequence(oid(oids.sha1)),
    octetString(Buffer.alloc(20)),
    octetString(Buffer.alloc(20)),
    tlv(2, content),
  );
}
