import {
  constants,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import { newSerial, type Serial } from '../../src/core/serial.ts';
import { algorithmsOf, digestOf, type SignatureAlgorithm } from '../../src/x509/algorithm.ts';
import {
  assembleSigned,
  buildCertificateTbs,
  type CertificateTemplate,
} from '../../src/x509/certificate-tbs.ts';
import { buildCrlTbs, type CrlTemplate } from '../../src/x509/crl-tbs.ts';
import { emptyName, rdnName } from '../../src/x509/name.ts';
import { importPublicKey, type PublicKeyInfo } from '../../src/x509/public-key.ts';

/** A throw-away software key pair with what certificates need of it. */
export interface TestKey {
  privateKey: KeyObject;
  info: PublicKeyInfo;
  algorithm: SignatureAlgorithm;
}

/** A CA certificate with its key. */
export interface TestAuthority {
  key: TestKey;
  name: Buffer;
  der: Buffer;
}

/** 2030-01-01T00:00:00Z: all that is made here is valid around it. */
export const nowSeconds = Date.UTC(2030, 0, 1) / 1000;
/** The same in milliseconds. */
export const nowMs = nowSeconds * 1000;

/** The trust domain of everything made here. */
export const trustDomain = 'example.org';
/** The SPIFFE ID of every leaf unless changed. */
export const workloadId = 'spiffe://example.org/payments/orders';

/** A fresh ECDSA key. */
export function ecKey(namedCurve: 'P-256' | 'P-384' = 'P-256'): TestKey {
  return testKey(generateKeyPairSync('ec', { namedCurve }).privateKey);
}

/** A fresh RSA key. */
export function rsaKey(modulusLength = 2048): TestKey {
  return testKey(generateKeyPairSync('rsa', { modulusLength }).privateKey);
}

/** A fresh Ed25519 key. */
export function ed25519Key(): TestKey {
  return testKey(generateKeyPairSync('ed25519').privateKey);
}

/** A fresh RSA key that signs by PSS (RFC 4055). */
export function rsaPssKey(): TestKey {
  return { ...rsaKey(), algorithm: 'rsa-pss-sha256' };
}

function testKey(privateKey: KeyObject): TestKey {
  const info = importPublicKey(createPublicKey(privateKey).export({ format: 'der', type: 'spki' }));
  return { privateKey, info, algorithm: algorithmsOf(info.type)[0] };
}

/** A serial as Vouch makes them (I2). */
export function freshSerial(): Serial {
  return newSerial(1, randomBytes);
}

/** The signature value over bytes, as it stands in a BIT STRING. */
export function signatureOver(signed: Buffer, key: TestKey): Buffer {
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  return sign(digestOf[key.algorithm], signed, {
    key: key.privateKey,
    ...(key.algorithm === 'rsa-pss-sha256' && pss),
  });
}

/** Certificate, CertificateList or CertificationRequest. */
export function signed(tbs: Buffer, key: TestKey): Buffer {
  return assembleSigned(tbs, key.algorithm, signatureOver(tbs, key));
}

/** A self-signed root with its trust domain's SPIFFE ID. */
export function makeRoot(
  change: Partial<CertificateTemplate> = {},
  key: TestKey = ecKey('P-384'),
): TestAuthority {
  const name = change.subjectName ?? rdnName({ organization: 'Vouch', commonName: 'example.org root' });
  const tbs = buildCertificateTbs({
    serial: freshSerial(),
    algorithm: key.algorithm,
    issuerName: name,
    subjectName: name,
    notBeforeSeconds: nowSeconds - 3600,
    notAfterSeconds: nowSeconds + 10 * 365 * 86_400,
    spki: key.info.spki,
    uris: [`spiffe://${trustDomain}`],
    dnsNames: [],
    ipAddresses: [],
    authorityKeyId: key.info.keyId,
    subjectKeyId: key.info.keyId,
    ca: {},
    crlUrls: [],
    ...change,
  });
  return { key, name, der: signed(tbs, key) };
}

/** An issuer under a CA, pathLen 0 unless changed. */
export function makeIssuer(
  parent: TestAuthority,
  change: Partial<CertificateTemplate> = {},
  key: TestKey = ecKey(),
): TestAuthority {
  const name = change.subjectName ?? rdnName({ organization: 'Vouch', commonName: 'example.org issuer 1' });
  const tbs = buildCertificateTbs({
    ...leafTemplate(parent, key),
    subjectName: name,
    notAfterSeconds: nowSeconds + 90 * 86_400,
    uris: [`spiffe://${trustDomain}`],
    dnsNames: [],
    ipAddresses: [],
    ca: { pathLength: 0 },
    crlUrls: [`http://ca.example.org/crl/${parent.key.info.keyId}.crl`],
    ...change,
  });
  return { key, name, der: signed(tbs, parent.key) };
}

/** A workload's certificate as the default profile makes it. */
export function leafTemplate(issuer: TestAuthority, key: TestKey): CertificateTemplate {
  return {
    serial: freshSerial(),
    algorithm: issuer.key.algorithm,
    issuerName: issuer.name,
    subjectName: emptyName,
    notBeforeSeconds: nowSeconds - 60,
    notAfterSeconds: nowSeconds + 3599,
    spki: key.info.spki,
    uris: [workloadId],
    dnsNames: ['orders.example.org'],
    ipAddresses: ['192.0.2.7', '2001:db8::7'],
    authorityKeyId: issuer.key.info.keyId,
    subjectKeyId: key.info.keyId,
    crlUrls: [`http://ca.example.org/crl/${issuer.key.info.keyId}/3.crl`],
    issuerUrl: `http://ca.example.org/ca/${issuer.key.info.keyId}.cer`,
  };
}

/** A workload's certificate, signed. */
export function makeLeaf(
  issuer: TestAuthority,
  change: Partial<CertificateTemplate> = {},
  key: TestKey = ecKey(),
): Buffer {
  return signed(buildCertificateTbs({ ...leafTemplate(issuer, key), ...change }), issuer.key);
}

/** A CRL of this CA. */
export function makeCrl(issuer: TestAuthority, change: Partial<CrlTemplate> = {}): Buffer {
  const tbs = buildCrlTbs({
    algorithm: issuer.key.algorithm,
    issuerName: issuer.name,
    thisUpdateSeconds: nowSeconds - 30,
    nextUpdateSeconds: nowSeconds + 86_400,
    authorityKeyId: issuer.key.info.keyId,
    crlNumber: BigInt(nowMs),
    revoked: [],
    ...change,
  });
  return signed(tbs, issuer.key);
}
