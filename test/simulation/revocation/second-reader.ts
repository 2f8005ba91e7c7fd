import { execFileSync } from 'node:child_process';
import type { PublishedCrl } from '../../../src/revocation/published-crls.ts';
import { joinedCrl } from '../../../src/x509/crl-tbs.ts';
import type { Random } from '../../kills/random.ts';

/** Has OpenSSL read a sample of the CRLs, more seldom the more there were. */
export class SecondReader {
  readonly #random: Random;
  samples = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** What OpenSSL says otherwise; `keys` are the serials that it has to list. */
  read({ der, crlNumber }: PublishedCrl, keys: readonly string[]): string[] {
    if (!this.#random.chance(1 / (3 + 2 * this.samples))) return [];
    this.samples += 1;
    const text = execFileSync('openssl', ['crl', '-inform', 'DER', '-noout', '-text'], {
      input: joinedCrl(der),
      maxBuffer: 256 * 1024 * 1024,
      stdio: ['pipe', 'pipe', 'pipe'],
    }).toString();
    const listed = new Set([...text.matchAll(/Serial Number: ([0-9A-F]+)/g)].map(([, hex = '']) => hex));
    const expected = keys.map((key) => Buffer.from(key, 'latin1').toString('hex').toUpperCase());
    const number = /X509v3 CRL Number:\s*(?:0x([0-9A-F]+)|(\d+))/.exec(text);
    const read = BigInt(number?.[1] === undefined ? (number?.[2] ?? 0) : `0x${number[1]}`);
    return [
      ...(listed.size === expected.length && expected.every((one) => listed.has(one))
        ? []
        : ['has other entries for OpenSSL']),
      ...(read === crlNumber ? [] : [`has the number ${read} for OpenSSL`]),
    ];
  }
}
