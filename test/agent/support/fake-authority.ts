import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import type { Reason } from '../../../src/core/reasons.ts';
import { newSerial, type Serial } from '../../../src/core/serial.ts';
import { parseTrustDomain, type TrustDomain } from '../../../src/core/spiffe-id.ts';
import { decisionContext, encodeLeaf } from '../../../src/log/leaf.ts';
import {
  consistencyPath,
  hashLeaf,
  hashNode,
  inclusionPath,
  type NodeReader,
  type RangeHash,
  rangeHasher,
} from '../../../src/log/merkle.ts';
import { assembleNote, checkpointBody, type LogKey } from '../../../src/log/note.ts';
import { assembleStatement, type Statement, statementSigningInput } from '../../../src/log/statement.ts';
import {
  assembleSigned,
  buildCertificateTbs,
  type CertificateTemplate,
} from '../../../src/x509/certificate-tbs.ts';
import { buildCrlTbs, type CrlTemplate, encodeRevoked } from '../../../src/x509/crl-tbs.ts';
import { emptyName, rdnName } from '../../../src/x509/name.ts';
import { keyIdOf } from '../../../src/x509/public-key.ts';
import { encodePem } from '../../../src/x509/pem.ts';

/** One CA with its software key. */
export interface FakeCa {
  key: KeyObject;
  spki: Buffer;
  keyId: string;
  name: Buffer;
  der: Buffer;
}

/** A key pair of a workload or server. */
export interface FakeKey {
  key: KeyObject;
  spki: Buffer;
  pem: string;
}

const hourMs = 3_600_000;

/** Root, issuer and log with software keys: everything that init, signer and log do for real. */
export class FakeAuthority {
  readonly trustDomain: TrustDomain;
  readonly root: FakeCa;
  readonly issuer: FakeCa;
  readonly logKey: LogKey;
  readonly #logPrivate: KeyObject;
  /** Issuers besides the first, as a standby's. */
  readonly otherIssuers: FakeCa[] = [];
  /** DER of roots in the bundle besides its own. */
  readonly otherRoots: Buffer[] = [];
  readonly leafHashes: Buffer[] = [];
  readonly revoked = new Map<Serial, { serial: Serial; dateSeconds: number; reason: Reason }>();
  crlNumber = 1n;
  statementSequence = 1;
  bundleSequence = 1;
  statementNotAfterMs = Date.now() + 100 * hourMs;
  /** Where CRLs are said to be; set by the server. */
  publicationUrl = 'http://127.0.0.1:1';

  constructor(trustDomain = 'example.org', origin = `${trustDomain}/vouch-log`) {
    this.trustDomain = parseTrustDomain(trustDomain);
    this.root = this.#ca('Fake root', undefined, {});
    this.issuer = this.#ca('Fake issuer', this.root, { pathLength: 0 });
    const pair = generateKeyPairSync('ed25519');
    this.#logPrivate = pair.privateKey;
    this.logKey = {
      name: origin,
      algorithm: 'ed25519',
      publicKeySpki: pair.publicKey.export({ format: 'der', type: 'spki' }),
    };
  }

  /** `sha256:hex`, as join files have it. */
  get pin(): string {
    return `sha256:${createHash('sha256').update(this.root.spki).digest('hex')}`;
  }

  /** One more issuer under our root. */
  addIssuer(): FakeCa {
    const issuer = this.#ca('Other issuer', this.root, { pathLength: 0 });
    this.otherIssuers.push(issuer);
    return issuer;
  }

  /** DER of a leaf by the issuer. */
  issue(
    spki: Buffer,
    names: Partial<CertificateTemplate> & { uris: readonly string[] },
    by = this.issuer,
  ): Buffer {
    return assembleCertificate(
      {
        serial: newSerial(0x11, randomBytes),
        algorithm: 'ecdsa-sha256',
        issuerName: by.name,
        subjectName: emptyName,
        notBeforeSeconds: seconds(Date.now() - 60_000),
        notAfterSeconds: seconds(Date.now() + hourMs),
        spki,
        dnsNames: [],
        ipAddresses: [],
        authorityKeyId: by.keyId,
        subjectKeyId: keyIdOf(spki),
        crlUrls: [`${this.publicationUrl}/crl/${by.keyId}/03.crl`],
        ...names,
      },
      by.key,
    );
  }

  revoke(serial: Serial, reason: Reason = 'keyCompromise'): void {
    this.revoked.set(serial, { serial, dateSeconds: seconds(Date.now()), reason });
    this.crlNumber += 1n;
  }

  /** DER of a CRL of one of our CAs. */
  crl(by: FakeCa = this.issuer, over: Partial<CrlTemplate> = {}, signer = by): Buffer {
    const revoked = [...this.revoked.values()]
      .sort((a, b) => (a.serial < b.serial ? -1 : 1))
      .map(encodeRevoked);
    const tbs = buildCrlTbs({
      algorithm: 'ecdsa-sha256',
      issuerName: by.name,
      thisUpdateSeconds: seconds(Date.now() - 60_000),
      nextUpdateSeconds: seconds(Date.now() + hourMs),
      authorityKeyId: by.keyId,
      crlNumber: this.crlNumber,
      revoked,
      ...over,
    });
    return assembleSigned(tbs, 'ecdsa-sha256', sign('sha256', tbs, signer.key));
  }

