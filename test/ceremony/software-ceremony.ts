import { generateKeyPairSync, hash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { type Artefact, defaultRootName, issuerNameOf, signingInput } from '../../src/ceremony/artefacts.ts';
import {
  type CeremonyRequest,
  encodeRequest,
  logKeyProofText,
  parseRequest,
} from '../../src/ceremony/request.ts';
import type { ResultFiles } from '../../src/ceremony/result.ts';
import { encodeTranscript } from '../../src/ceremony/transcript.ts';
import { rfc3339 } from '../../src/core/clock.ts';
import { newSerial, type Serial } from '../../src/core/serial.ts';
import { parseTrustDomain, trustDomainId } from '../../src/core/spiffe-id.ts';
import { detachedJws } from '../../src/log/root-jws.ts';
import type { Statement } from '../../src/log/statement.ts';
import type { CeremonyRequestJson, Transcript, TranscriptItem } from '../../src/wire/ceremony.ts';
import { assembleSigned } from '../../src/x509/certificate-tbs.ts';
import { caCsrInfo } from '../../src/x509/csr.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';

/** A key pair with the DER SubjectPublicKeyInfo of its public half. */
export function softwareKey(type: 'ec' | 'ed25519' = 'ec'): { privateKey: KeyObject; spki: Buffer } {
  const { privateKey, publicKey } =
    type === 'ec' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519');
  return { privateKey, spki: publicKey.export({ format: 'der', type: 'spki' }) };
}

const trustDomain = parseTrustDomain('test.example');
const publicationUrl = 'http://pki.test.example';

/** A request as an authority makes it, from software keys; `change` alters it before the log key proves it. */
export function softwareRequest(
  change: (request: CeremonyRequestJson) => CeremonyRequestJson = (request) => request,
): { text: string; issuers: { privateKey: KeyObject; spki: Buffer }[] } {
  const issuers = [softwareKey(), softwareKey()];
  const log = softwareKey('ed25519');
  const request = change({
    version: 1,
    kind: 'vouch-ceremony-request',
    stateId: randomBytes(16).toString('hex'),
    createdAt: '2026-01-01T00:00:00Z',
    ...{ trustDomain, publicationUrl, serialPrefix: 0x21, permittedUriDomains: [trustDomain] },
    logOrigin: `${trustDomain}/vouch-log`,
    issuers: issuers.map((issuer) => ({ csr: csrOf(issuer) })),
    logKeys: [{ algorithm: 'ed25519', publicKeySpki: log.spki.toString('base64'), proof: '' }],
  });
  const proof = sign(null, logKeyProofText(request), log.privateKey).toString('base64');
  const logKeys = request.logKeys.map((key) => ({ ...key, proof }));
  return { text: encodeRequest({ ...request, logKeys }), issuers };
}

/** PEM of an issuer's CSR. */
export function csrOf({ privateKey, spki }: { privateKey: KeyObject; spki: Buffer }): string {
  const subjectName = issuerNameOf(trustDomain, keyIdOf(spki));
  const info = caCsrInfo({ spki, subjectName, uri: trustDomainId(trustDomain), pathLength: 0 });
  return encodePem(
    'CERTIFICATE REQUEST',
    assembleSigned(info, 'ecdsa-sha256', sign('sha256', info, privateKey)),
  );
}

/** A root that signs whatever it is told, as one would whose ceremony was led astray. */
export class SoftwareRoot {
  readonly #key = softwareKey();
  readonly keyId = keyIdOf(this.#key.spki);
  readonly name = defaultRootName(trustDomain, this.keyId);

  get key() {
    return { algorithm: 'ecdsa-sha256', publicKeySpki: this.#key.spki } as const;
  }

  sign(artefact: Artefact): { tbs: Buffer; signed: Buffer } {
    const tbs = signingInput(artefact, this.key);
    if (artefact.kind === 'statement' || artefact.kind === 'transcript') {
      const raw = sign('sha256', tbs, { key: this.#key.privateKey, dsaEncoding: 'ieee-p1363' });
      const input = tbs.toString('ascii');
      const jws =
        artefact.kind === 'statement' ? `${input}.${raw.toString('base64url')}` : detachedJws(input, raw);
      return { tbs, signed: Buffer.from(jws) };
    }
    const signature = sign('sha256', tbs, this.#key.privateKey);
    return { tbs, signed: assembleSigned(tbs, 'ecdsa-sha256', signature) };
  }
}

/** What a test changes of a ceremony; the root signs all of it, and the transcript lists it. */
export interface Astray {
  artefact?: (artefact: Artefact) => Artefact;
  transcript?: (transcript: Transcript) => Transcript;
  kind?: Transcript['kind'];
  /** Kind of which the signature is spoilt. */
  spoilt?: Artefact['kind'];
}

const day = 86_400;

/** The result of a ceremony, as files. */
export function softwareResult(
  root: SoftwareRoot,
  request: CeremonyRequest,
  nowMs: number,
  astray: Astray = {},
): Map<string, Buffer> {
  const now = Math.floor(nowMs / 1000);
  const serial = (): Serial => newSerial(request.serialPrefix, randomBytes);
  const validity = { notBeforeSeconds: now - 60, notAfterSeconds: now + 30 * day };
  const common = { trustDomain, rootName: root.name, validity };
  const statement: Statement = {
    trustDomain,
    sequence: 1,
    notAfterMs: (now + 30 * day) * 1000,
    logKeys: request.logKeys.map((key) => ({ ...key, name: request.logOrigin })),
    publicationUrls: [request.publicationUrl],
  };
  const { publicationUrl: url, nameConstraints } = request;
  const planned: [file: string, artefact: Artefact][] = [
    ['root.cer', { kind: 'root-certificate', ...common, serial: serial() }],
    ['root.crl', crlArtefact(root, BigInt(nowMs), now)],
    ...request.issuers.map(({ spki, keyId }): [string, Artefact] => [
      `issuer-${keyId}.cer`,
      { kind: 'issuer-certificate', ...common, serial: serial(), spki, publicationUrl: url, nameConstraints },
    ]),
    ['root.csr', { kind: 'root-csr', trustDomain, rootName: root.name }],
    ['statement.jws', { kind: 'statement', statement }],
  ];
  return signedResult(root, planned, { nowMs, requestSha256: request.sha256, astray });
}

/** The result of a renewal, as files. */
export function softwareRenewal(
  root: SoftwareRoot,
  parts: { statement: Statement; crl: Artefact; nowMs: number; rootDer: Buffer },
  astray: Astray = {},
): Map<string, Buffer> {
  const planned: [string, Artefact][] = [
    ['root.crl', parts.crl],
    ['statement.jws', { kind: 'statement', statement: parts.statement }],
  ];
  const how: Astray = { kind: 'renewal', ...astray };
  return signedResult(root, planned, { ...parts, requestSha256: '0'.repeat(64), astray: how });
}

/** A CRL of this root. */
export function crlArtefact(
  root: SoftwareRoot,
  crlNumber: bigint,
  nowSeconds: number,
  revoked: readonly Buffer[] = [],
): Artefact {
  const times = { thisUpdateSeconds: nowSeconds, nextUpdateSeconds: nowSeconds + 30 * day };
  return { kind: 'root-crl', rootName: root.name, crlNumber, ...times, revoked };
}

function signedResult(
  root: SoftwareRoot,
  planned: readonly [string, Artefact][],
  parts: { nowMs: number; requestSha256: string; astray: Astray; rootDer?: Buffer },
): Map<string, Buffer> {
  const { astray, nowMs } = parts;
  const at = rfc3339(nowMs);
  const files = new Map<string, Buffer>(parts.rootDer ? [['root.cer', parts.rootDer]] : []);
  const signed = planned.map(([file, artefact]): TranscriptItem => {
    const { tbs, signed: bytes } = root.sign(astray.artefact?.(artefact) ?? artefact);
    const last = bytes.length - 1;
    if (artefact.kind === astray.spoilt) bytes[last] = (bytes[last] ?? 0) ^ 1;
    files.set(file, file.endsWith('.csr') ? Buffer.from(encodePem('CERTIFICATE REQUEST', bytes)) : bytes);
    const tbsSha256 = hash('sha256', tbs, 'hex');
    return { at, kind: artefact.kind as TranscriptItem['kind'], file, tbsSha256, notAfter: at };
  });
  const transcript: Transcript = {
    ...{ version: 1, kind: astray.kind ?? 'ceremony', trustDomain, software: 'vouch test' },
    ...{ operators: ['Ada'], startedAt: at, finishedAt: at, signed },
    root: {
      keyId: root.keyId,
      pin: `sha256:${hash('sha256', root.key.publicKeySpki, 'hex')}`,
      ...{ ckaId: '00', keyMade: true, certificateMade: astray.kind !== 'renewal' },
      token: { label: 'root', serial: '1' },
    },
    inputs: [{ name: 'request.json', sha256: parts.requestSha256 }],
    outputs: [...files].map(([name, bytes]) => ({ name, sha256: hash('sha256', bytes, 'hex') })),
  };
  const payload = encodeTranscript(astray.transcript?.(transcript) ?? transcript);
  files.set('transcript.json', payload);
  files.set('transcript.jws', root.sign({ kind: 'transcript', payload }).signed);
  return files;
}

/** A request, the root that answered it, and the files of its answer. */
export function softwareCeremony(nowMs: number, astray: Astray = {}) {
  const request = parseRequest(softwareRequest().text);
  const root = new SoftwareRoot();
  const files: ResultFiles & Map<string, Buffer> = softwareResult(root, request, nowMs, astray);
  return { request, root, files };
}
