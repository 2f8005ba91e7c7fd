import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodePem, encodePem } from '../../src/x509/pem.ts';
import { makeRoot } from './authority.ts';
import { bestOfThreeMs, limitMs } from '../support/limits.ts';
import { expectRefusal, refusalOf } from './refusal.ts';

const block = encodePem('CERTIFICATE', Buffer.alloc(100, 7));

describe('encodePem', () => {
  it('writes what OpenSSL reads', () => {
    const { der } = makeRoot();
    expect(new X509Certificate(encodePem('CERTIFICATE', der)).raw).toEqual(der);
    expect(new X509Certificate(der).toString()).toBe(encodePem('CERTIFICATE', der));
  });

  it('asserts its label', () => {
    expect(() => encodePem('CERT-----', Buffer.alloc(1))).toThrow(/assertion/);
  });
});

describe('decodePem', () => {
  it('gives back every block of the label, in order, and passes over others', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { minLength: 1, maxLength: 5 }),
        (blocks) => {
          const text = blocks
            .map((der) => `# a comment\n\n${encodePem('X509 CRL', der)}${encodePem('CERTIFICATE', der)}`)
            .join('');
          expect(decodePem(text, 'X509 CRL')).toEqual(blocks.map((der) => Buffer.from(der)));
        },
      ),
    );
  });

  it('takes CRLF, and a last line without its end', () => {
    expect(decodePem(block.replaceAll('\n', '\r\n'), 'CERTIFICATE')).toHaveLength(1);
    expect(decodePem(block.trimEnd(), 'CERTIFICATE')).toHaveLength(1);
  });

  it.each([
    ['nothing', '', /no CERTIFICATE block/],
    ['another label only', encodePem('PRIVATE KEY', Buffer.alloc(3)), /no CERTIFICATE block/],
    ['text before', `subject=CN\n${block}`, /text outside/],
    ['text after', `${block}x`, /text outside/],
    [
      'text behind END',
      block.replace('-----END CERTIFICATE-----', '-----END CERTIFICATE-----x'),
      /END line goes on/,
    ],
    ['BEGIN inside a comment', `# ${block}`, /does not begin its line/],
    ['no END', block.slice(0, 80), /no END line/],
    ['another END', block.replace('END CERTIFICATE', 'END X509 CRL'), /no END line/],
    ['a BEGIN without its line', '-----BEGIN CERTIFICATE-----', /BEGIN line is damaged/],
    ['a damaged BEGIN', block.replace('CERTIFICATE-----\n', 'CERTIFICATE----\n'), /BEGIN line is damaged/],
    ['a label in lower case', block.replaceAll('CERTIFICATE', 'certificate'), /BEGIN line is damaged/],
    ['an empty body', '-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n', /not base64 in lines/],
    ['headers', block.replace('-----\n', '-----\nProc-Type: 4,ENCRYPTED\n'), /not base64 in lines/],
    ['white space in a line', block.replace('Bw', 'B w'), /not base64 in lines/],
    ['characters outside the alphabet', block.replace('Bw', 'B!w'), /not base64 in lines/],
    [
      'base64url',
      encodePem('CERTIFICATE', Buffer.alloc(48, 0xff)).replaceAll('/', '_'),
      /not base64 in lines/,
    ],
    ['lines of 76', block.replace(/\n([A-Za-z0-9+/]{64})\n(.{12})/, '\n$1$2\n'), /not base64 in lines/],
    ['padding left out', encodePem('CERTIFICATE', Buffer.alloc(2)).replace('=', ''), /not base64 in lines/],
    [
      'bits after the last byte',
      encodePem('CERTIFICATE', Buffer.alloc(2)).replace('AAA=', 'AAB='),
      /not base64 in lines/,
    ],
    [
      'more padding',
      encodePem('CERTIFICATE', Buffer.alloc(3)).replace('AAAA', 'AAAA===='),
      /not base64 in lines/,
    ],
    ['a BEGIN inside a block', block.replace('\n', `\n${block}`), /not base64 in lines/],
  ])('refuses %s', (_name, text, detail) => {
    expectRefusal(() => decodePem(text, 'CERTIFICATE'), 'request-malformed', detail);
  });

  it.each([
    ['a megabyte of BEGIN lines', '-----BEGIN CERTIFICATE-----\n'.repeat(40_000)],
    ['a megabyte of dashes', '-'.repeat(1_000_000)],
    ['a megabyte of BEGIN and END without body', '-----BEGIN A-----\n-----END A-----\n'.repeat(30_000)],
    ['one BEGIN and a megabyte of line ends', `-----BEGIN CERTIFICATE-----${'\n'.repeat(1_000_000)}`],
    ['a megabyte of carriage returns', '\r'.repeat(1_000_000)],
  ])('answers %s in linear time (CVE-2024-12401, CVE-2025-61723)', (_name, text) => {
    expect(bestOfThreeMs(() => refusalOf(() => decodePem(text, 'CERTIFICATE')))).toBeLessThan(limitMs(100));
  });

  it('reads ten thousand small blocks in linear time', () => {
    expect(bestOfThreeMs(() => decodePem(block.repeat(10_000), 'CERTIFICATE'))).toBeLessThan(limitMs(200));
  });
});
