import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { assert, VouchError } from '../core/errors.ts';
import {
  algorithmFor,
  digestOf,
  parseAlgorithmIdentifier,
  type SignatureAlgorithm,
  verifySignature,
  verifySignatureAside,
} from './algorithm.ts';
import { type CertificateExtensions, readCertificateExtensions } from './certificate-extensions.ts';
import { assembleSigned, caExtensions } from './certificate-tbs.ts';
import { asciiBytes, explicit, implicit, integer, octetString, oid, sequence, set, tags } from './der.ts';
import { checkDer, DerReader, malformed } from './der-reader.ts';
import { type Extension, readExtensions } from './extensions.ts';
import { ipBytes } from './ip-address.ts';
import { emptyName, rdnName, readName } from './name.ts';
import { oids } from './oids.ts';
import { importPublicKey, type PublicKeyInfo } from './public-key.ts';

/** A PKCS#10 request as its bytes say. Of all this only the key is ever used (I4); names are for comparison. */
export interface ParsedCsr {
  /** DER SubjectPublicKeyInfo, not looked into. */
  spki: Buffer;
  subjectEmpty: boolean;
  commonNames: string[];
  uris: string[];
  dnsNames: string[];
  /** Canonical text (RFC 5952). */
  ipAddresses: string[];
  /** subjectAltName entries of any other type. */
  otherNames: number;
  /** It asks for cA, keyCertSign or cRLSign. */
  requestsCa: boolean;
  extensionOids: string[];
  /** DER CertificationRequestInfo, what the signature is over. */
  signed: Buffer;
  algorithm: SignatureAlgorithm;
  signature: Buffer;
}

/** Names that `buildCsr` asks for. */
export interface CsrNames {
  uris?: readonly string[] | undefined;
  dnsNames?: readonly string[] | undefined;
  ipAddresses?: readonly string[] | undefined;
  commonName?: string | undefined;
}

/** A CSR for RSA-4096 with a hundred names takes 8 KiB. */
export const csrMaxBytes = 16_384;

const maxNames = 100;

/**
 * Reads a DER CertificationRequest (RFC 2986 §4): at most 16 KiB, 100 names, one extensionRequest. Reads no key and
 * verifies no signature. Throws `request-csr`.
 */
export function parseCsr(der: Buffer): ParsedCsr {
  if (der.length > csrMaxBytes)
    refuse(`is larger than ${csrMaxBytes} bytes; ask for fewer names, they come from the registration entry`);
  try {
    checkDer(der);
    return readCsr(der);
  } catch (cause) {
    if (!(cause instanceof VouchError) || cause.code !== 'request-malformed') throw cause;
    throw new VouchError(
      'request-csr',
      `the CSR is not a PKCS#10 request that can be taken: ${cause.detail}`,
      { cause },
    );
  }
}

/**
 * Refuses what no certificate will have (a second URI, CA rights), imports the key, and checks that the CSR is signed
 * with it. Throws `request-csr` and `request-key`.
 */
export function verifyCsr(csr: ParsedCsr): PublicKeyInfo {
  const info = keyOf(csr);
  if (!verifySignature(csr.algorithm, info.key, csr.signed, csr.signature)) refuse(notItsOwn);
  return info;
}

/** As `verifyCsr`; the signature is verified in another thread. */
export async function verifyCsrAside(csr: ParsedCsr): Promise<PublicKeyInfo> {
  const info = keyOf(csr);
  if (!(await verifySignatureAside(csr.algorithm, info.key, csr.signed, csr.signature))) refuse(notItsOwn);
  return info;
}

const notItsOwn = 'is not signed with its own key';

function keyOf(csr: ParsedCsr): PublicKeyInfo {
  if (csr.uris.length > 1) refuse('has more than one URI; an X509-SVID has exactly one SPIFFE ID');
  if (csr.requestsCa) refuse('asks for a CA certificate; leave basicConstraints and CA key usages out');
  return importPublicKey(csr.spki);
}

/** A DER CSR signed with a private key (EC, RSA or Ed25519), with an extensionRequest for its names where it has any. */
export function buildCsr(key: KeyObject, names: CsrNames = {}): Buffer {
  assert(key.type === 'private', 'a CSR is signed with a private key');
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  const algorithm = algorithmFor(key);
  const subject = names.commonName === undefined ? emptyName : rdnName({ commonName: names.commonName });
  const signed = sequence(integer(0n), subject, spki, explicit(0, ...attributesFor(names)));
  return assembleSigned(signed, algorithm, sign(digestOf[algorithm], signed, key));
}

