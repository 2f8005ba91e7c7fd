import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { parseRequest } from '../../src/ceremony/request.ts';
import type { CeremonyRequestJson } from '../../src/wire/ceremony.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { decodePem, encodePem } from '../../src/x509/pem.ts';
import { csrOf, softwareKey, softwareRequest } from './software-ceremony.ts';

function refusal(change: (request: CeremonyRequestJson) => CeremonyRequestJson): string {
  try {
    parseRequest(softwareRequest(change).text);
  } catch (error) {
    return error instanceof Error ? error.message : '';
  }
  return 'taken';
}

describe('a request', () => {
  it('is read with its keys, and its hash is that of the file', () => {
    const { text, issuers } = softwareRequest();
    const request = parseRequest(text);
    expect(request.issuers.map(({ spki }) => spki)).toEqual(issuers.map(({ spki }) => spki));
    expect(request.nameConstraints).toEqual({ permittedUriDomains: ['test.example'] });
  });

  it('is refused with a CSR whose signature is broken, or another key than it shows', () => {
    const broken = (csr: string): string => {
      const der = Buffer.from(decodePem(csr, 'CERTIFICATE REQUEST')[0] ?? []);
      der[der.length - 3] = (der.at(-3) ?? 0) ^ 1;
      return encodePem('CERTIFICATE REQUEST', der);
    };
    const swapped = csrOf({ privateKey: softwareKey().privateKey, spki: softwareKey().spki });
    for (const csr of [broken, () => swapped])
      expect(
        refusal((one) => ({ ...one, issuers: one.issuers.map((issuer) => ({ csr: csr(issuer.csr) })) })),
      ).toMatch(/not signed with its own key/);
  });

  it('is refused where anything of it was changed on its way', () => {
    const { text } = softwareRequest();
    for (const [from, to] of [
      ['http://pki.test.example', 'http://pki.evil.example'],
      ['test.example/vouch-log', 'evil.example/vouch-log'],
      ['"serialPrefix":33', '"serialPrefix":34'],
      ['2026-01-01', '2026-01-02'],
    ] as const)
      expect(() => parseRequest(text.replace(from, to)), from).toThrow(
        /proof by the log key does not verify/,
      );
    expect(() => parseRequest(text.replace('{', '{ '))).toThrow(/not in its one encoding/);
    expect(() => parseRequest(`${text.slice(0, -2)},"more":1}\n`)).toThrow(/not one that/);
  });

  it('is refused with one key twice, a weak key, or constraints of another trust domain', () => {
    expect(refusal((one) => ({ ...one, issuers: [...one.issuers, ...one.issuers] }))).toMatch(
      /one key twice/,
    );
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const weak = { csr: encodePem('CERTIFICATE REQUEST', buildCsr(rsa)) };
    expect(refusal((one) => ({ ...one, issuers: [weak] }))).toMatch(/below 3072 bits/);
    expect(refusal((one) => ({ ...one, permittedUriDomains: ['evil.example'] }))).toMatch(
      /another trust domain/,
    );
    expect(refusal((one) => ({ ...one, publicationUrl: 'https://pki.test.example/' }))).toMatch(
      /publication URL/,
    );
  });

  it('is refused with two CSRs for one issuer, a log key that is of another type, or more than is ever asked for', () => {
    expect(
      refusal((one) => ({ ...one, issuers: [{ csr: one.issuers.map(({ csr }) => csr).join('') }] })),
    ).toMatch(/one CSR where it has several/);
    expect(
      refusal((one) => ({
        ...one,
        logKeys: one.logKeys.map((key) => ({ ...key, algorithm: 'ecdsa-p256' as const })),
      })),
    ).toMatch(/log key of another type/);
    expect(() => parseRequest(' '.repeat(500_000))).toThrow(/too large/);
  });
});
