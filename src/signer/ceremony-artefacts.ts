import { randomBytes } from 'node:crypto';
import { newSerial } from '../core/serial.ts';
import { type TrustDomain, trustDomainId } from '../core/spiffe-id.ts';
import { type Statement, type StatementAlgorithm, statementSigningInput } from '../log/statement.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import { buildCertificateTbs, type CaTemplate } from '../x509/certificate-tbs.ts';
import { buildCrlTbs } from '../x509/crl-tbs.ts';
import { rdnName } from '../x509/name.ts';
import { keyIdOf } from '../x509/public-key.ts';

/** What a ceremony's root is asked to make; nothing else can be asked for. */
export type Artefact =
  | { kind: 'root-certificate'; trustDomain: TrustDomain; serialPrefix: number; validity: Validity }
  | {
      kind: 'root-crl';
      crlNumber: bigint;
      thisUpdateSeconds: number;
      nextUpdateSeconds: number;
      trustDomain: TrustDomain;
    }
  | {
      kind: 'issuer-certificate';
      trustDomain: TrustDomain;
      serialPrefix: number;
      validity: Validity;
      spki: Buffer;
      publicationUrl: string;
      nameConstraints: CaTemplate['nameConstraints'];
    }
  | { kind: 'statement'; statement: Statement };

/** Both ends inclusive, Unix seconds. */
export interface Validity {
  notBeforeSeconds: number;
  notAfterSeconds: number;
}

/** The root that signs. */
export interface RootKey {
  algorithm: SignatureAlgorithm;
  publicKeySpki: Buffer;
}

/** Subject of the root with this key: its key id keeps one root's name from another's. */
function rootName(trustDomain: TrustDomain, keyId: string): Buffer {
  return caName(trustDomain, `Vouch root ${keyId.slice(0, 16)}`);
}

/** Bytes that the root signs for an artefact: a TBS, or a statement's JWS signing input. */
export function signingInput(artefact: Artefact, root: RootKey): Buffer {
  const rootKeyId = keyIdOf(root.publicKeySpki);
  const { algorithm } = root;
  switch (artefact.kind) {
    case 'root-certificate':
      return buildCertificateTbs({
        ...caTemplate(artefact),
        algorithm,
        issuerName: rootName(artefact.trustDomain, rootKeyId),
        subjectName: rootName(artefact.trustDomain, rootKeyId),
        spki: root.publicKeySpki,
        authorityKeyId: rootKeyId,
        subjectKeyId: rootKeyId,
        ca: {},
        crlUrls: [],
      });
    case 'issuer-certificate': {
      const keyId = keyIdOf(artefact.spki);
      return buildCertificateTbs({
        ...caTemplate(artefact),
        algorithm,
        issuerName: rootName(artefact.trustDomain, rootKeyId),
        subjectName: caName(artefact.trustDomain, `Vouch issuer ${keyId.slice(0, 16)}`),
        spki: artefact.spki,
        authorityKeyId: rootKeyId,
        subjectKeyId: keyId,
        ca: { pathLength: 0, nameConstraints: artefact.nameConstraints },
        crlUrls: [`${artefact.publicationUrl}/crl/${rootKeyId}.crl`],
        issuerUrl: `${artefact.publicationUrl}/ca/${rootKeyId}.cer`,
      });
    }
    case 'root-crl':
      return buildCrlTbs({
        algorithm,
        issuerName: rootName(artefact.trustDomain, rootKeyId),
        authorityKeyId: rootKeyId,
        crlNumber: artefact.crlNumber,
        thisUpdateSeconds: artefact.thisUpdateSeconds,
        nextUpdateSeconds: artefact.nextUpdateSeconds,
        revoked: [],
      });
    case 'statement':
      return Buffer.from(
        statementSigningInput(artefact.statement, rootKeyId, statementAlgorithms[algorithm]),
        'ascii',
      );
  }
}

/** A root's JWS algorithm is that of its certificates. */
const statementAlgorithms: Readonly<Record<SignatureAlgorithm, StatementAlgorithm>> = {
  'ecdsa-sha256': 'ES256',
  'ecdsa-sha384': 'ES384',
  'rsa-pkcs1-sha256': 'RS256',
  'rsa-pss-sha256': 'PS256',
  ed25519: 'EdDSA',
};

function caTemplate(artefact: { trustDomain: TrustDomain; serialPrefix: number; validity: Validity }) {
  return {
    serial: newSerial(artefact.serialPrefix, randomBytes),
    ...artefact.validity,
    uris: [trustDomainId(artefact.trustDomain)],
    dnsNames: [],
    ipAddresses: [],
  };
}

function caName(trustDomain: TrustDomain, commonName: string): Buffer {
  // RFC 5280 appendix A.1 bounds an organization at 64 characters; a trust domain may have 255.
  return rdnName({ organization: trustDomain.slice(0, 64), commonName });
}
