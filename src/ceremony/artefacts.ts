import type { Serial } from '../core/serial.ts';
import { type TrustDomain, trustDomainId } from '../core/spiffe-id.ts';
import { jwsAlgorithmOf, rootJwsInput } from '../log/root-jws.ts';
import { type Statement, statementSigningInput } from '../log/statement.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import { buildCertificateTbs, type CaTemplate } from '../x509/certificate-tbs.ts';
import { buildCrlTbs } from '../x509/crl-tbs.ts';
import { caCsrInfo } from '../x509/csr.ts';
import { rdnName } from '../x509/name.ts';
import { keyIdOf } from '../x509/public-key.ts';
import { transcriptTyp } from './transcript.ts';

/** What a ceremony's root is asked to make; nothing else can be asked for. */
export type Artefact =
  | {
      kind: 'root-certificate';
      trustDomain: TrustDomain;
      serial: Serial;
      validity: Validity;
      /** DER Name; the same in all that this root signs. */
      rootName: Buffer;
    }
  | {
      kind: 'root-crl';
      rootName: Buffer;
      crlNumber: bigint;
      thisUpdateSeconds: number;
      nextUpdateSeconds: number;
      /** What `encodeRevoked` gave, in serial order. */
      revoked: readonly Buffer[];
    }
  | {
      kind: 'issuer-certificate';
      trustDomain: TrustDomain;
      serial: Serial;
      validity: Validity;
      rootName: Buffer;
      spki: Buffer;
      publicationUrl: string;
      nameConstraints: CaTemplate['nameConstraints'];
    }
  /** A request to a CA above: of the root's own key and name. */
  | { kind: 'root-csr'; trustDomain: TrustDomain; rootName: Buffer }
  | { kind: 'statement'; statement: Statement }
  /** `payload`: the bytes of transcript.json. */
  | { kind: 'transcript'; payload: Buffer };

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

/** Subject of the root with this key, where nobody says another: its key id keeps one root's name from another's. */
export function defaultRootName(trustDomain: TrustDomain, keyId: string): Buffer {
  return caName(trustDomain, `Vouch root ${keyId.slice(0, 16)}`);
}

/** Subject of the issuer with this key. */
export function issuerNameOf(trustDomain: TrustDomain, keyId: string): Buffer {
  return caName(trustDomain, `Vouch issuer ${keyId.slice(0, 16)}`);
}

/** Bytes that the root signs for an artefact: a TBS, a CertificationRequestInfo, or a JWS signing input. The same artefact gives the same bytes. */
export function signingInput(artefact: Artefact, root: RootKey): Buffer {
  const rootKeyId = keyIdOf(root.publicKeySpki);
  const { algorithm } = root;
  switch (artefact.kind) {
    case 'root-certificate':
      return buildCertificateTbs({
        ...caTemplate(artefact),
        algorithm,
        issuerName: artefact.rootName,
        subjectName: artefact.rootName,
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
        issuerName: artefact.rootName,
        subjectName: issuerNameOf(artefact.trustDomain, keyId),
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
        issuerName: artefact.rootName,
        authorityKeyId: rootKeyId,
        crlNumber: artefact.crlNumber,
        thisUpdateSeconds: artefact.thisUpdateSeconds,
        nextUpdateSeconds: artefact.nextUpdateSeconds,
        revoked: artefact.revoked,
      });
    case 'root-csr':
      // No path length: issuers are below it.
      return caCsrInfo({
        ...{ spki: root.publicKeySpki, subjectName: artefact.rootName },
        ...{ uri: trustDomainId(artefact.trustDomain), pathLength: undefined, subjectKeyId: rootKeyId },
      });
    case 'statement':
      return Buffer.from(
        statementSigningInput(artefact.statement, rootKeyId, jwsAlgorithmOf(algorithm)),
        'ascii',
      );
    case 'transcript':
      return Buffer.from(
        rootJwsInput(
          { alg: jwsAlgorithmOf(algorithm), kid: rootKeyId, typ: transcriptTyp },
          artefact.payload,
        ),
        'ascii',
      );
  }
}

function caTemplate(artefact: { trustDomain: TrustDomain; serial: Serial; validity: Validity }) {
  return {
    serial: artefact.serial,
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
