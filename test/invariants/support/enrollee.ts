import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { joinTokenAttestor } from '../../../src/attestation/node/join-token/verify.ts';
import type { NodeAttestor } from '../../../src/attestation/port.ts';
import { rootPin } from '../../../src/authority/bundle.ts';
import { Challenges } from '../../../src/enrollment/challenge.ts';
import { type Channel, type Enrolled, Enrollment } from '../../../src/enrollment/enroll.ts';
import { type TokenRequest, Tokens } from '../../../src/enrollment/tokens.ts';
import { bindingInput, evidenceBytes, renewalEvidenceBytes } from '../../../src/wire/enrollment.ts';
import type { CertificateStanding } from '../../../src/store/records.ts';
import { parseJoinFile } from '../../../src/wire/join-file.ts';
import { buildCsr } from '../../../src/x509/csr.ts';
import { importPublicKey, type PublicKeyInfo } from '../../../src/x509/public-key.ts';
import { type SoftwareAuthority, trustDomain } from '../../support/software-authority.ts';

/** Somebody with a key and a token, in the server's own process: no TLS, the exporter is given. */
export class Enrollee {
  readonly key: KeyObject;
  readonly publicKey: PublicKeyInfo;
  readonly channel: Channel;
  readonly #exporter = randomBytes(32);

  constructor(peerAddress = '192.0.2.7') {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.key = privateKey;
    this.publicKey = importPublicKey(publicKey.export({ type: 'spki', format: 'der' }));
    this.channel = {
      peerAddress,
      exporter: () => this.#exporter,
      requestId: 'test',
      learned: () => undefined,
    };
  }

  /** Enrolls with a token; `csr` in place of one that asks for nothing. */
  enroll(enrollment: Enrollment, token: string, csr = buildCsr(this.key)): Promise<Enrolled> {
    const evidence = { type: 'join_token', data: token };
    const binding = this.#binding(evidenceBytes(evidence));
    return enrollment.enroll({ evidence, csr: owned(csr), binding }, this.channel);
  }

  /** Renews a certificate with this key. */
  renew(
    enrollment: Enrollment,
    predecessor: CertificateStanding,
    der: Buffer,
    csr = buildCsr(this.key),
  ): Promise<Enrolled> {
    const binding = this.#binding(renewalEvidenceBytes(der));
    return enrollment.renew({ csr: owned(csr), binding }, predecessor, der, this.channel);
  }

  #binding(evidence: Buffer) {
    return { signature: owned(sign('sha256', bindingInput(this.#exporter, evidence), this.key)) };
  }
}

/** The enrollment of an authority, as the server puts it together. */
export function enrollmentOver(
  authority: SoftwareAuthority,
  attestors: readonly NodeAttestor[] = [joinTokenAttestor(authority.store)],
): Enrollment {
  return new Enrollment({ ...authority, attestors, challenges: new Challenges() });
}

/** Where an authority makes its join tokens. */
export function tokensOf(authority: SoftwareAuthority): Tokens {
  return new Tokens({
    ...authority,
    facts: {
      enrollmentUrl: 'https://ca.test.example',
      trustDomain,
      pin: rootPin(authority.rootDer),
      floor: () => ({ statement: 1, bundle: 1, treeSize: 0 }),
    },
  });
}

/** A join token by the operator's road; its text is in no other place. */
export async function newToken(
  authority: SoftwareAuthority,
  over: Partial<TokenRequest> = {},
): Promise<{ token: string; tokenId: string }> {
  const request: TokenRequest = {
    spiffeId: `spiffe://${trustDomain}/orders`,
    dnsNames: ['orders.test.example'],
    ipAddresses: ['192.0.2.7'],
    allowedClients: [],
    cidrs: [],
    ttlSeconds: 600,
    uses: 1,
    lifetimeSeconds: undefined,
    ...over,
  };
  const { tokenId, joinFile } = await tokensOf(authority).create(request, 'uid:0');
  return { tokenId, token: parseJoinFile(joinFile).token };
}

/** DER SubjectPublicKeyInfo of a private key's public half. */
export function spkiOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

/** A copy in memory of its own, as the types of a decoded request want it. */
function owned(bytes: Buffer): Buffer<ArrayBuffer> {
  const copy = Buffer.alloc(bytes.length);
  bytes.copy(copy);
  return copy;
}