/**
 * DER CertificationRequestInfo of a CA whose key is in a token, to be signed there: its names, and CA rights as a CA
 * above may want to see them asked for. `subjectKeyId`: hex, where what it signed is found by that one only.
 */
export function caCsrInfo(request: {
  spki: Buffer;
  subjectName: Buffer;
  uri: string;
  pathLength: number | undefined;
  subjectKeyId?: string;
}): Buffer {
  const names = sequence(
    oid(oids.subjectAltName),
    octetString(sequence(implicit(6, asciiBytes(request.uri)))),
  );
  const { pathLength, subjectKeyId } = request;
  const keyId =
    subjectKeyId === undefined
      ? []
      : [
          sequence(
            oid(oids.subjectKeyIdentifier),
            octetString(octetString(Buffer.from(subjectKeyId, 'hex'))),
          ),
        ];
  const extensions = sequence(...caExtensions({ pathLength }), names, ...keyId);
  const requested = sequence(oid(oids.extensionRequest), set(extensions));
  return sequence(integer(0n), request.subjectName, request.spki, explicit(0, requested));
}

function readCsr(der: Buffer): ParsedCsr {
  const outer = new DerReader(der).enter(tags.sequence, 'CertificationRequest');
  const signedStart = outer.at;
  const info = outer.enter(tags.sequence, 'CertificationRequestInfo');
  const signed = der.subarray(signedStart, outer.at);
  const algorithm = parseAlgorithmIdentifier(outer.element(tags.sequence, 'signatureAlgorithm'));
  const signature = outer.octetBits('signature');
  outer.finish('CertificationRequest');
  if (info.small('version') !== 0) malformed('version is not 1', info.contentStart);
  const subject = readName(info);
  const spki = info.element(tags.sequence, 'subjectPKInfo');
  const extensions = readCertificateExtensions(readRequestedExtensions(info), { maxNames });
  info.finish('CertificationRequestInfo');
  return {
    spki,
    subjectEmpty: subject.length === 0,
    commonNames: subject
      .filter((attribute) => attribute.oid === oids.commonName)
      .map((attribute) => attribute.value),
    uris: extensions.uris,
    dnsNames: extensions.dnsNames,
    ipAddresses: extensions.ipAddresses,
    otherNames: extensions.otherNames,
    requestsCa: asksForCa(extensions),
    extensionOids: extensions.extensionOids,
    signed,
    algorithm,
    signature,
  };
}

/** The attributes, [0] IMPLICIT SET OF; some tools leave an empty one out altogether. */
function readRequestedExtensions(info: DerReader): Extension[] {
  if (info.done) return [];
  const attributes = info.enter(0xa0, 'attributes');
  let requested: Extension[] | undefined;
  while (!attributes.done) {
    const attribute = attributes.enter(tags.sequence, 'attribute');
    const type = attribute.oid('attribute type');
    const values = attribute.enterFilled(tags.set, 'attribute values');
    attribute.finish('attribute');
    if (type !== oids.extensionRequest) continue;
    if (requested) malformed('extensionRequest stands twice', attributes.at);
    requested = readExtensions(values);
    values.finish('extensionRequest');
  }
  return requested ?? [];
}

function asksForCa(extensions: CertificateExtensions): boolean {
  const { basicConstraints, keyUsage } = extensions;
  return basicConstraints?.isCa === true || keyUsage?.keyCertSign === true || keyUsage?.cRLSign === true;
}

function attributesFor(names: CsrNames): Buffer[] {
  const san = [
    ...(names.uris ?? []).map((uri) => implicit(6, asciiBytes(uri))),
    ...(names.dnsNames ?? []).map((name) => implicit(2, asciiBytes(name))),
    ...(names.ipAddresses ?? []).map(ipName),
  ];
  if (san.length === 0) return [];
  const extension = sequence(oid(oids.subjectAltName), octetString(sequence(...san)));
  return [sequence(oid(oids.extensionRequest), set(sequence(extension)))];
}

function ipName(address: string): Buffer {
  const bytes = ipBytes(address);
  assert(bytes, 'IP address for a CSR is one');
  return implicit(7, bytes);
}

function refuse(why: string): never {
  throw new VouchError('request-csr', `the CSR ${why}`);
}
