import { existsSync, readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import type { SignatureAlgorithm } from '../../src/x509/algorithm.ts';
import { buildCsr, parseCsr, verifyCsr } from '../../src/x509/csr.ts';
import { encodePem } from '../../src/x509/pem.ts';
import type { KeyType } from '../../src/x509/public-key.ts';
import { newWorkloadKey, workloadKeyTypes } from '../../src/agent/key-type.ts';
import { ArtefactDirectory, runTool } from '../x509/oracle-tools.ts';

const files = new ArtefactDirectory();
afterAll(() => files[Symbol.dispose]());

const pss = (salt: string, md = 'sha256') => [
  ...['-sigopt', 'rsa_padding_mode:pss', '-sigopt', `rsa_pss_saltlen:${salt}`],
  ...['-sigopt', `rsa_mgf1_md:${md}`],
];

/** A CSR as OpenSSL makes it, DER. */
function openSslCsr(newKey: readonly string[], options: readonly string[] = []): Buffer {
  const csr = `${files.path}/csr.der`;
  const key = `${files.path}/${newKey.join('').replaceAll(/\W/g, '')}.pem`;
  if (!existsSync(key))
    expect(runTool('openssl', 'genpkey', ...newKey, '-out', key)).toMatchObject({ status: 0 });
  const request = ['req', '-new', '-key', key, '-subj', '/', '-outform', 'DER', '-out', csr];
  expect(runTool('openssl', ...request, ...options)).toMatchObject({ status: 0 });
  return readFileSync(csr);
}

const rsa = (bits: number) => ['-algorithm', 'RSA', '-pkeyopt', `rsa_keygen_bits:${bits}`];
const ec = (curve: string) => ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`];

describe('a CSR of OpenSSL', () => {
  it.each<[string, KeyType, SignatureAlgorithm, string[], string[]]>([
    ['P-256', 'ec-p256', 'ecdsa-sha256', ec('P-256'), ['-sha256']],
    ['P-384', 'ec-p384', 'ecdsa-sha384', ec('P-384'), ['-sha384']],
    ['P-384 over SHA-256', 'ec-p384', 'ecdsa-sha256', ec('P-384'), ['-sha256']],
    ['Ed25519', 'ed25519', 'ed25519', ['-algorithm', 'ED25519'], []],
    ['RSA 2048', 'rsa-2048', 'rsa-pkcs1-sha256', rsa(2048), ['-sha256']],
    ['RSA 3072', 'rsa-3072', 'rsa-pkcs1-sha256', rsa(3072), ['-sha256']],
    ['RSA 4096', 'rsa-4096', 'rsa-pkcs1-sha256', rsa(4096), ['-sha256']],
    ['RSA 3072 by PSS', 'rsa-3072', 'rsa-pss-sha256', rsa(3072), ['-sha256', ...pss('32')]],
    ['RSA 4096 by PSS', 'rsa-4096', 'rsa-pss-sha256', rsa(4096), ['-sha256', ...pss('digest')]],
  ])('with %s is taken', (_name, type, algorithm, newKey, options) => {
    const csr = parseCsr(openSslCsr(newKey, options));
    expect(csr.algorithm).toBe(algorithm);
    expect(verifyCsr(csr).type).toBe(type);
  });

  it.each<[string, string, RegExp, string[], string[]]>([
    [
      'PSS with another salt',
      'request-csr',
      /signature algorithm not accepted/,
      rsa(3072),
      ['-sha256', ...pss('20')],
    ],
    [
      'PSS with two hashes',
      'request-csr',
      /signature algorithm not accepted/,
      rsa(3072),
      ['-sha256', ...pss('32', 'sha1')],
    ],
    ['RSA over SHA-1', 'request-csr', /signature algorithm not accepted/, rsa(3072), ['-sha1']],
    ['RSA of 1024 bits', 'request-key', /2048 to 4096 bits/, rsa(1024), ['-sha256']],
    [
      'an RSA key for PSS alone',
      'request-key',
      /another type/,
      ['-algorithm', 'RSA-PSS'],
      ['-sha256', ...pss('32')],
    ],
    ['Ed448', 'request-csr', /signature algorithm not accepted/, ['-algorithm', 'ED448'], []],
  ])('with %s is refused', (_name, code, why, newKey, options) => {
    const csr = openSslCsr(newKey, options);
    expect(() => verifyCsr(parseCsr(csr))).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(why) as unknown }),
    );
  });
});

it.each(workloadKeyTypes)('a CSR of ours with %s is verified by OpenSSL', async (type) => {
  const csr = buildCsr(await newWorkloadKey(type));
  expect(verifyCsr(parseCsr(csr)).type).toBe(type);
  const file = files.write('ours.pem', encodePem('CERTIFICATE REQUEST', csr));
  expect(runTool('openssl', 'req', '-in', file, '-verify', '-noout').output).toMatch(/verify OK/);
});
