import 'reflect-metadata';
import { createHash, generateKeyPairSync, type KeyObject, sign, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { MintedJwt, Served, Svid, Trust, Withheld, Workloads } from '../../src/agent/workloads.ts';
import { VouchError } from '../../src/core/errors.ts';
import { parseSpiffeId, parseTrustDomain } from '../../src/core/spiffe-id.ts';

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const hour = 3_600_000;

interface Ca {
  certificate: x509.X509Certificate;
  keys: webcrypto.CryptoKeyPair;
}

/** What an entry of the fake says. */
export interface FakeEntry {
  entryId: string;
  spiffeId: string;
  selectors: readonly string[];
  hint?: string;
}

/** An authority in memory, whose artefacts another library makes. */
export class FakeAuthority {
  readonly trustDomain = parseTrustDomain('fake.example');
  readonly jwtKeys: { privateKey: KeyObject; publicKey: KeyObject } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
  });
  readonly root: Ca;
  readonly issuer: Ca;

  private constructor(root: Ca, issuer: Ca) {
    this.root = root;
    this.issuer = issuer;
  }

  static async make(): Promise<FakeAuthority> {
    const root = await ca('CN=root', undefined);
    return new FakeAuthority(root, await ca('CN=issuer', root));
  }

  async svid(entry: FakeEntry): Promise<Svid> {
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const publicKey = await webcrypto.subtle.importKey(
      'spki',
      keys.publicKey.export({ type: 'spki', format: 'der' }),
      algorithm,
      true,
      ['verify'],
    );
    const certificate = await x509.X509CertificateGenerator.create({
      subject: '',
      issuer: this.issuer.certificate.subject,
      notBefore: new Date(Date.now() - 10_000),
      notAfter: new Date(Date.now() + hour),
      publicKey,
      signingKey: this.issuer.keys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: entry.spiffeId }], true),
      ],
    });
    return {
      entryId: entry.entryId,
      entryVersion: 1,
      spiffeId: parseSpiffeId(entry.spiffeId),
      hint: entry.hint ?? '',
      chain: [certificate, this.issuer.certificate].map((one) => Buffer.from(one.rawData)),
      keyPkcs8: keys.privateKey.export({ type: 'pkcs8', format: 'der' }),
      serial: certificate.serialNumber,
      notBeforeMs: certificate.notBefore.getTime(),
      notAfterMs: certificate.notAfter.getTime(),
      issuerKeyId: 'issuer',
      proof: { treeSize: 1, index: 0, hashes: [], checkpoint: '' } as unknown as Svid['proof'],
      selectors: entry.selectors,
      allowedClients: [],
    };
  }

  async trust(): Promise<Trust> {
    const crl = (by: Ca) =>
      x509.X509CrlGenerator.create({
        issuer: by.certificate.subject,
        thisUpdate: new Date(Date.now() - 10_000),
        nextUpdate: new Date(Date.now() + hour),
        signingKey: by.keys.privateKey,
        signingAlgorithm: algorithm,
      });
    const crls = await Promise.all([crl(this.issuer), crl(this.root)]);
    return {
      trustDomain: this.trustDomain,
      sequence: 1,
      roots: [Buffer.from(this.root.certificate.rawData)],
      issuers: [Buffer.from(this.issuer.certificate.rawData)],
      crls: crls.map((one) => Buffer.from(one.rawData)),
      jwtKeys: [{ ...this.jwtKeys.publicKey.export({ format: 'jwk' }), use: 'jwt-svid', kid: this.kid }],
    };
  }

  get kid(): string {
    return createHash('sha256')
      .update(this.jwtKeys.publicKey.export({ type: 'spki', format: 'der' }))
      .digest('hex');
  }

  jwt(spiffeId: string, audience: readonly string[]): MintedJwt {
    const nowS = Math.floor(Date.now() / 1000);
    const head = encoded({ alg: 'ES256', kid: this.kid, typ: 'JWT' });
    const claims = { iss: 'https://fake.example', sub: spiffeId, aud: audience, iat: nowS, exp: nowS + 300 };
    const input = `${head}.${encoded(claims)}`;
    const key = { key: this.jwtKeys.privateKey, dsaEncoding: 'ieee-p1363' } as const;
    const signature = sign('sha256', Buffer.from(input), key);
    return { token: `${input}.${signature.toString('base64url')}`, expiresAtMs: (nowS + 300) * 1000 };
  }
}

/** The port, told by hand what is served. */
export class FakeWorkloads implements Workloads {
  readonly #authority: FakeAuthority;
  readonly #listeners = new Set<(served: Served) => void>();
  #now: Served | undefined;
  /** What is withheld. */
  kept: readonly Withheld[] = [];
  /** Instead of a token. */
  mintFails: VouchError | undefined;

  constructor(authority: FakeAuthority) {
    this.#authority = authority;
  }

  get now(): Served | undefined {
    return this.#now;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  set(served: Served): void {
    this.#now = served;
    for (const listener of this.#listeners) queueMicrotask(() => listener(served));
  }

  /** Every SVID made anew, the trust as it is. */
  async rotate(): Promise<void> {
    const { svids, trust } = this.#now ?? { svids: [], trust: await this.#authority.trust() };
    this.set({ svids: await Promise.all(svids.map((svid) => this.#authority.svid(svid))), trust });
  }

  subscribe(listener: (served: Served) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  withheld(): readonly Withheld[] {
    return this.kept;
  }

  async mintJwt(entryId: string, audience: readonly string[]): Promise<MintedJwt> {
    if (this.mintFails !== undefined) throw this.mintFails;
    const svid = this.#now?.svids.find((one) => one.entryId === entryId);
    if (svid === undefined) throw new VouchError('denied-no-entry', 'no such entry');
    return this.#authority.jwt(svid.spiffeId, audience);
  }
}

function encoded(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

async function ca(name: string, issuer: Ca | undefined): Promise<Ca> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: name,
    issuer: issuer?.certificate.subject ?? name,
    notBefore: new Date(Date.now() - hour),
    notAfter: new Date(Date.now() + 24 * hour),
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, issuer === undefined ? undefined : 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://fake.example' }]),
    ],
  });
  return { certificate, keys };
}