  statement(over: Partial<Statement> = {}, by: FakeCa = this.root): string {
    const statement: Statement = {
      trustDomain: this.trustDomain,
      sequence: this.statementSequence,
      notAfterMs: seconds(this.statementNotAfterMs) * 1000,
      logKeys: [this.logKey],
      publicationUrls: [this.publicationUrl],
      ...over,
    };
    const input = statementSigningInput(statement, by.keyId, 'ES256');
    return assembleStatement(
      input,
      sign('sha256', Buffer.from(input), { key: by.key, dsaEncoding: 'ieee-p1363' }),
    );
  }

  bundle(statement = this.statement()) {
    return {
      keys: [this.root.der, ...this.otherRoots].map((der) => ({
        ...{ kty: 'EC', use: 'x509-svid' },
        x5c: [der.toString('base64')],
      })),
      spiffe_sequence: this.bundleSequence,
      spiffe_refresh_hint: 300,
      vouch_statement: statement,
    };
  }

  /** Appends a certificate's leaf and returns what `proof` has of it. */
  append(tbs: Buffer, timeMs = Date.now()): { index: number; time: number; context: string } {
    const context = decisionContext(randomBytes(16), '{}');
    const leaf = encodeLeaf({
      type: 'certificate',
      timeMs,
      issuerKeyId: this.issuer.keyId,
      body: tbs,
      context,
    });
    this.leafHashes.push(hashLeaf(leaf));
    return { index: this.leafHashes.length - 1, time: timeMs, context: context.toString('hex') };
  }

  /** Makes the tree grow by leaves of others. */
  grow(count: number): void {
    for (let at = 0; at < count; at += 1) this.leafHashes.push(hashLeaf(randomBytes(20)));
  }

  checkpoint(
    treeSize = this.leafHashes.length,
    rootHash = this.rangeHash(0, treeSize),
    origin = this.logKey.name,
  ): string {
    const body = checkpointBody({ origin, treeSize, rootHash });
    return assembleNote(body, [
      { key: this.logKey, signature: sign(null, Buffer.from(body), this.#logPrivate) },
    ]);
  }

  inclusion(index: number, treeSize = this.leafHashes.length): string[] {
    return inclusionPath(index, treeSize, this.rangeHash).map((hash) => hash.toString('hex'));
  }

  consistency(oldSize: number, treeSize = this.leafHashes.length): { treeSize: number; path: string[] } {
    return {
      treeSize: oldSize,
      path: consistencyPath(oldSize, treeSize, this.rangeHash).map((hash) => hash.toString('hex')),
    };
  }

  get rangeHash(): RangeHash {
    const node = (level: number, index: number): Buffer =>
      level === 0
        ? this.leafHashes[index]!
        : hashNode(node(level - 1, index * 2), node(level - 1, index * 2 + 1));
    const reader: NodeReader = { node };
    return rangeHasher(reader);
  }

  #ca(commonName: string, by: FakeCa | undefined, ca: CertificateTemplate['ca']): FakeCa {
    const { key, spki } = newKey();
    const name = rdnName({ commonName: `${commonName} ${randomBytes(4).toString('hex')}` });
    const keyId = keyIdOf(spki);
    const der = assembleCertificate(
      {
        serial: newSerial(0x10, randomBytes),
        algorithm: 'ecdsa-sha256',
        issuerName: by?.name ?? name,
        subjectName: name,
        notBeforeSeconds: seconds(Date.now() - 24 * hourMs * 40),
        notAfterSeconds: seconds(Date.now() + 24 * hourMs * 90),
        spki,
        uris: [`spiffe://${this.trustDomain}`],
        dnsNames: [],
        ipAddresses: [],
        authorityKeyId: by?.keyId ?? keyId,
        subjectKeyId: keyId,
        ca,
        crlUrls: [],
      },
      by?.key ?? key,
    );
    return { key, spki, keyId, name, der };
  }
}

/** A fresh P-256 key. */
export function newKey(): FakeKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    key: privateKey,
    spki: publicKey.export({ format: 'der', type: 'spki' }),
    pem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
  };
}

/** PEM of several certificates. */
export function chainPem(...ders: readonly Buffer[]): string {
  return ders.map((der) => encodePem('CERTIFICATE', der)).join('');
}

/** Whole seconds. */
export function seconds(unixMs: number): number {
  return Math.floor(unixMs / 1000);
}

function assembleCertificate(template: CertificateTemplate, key: KeyObject): Buffer {
  const tbs = buildCertificateTbs(template);
  return assembleSigned(tbs, 'ecdsa-sha256', sign('sha256', tbs, key));
}
