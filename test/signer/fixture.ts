import { generateKeyPairSync, hash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { VouchError } from '../../src/core/errors.ts';
import { newSerial } from '../../src/core/serial.ts';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { crlBody, encodeLeaf, type Leaf } from '../../src/log/leaf.ts';
import type { SignerAuthority, SigningLimits } from '../../src/signer/authority-file.ts';
import { CrlNumbers } from '../../src/signer/crl-numbers.ts';
import type { Hsm, Signable } from '../../src/signer/hsm.ts';
import type { PolicyContext } from '../../src/signer/policy.ts';
import { policyIssuer } from '../../src/signer/policy-issuer.ts';
import { Uploads } from '../../src/signer/uploads.ts';
import { digestOf, type SignatureAlgorithm } from '../../src/x509/algorithm.ts';
import {
  assembleSigned,
  buildCertificateTbs,
  type CertificateTemplate,
} from '../../src/x509/certificate-tbs.ts';
import { buildCrlTbs, type CrlTemplate } from '../../src/x509/crl-tbs.ts';
import { emptyName, rdnName } from '../../src/x509/name.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import { signDigest } from '../support/ecdsa.ts';

export const trustDomain = parseTrustDomain('test.example');
const logOrigin = 'test.example/vouch-log';
/** 22 November 2026, 12:00:00 UTC: what the fixture's clock says. */
export const nowMs = Date.UTC(2026, 10, 22, 12);
export const nowSeconds = nowMs / 1000;
export const publicationUrl = 'http://pki.test.example';

export const limits: SigningLimits = {
  maxCertificateSeconds: 86_400,
  backdateSeconds: 60,
  maxCrlSeconds: 10 * 86_400,
  maxFutureSeconds: 60,
};

/** Keys in memory behind the port of a token. */
export class SoftwareHsm implements Hsm {
  readonly keys = new Map<string, { key: KeyObject; algorithm: SignatureAlgorithm }>();
  /** What was signed, in order. */
  readonly signed: { ckaId: string; data: Signable }[] = [];
  guardValues: Buffer[] = [];
  readonly guards = {
    read: () => Promise.resolve([...this.guardValues]),
    replace: (value: Buffer, obsolete: readonly Buffer[]) => {
      this.guardValues.push(value);
      this.guardValues = this.guardValues.filter((one) => !obsolete.some((old) => old.equals(one)));
      return Promise.resolve();
    },
  };

  health() {
    return { sessions: 1, sessionsWanted: 1, failures: { session: 0, login: 0 } };
  }

  sign(ckaId: string, data: Signable): Promise<Buffer> {
    const held = this.keys.get(ckaId);
    if (!held) throw new Error(`no key ${ckaId}`);
    this.signed.push({ ckaId, data });
    return Promise.resolve(
      Buffer.isBuffer(data)
        ? sign(digestOf[held.algorithm], data, held.key)
        : signDigest(held.key, data.digest),
    );
  }
}

export interface TestAuthority {
  authority: SignerAuthority;
  hsm: SoftwareHsm;
  issuerKey: KeyObject;
  logKey: KeyObject;
  issuerName: Buffer;
  issuerKeyId: string;
  /** What its policy is asked with: each CRL item is sent there as it is made. */
  uploads: Uploads;
  /** Keys of the root that certified the issuer. */
  root: { publicKey: KeyObject; privateKey: KeyObject };
}

/** A signer's authority with one issuer, valid for 90 days around the fixture's clock, and keys in memory. */
export function testAuthority(overrides: Partial<SignerAuthority> = {}): TestAuthority {
  const hsm = new SoftwareHsm();
  const issuer = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const root = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const log = generateKeyPairSync('ed25519');
  const issuerName = rdnName({ commonName: 'Test issuer' });
  const spki = spkiOf(issuer.publicKey);
  const issuerKeyId = keyIdOf(spki);
  const tbs = buildCertificateTbs({
    serial: newSerial(1, randomBytes),
    algorithm: 'ecdsa-sha256',
    issuerName: rdnName({ commonName: 'Test root' }),
    subjectName: issuerName,
    notBeforeSeconds: nowSeconds - 86_400,
    notAfterSeconds: nowSeconds + 90 * 86_400,
    spki,
    uris: [`spiffe://${trustDomain}`],
    dnsNames: [],
    ipAddresses: [],
    authorityKeyId: keyIdOf(spkiOf(root.publicKey)),
    subjectKeyId: issuerKeyId,
    ca: { pathLength: 0 },
    crlUrls: [],
  });
  const certificateDer = assembleSigned(tbs, 'ecdsa-sha256', sign('sha256', tbs, root.privateKey));
  hsm.keys.set('01', { key: issuer.privateKey, algorithm: 'ecdsa-sha256' });
  hsm.keys.set('02', { key: log.privateKey, algorithm: 'ed25519' });
  const authority: SignerAuthority = {
    trustDomain,
    logOrigin,
    logKey: { ckaId: '02', algorithm: 'ed25519', publicKeySpki: spkiOf(log.publicKey) },
    issuers: [{ keyId: issuerKeyId, ckaId: '01', algorithm: 'ecdsa-sha256', certificateDer }],
    limits,
    rollbackMark: 'token',
    ...overrides,
  };
  return {
    authority,
    hsm,
    issuerKey: issuer.publicKey,
    logKey: log.publicKey,
    issuerName,
    issuerKeyId,
    uploads: new Uploads(authority.issuers.map(({ algorithm }) => algorithm)),
    root,
  };
}

/** What the policy decides by, for an authority of the fixture. */
export function policyContext(test: TestAuthority, overrides: Partial<PolicyContext> = {}): PolicyContext {
  const issuers = new Map(test.authority.issuers.map((issuer) => [issuer.keyId, policyIssuer(issuer)]));
  const crlNumbers = new CrlNumbers();
  const { uploads } = test;
  return { trustDomain, issuers, limits, nowMs, crlNumbers, uploads, occasion: 'first', ...overrides };
}

const leafSpki = spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey);

