import 'reflect-metadata';
import { sign } from 'node:crypto';
import * as peculiar from '@peculiar/x509';
import { describe, expect, it } from 'vitest';
import { assembleSigned } from '../../src/x509/certificate-tbs.ts';
import { buildCsr, parseCsr, verifyCsr } from '../../src/x509/csr.ts';
import {
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  nullValue,
  oid,
  sequence,
  set,
  utf8String,
} from '../../src/x509/der.ts';
import { emptyName } from '../../src/x509/name.ts';
import { ecKey, ed25519Key, rsaKey, workloadId } from './authority.ts';
import { rawExtension } from './raw-certificate.ts';
import { bestOfThreeMicros, limitMs } from '../support/limits.ts';
import { csrWith, dns, extensionRequest, key, rawCsr, san, uri } from './raw-csr.ts';

describe('buildCsr', () => {
  it('asks for names, and reads back', () => {
    const csr = buildCsr(key.privateKey, {
      uris: [workloadId],
      dnsNames: ['orders.example.org'],
      ipAddresses: ['192.0.2.7', '2001:DB8::7'],
      commonName: 'orders',
    });
    expect(parseCsr(csr)).toMatchObject({
      spki: key.info.spki,
      subjectEmpty: false,
      commonNames: ['orders'],
      uris: [workloadId],
      dnsNames: ['orders.example.org'],
      ipAddresses: ['192.0.2.7', '2001:db8::7'],
      otherNames: 0,
      requestsCa: false,
      extensionOids: ['2.5.29.17'],
      algorithm: 'ecdsa-sha256',
    });
    expect(verifyCsr(parseCsr(csr)).keyId).toBe(key.info.keyId);
  });

  it('asks for nothing by default', () => {
    expect(parseCsr(buildCsr(key.privateKey))).toMatchObject({
      subjectEmpty: true,
      commonNames: [],
      uris: [],
      extensionOids: [],
    });
  });

  it.each([
    ['P-256', key],
    ['P-384', ecKey('P-384')],
    ['RSA', rsaKey()],
    ['Ed25519', ed25519Key()],
  ])('signs with %s, also to @peculiar/x509', async (_name, { privateKey, info, algorithm }) => {
    const csr = buildCsr(privateKey, { uris: [workloadId] });
    expect(parseCsr(csr).algorithm).toBe(algorithm);
    expect(verifyCsr(parseCsr(csr)).sha256).toBe(info.sha256);
    const other = new peculiar.Pkcs10CertificateRequest(csr);
    expect(await other.verify()).toBe(true);
    expect(Buffer.from(other.publicKey.rawData)).toEqual(info.spki);
    const [names] = other.extensions;
    expect(names instanceof peculiar.SubjectAlternativeNameExtension && names.names.toJSON()).toEqual([
      { type: 'url', value: workloadId },
    ]);
  });

  it('asserts a private key', () => {
    expect(() => buildCsr(key.info.key)).toThrow(/assertion/);
  });
});

describe('parseCsr takes', () => {
  it('what @peculiar/x509 makes', async () => {
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
      'sign',
      'verify',
    ]);
    const csr = await peculiar.Pkcs10CertificateRequestGenerator.create({
      name: 'CN=orders, O=Example',
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [new peculiar.SubjectAlternativeNameExtension([{ type: 'url', value: workloadId }])],
      attributes: [new peculiar.ChallengePasswordAttribute('secret')],
    });
    const parsed = parseCsr(Buffer.from(csr.rawData));
    expect(parsed).toMatchObject({ commonNames: ['orders'], uris: [workloadId], subjectEmpty: false });
    expect(verifyCsr(parsed).type).toBe('ec-p256');
  });

  it('one without attributes at all', () => {
    expect(parseCsr(rawCsr({ attributes: undefined })).extensionOids).toEqual([]);
  });

  it('attributes that it does not know', () => {
    const challenge = sequence(oid('1.2.840.113549.1.9.7'), set(utf8String('secret')));
    const microsoft = sequence(
      oid('1.3.6.1.4.1.311.2.1.14'),
      set(sequence(rawExtension('1.3.6.1.4.1.311.21.10', nullValue))),
    );
    const parsed = parseCsr(
      rawCsr({ attributes: explicit(0, challenge, microsoft, extensionRequest(san(dns('a.test')))) }),
    );
    expect(parsed).toMatchObject({ extensionOids: ['2.5.29.17'], dnsNames: ['a.test'] });
  });

  it('a hundred names, and P-256 signed with SHA-384', () => {
    expect(
      parseCsr(csrWith(san(...Array.from({ length: 100 }, (_, i) => dns(`a${i}.test`))))).dnsNames,
    ).toHaveLength(100);
    const info = sequence(integer(0n), emptyName, key.info.spki, explicit(0));
    const csr = assembleSigned(info, 'ecdsa-sha384', sign('sha384', info, key.privateKey));
    expect(verifyCsr(parseCsr(csr)).type).toBe('ec-p256');
  });

  it('and reports what a certificate will not have (AD CS ESC1, ESC15)', () => {
    const parsed = parseCsr(
      csrWith(
        san(dns('a.test'), implicit(1, Buffer.from('root@example.org')), implicit(0, Buffer.alloc(3), true)),
        rawExtension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.9'), oid('2.5.29.37.0'))),
        rawExtension('1.3.6.1.4.1.311.21.10', sequence(), true),
        rawExtension('1.3.6.1.5.5.7.1.1', sequence(sequence(oid('1.3.6.1.5.5.7.48.2'), uri('http://evil')))),
      ),
    );
    expect(parsed).toMatchObject({ otherNames: 2, requestsCa: false });
    expect(parsed.extensionOids).toEqual([
      '2.5.29.17',
      '2.5.29.37',
      '1.3.6.1.4.1.311.21.10',
      '1.3.6.1.5.5.7.1.1',
    ]);
  });

  it.each([
    ['cA', rawExtension('2.5.29.19', sequence(boolean(true)), true)],
    ['keyCertSign', rawExtension('2.5.29.15', bitString(Buffer.from([0x04]), 2), true)],
    ['cRLSign', rawExtension('2.5.29.15', bitString(Buffer.from([0x02]), 1), true)],
  ])('and says that %s is a CA being asked for', (_name, extension) => {
    expect(parseCsr(csrWith(extension)).requestsCa).toBe(true);
  });
});

describe('speed', () => {
  it('reads a CSR in at most 60 µs', () => {
    const csr = buildCsr(key.privateKey, { uris: [workloadId] });
    expect(bestOfThreeMicros(() => parseCsr(csr))).toBeLessThan(limitMs(60));
  });
});