/** TBS of a workload's certificate that the signer accepts, save for what is overridden. */
export function certificateTbs(test: TestAuthority, overrides: Partial<CertificateTemplate> = {}): Buffer {
  const spki = overrides.spki ?? leafSpki;
  return buildCertificateTbs({
    serial: newSerial(0x2a, randomBytes),
    algorithm: 'ecdsa-sha256',
    issuerName: test.issuerName,
    subjectName: emptyName,
    notBeforeSeconds: nowSeconds - 60,
    notAfterSeconds: nowSeconds + 3600 - 1,
    spki,
    uris: [`spiffe://${trustDomain}/orders`],
    dnsNames: ['orders.test.example'],
    ipAddresses: [],
    authorityKeyId: test.issuerKeyId,
    subjectKeyId: keyIdOf(spki),
    crlUrls: [`${publicationUrl}/crl/${test.issuerKeyId}/3.crl`],
    issuerUrl: `${publicationUrl}/ca/${test.issuerKeyId}.cer`,
    ...overrides,
  });
}

/** TBS of a full CRL that the signer accepts, save for what is overridden. */
export function crlTbs(test: TestAuthority, overrides: Partial<CrlTemplate> = {}): Buffer {
  return buildCrlTbs({
    algorithm: 'ecdsa-sha256',
    issuerName: test.issuerName,
    thisUpdateSeconds: nowSeconds,
    nextUpdateSeconds: nowSeconds + 86_400,
    authorityKeyId: test.issuerKeyId,
    crlNumber: BigInt(nowMs),
    revoked: [],
    ...overrides,
  });
}

/** Leaf bytes with the given body. */
export function leafOf(test: TestAuthority, overrides: Partial<Leaf> & Pick<Leaf, 'type' | 'body'>): Buffer {
  return encodeLeaf({ timeMs: nowMs, issuerKeyId: test.issuerKeyId, context: randomBytes(32), ...overrides });
}

/** Append item of a certificate with this TBS. */
export function certificateItem(test: TestAuthority, tbs = certificateTbs(test)) {
  return { purpose: 'certificate' as const, leaf: leafOf(test, { type: 'certificate', body: tbs }) };
}

/** Append item of a CRL with this TBS, which was sent byte by byte; its leaf says number and scope. */
export function crlItem(
  test: TestAuthority,
  options: { tbs?: Buffer; crlNumber?: bigint; scope?: string } = {},
) {
  const { crlNumber = BigInt(nowMs), scope = 'full' } = options;
  const idpUrl =
    scope === 'full' || scope === 'delta'
      ? undefined
      : `${publicationUrl}/crl/${test.issuerKeyId}/${scope}.crl`;
  const tbs = options.tbs ?? crlTbs(test, { crlNumber, idpUrl });
  const body = crlBody({ scope, crlNumber, tbsSha256: hash('sha256', tbs, 'buffer') });
  send(test.uploads, tbs);
  return { purpose: 'crl' as const, leaf: leafOf(test, { type: 'crl', body }), tbs };
}

/** Append item that is only recorded. */
export function recordItem(test: TestAuthority, text = randomBytes(8).toString('hex')) {
  const leaf = leafOf(test, { type: 'operator', body: Buffer.from(JSON.stringify(text)), issuerKeyId: '' });
  return { purpose: 'record' as const, leaf };
}

let uploadsSent = 0;

/** Sends a TBSCertList in parts of a byte; false where it is refused as none. */
export function send(uploads: Uploads, tbs: Buffer): boolean {
  const upload = uploadsSent++;
  try {
    for (let at = 0; at <= tbs.length; at++)
      uploads.take({ upload, part: tbs.subarray(at, at + 1), last: at === tbs.length });
    return true;
  } catch (error) {
    if (error instanceof VouchError && error.code === 'request-malformed') return false;
    throw error;
  }
}

export function spkiOf(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' });
}
