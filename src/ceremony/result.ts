import { hash, type KeyObject } from 'node:crypto';
import { asVouchError, VouchError } from '../core/errors.ts';
import type { Reason } from '../core/reasons.ts';
import type { Serial } from '../core/serial.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import { verifierKey } from '../log/note.ts';
import { openStatement, type Statement } from '../log/statement.ts';
import type { Transcript, TranscriptItem } from '../wire/ceremony.ts';
import { type SignatureAlgorithm, verifySignature } from '../x509/algorithm.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/certificate.ts';
import { type ParsedCrl, parseCrl, parseTbsCrl } from '../x509/crl.ts';
import { encodeRevoked } from '../x509/crl-tbs.ts';
import { type ParsedCsr, parseCsr } from '../x509/csr.ts';
import { decodePem } from '../x509/pem.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { type Artefact, signingInput } from './artefacts.ts';
import { follows } from './issuer-revocations.ts';
import type { CeremonyRequest } from './request.ts';
import { checkRootCertificate } from './root-certificate.ts';
import { openTranscript } from './transcript.ts';

/** Content of the files in a result's folder, by name. */
export type ResultFiles = ReadonlyMap<string, Buffer>;

/** Names in a result's folder that the transcript does not list: it, its signature, and what was announced. */
export const resultFileNames = {
  transcript: 'transcript.json',
  signature: 'transcript.jws',
  ahead: 'write-ahead.jsonl',
  root: 'root.cer',
  crl: 'root.crl',
  statement: 'statement.jws',
  csr: 'root.csr',
} as const;

/** What came of a ceremony, after every check. */
export interface VerifiedResult {
  transcript: Transcript;
  /** transcript.json as it is, and its detached signature. */
  transcriptBytes: Buffer;
  transcriptJws: string;
  root: { keyId: string; ckaId: string; certificateDer: Buffer; pin: string };
  crl: ParsedCrl & { crlNumber: bigint };
  /** The first one is to sign now. */
  issuers: { keyId: string; certificateDer: Buffer }[];
  statement: { jws: string; sequence: number };
  /** SHA-256, hex, of what the root signed as a CSR, where it did. */
  csrSha256: string | undefined;
}

interface Root {
  certificate: ParsedCertificate;
  spki: Buffer;
  key: KeyObject;
  keyId: string;
  algorithm: SignatureAlgorithm;
}

/**
 * Verifies the result of a first ceremony against the request that asked for it: transcript and its signature, hash of
 * every file, and each certificate, CRL and statement built again and compared byte for byte. Throws `integrity-…`
 * where something was changed, `policy-conflict` where it is the result of another request.
 */
export function verifyFirstResult(
  files: ResultFiles,
  { request, nowMs }: { request: CeremonyRequest; nowMs: number },
): VerifiedResult {
  const rootDer = fileOf(files, resultFileNames.root);
  const root = rootOf(rootDer, { trustDomain: request.trustDomain, nowMs });
  const opened = openResult(files, root);
  const { transcript } = opened;
  if (transcript.kind !== 'ceremony') refuse('it is a renewal, which `vouch ceremony --import` takes');
  if (!transcript.inputs.some(({ sha256 }) => sha256 === request.sha256))
    throw new VouchError(
      'policy-conflict',
      `this is the result of another request; this state waits for that of the request with SHA-256 ${request.sha256}`,
    );
  const check = new ItemCheck(transcript, root);
  if (transcript.root.certificateMade)
    check.certificate('root-certificate', rootDer, rootArtefact(root, request));
  const issuers = request.issuers.map(({ spki, keyId }, index) => {
    const der = fileOf(files, `issuer-${keyId}.cer`);
    check.certificate('issuer-certificate', der, issuerArtefact(der, spki, root, request));
    if (index === 0) checkCurrent('issuer certificate', parseCertificate(der), nowMs);
    return { keyId, certificateDer: der };
  });
  checkSerials(
    [
      root.certificate.serial,
      ...issuers.map(({ certificateDer }) => parseCertificate(certificateDer).serial),
    ],
    { made: transcript.root.certificateMade ? 0 : 1, prefix: request.serialPrefix },
  );
  const logKeys = request.logKeys.map((key) => ({ ...key, name: request.logOrigin }));
  const result = {
    ...opened,
    issuers,
    crl: check.crl(fileOf(files, resultFileNames.crl), nowMs),
    csrSha256: check.csr(files, request.trustDomain),
    statement: check.statement(
      fileOf(files, resultFileNames.statement),
      { trustDomain: request.trustDomain, logKeys, publicationUrl: request.publicationUrl },
      nowMs,
    ),
  };
  check.done();
  return result;
}

/** What a running authority has, which a renewal must follow. */
export interface RenewedState {
  rootDer: Buffer;
  statement: Statement;
  /** The root's last CRL; the one of a renewal may be that, where taking it in was cut short. */
  lastCrl: { crlNumber: bigint; tbs: Buffer } | undefined;
  /** What must stand on the new one, of the same date and with this reason or a worse one. */
  revoked: readonly { serial: Serial; reason: Reason; crlDateSeconds: number | undefined }[];
  nowMs: number;
}

/**
 * Verifies the result of a renewal against what it renews: the same root, a statement of higher sequence over the same
 * log keys, a CRL of higher number that forgets nothing. Throws as `verifyFirstResult`, `policy-conflict` for an older one.
 */
export function verifyRenewal(files: ResultFiles, state: RenewedState): VerifiedResult {
  const { statement: last, nowMs } = state;
  const root = rootOf(state.rootDer, { trustDomain: last.trustDomain, nowMs });
  const opened = openResult(files, root);
  if (opened.transcript.kind !== 'renewal')
    refuse('it is a first ceremony, which `vouch init --ceremony-in` takes');
  const check = new ItemCheck(opened.transcript, root);
  const [publicationUrl = ''] = last.publicationUrls;
  const result = {
    ...opened,
    issuers: [],
    crl: check.crl(fileOf(files, resultFileNames.crl), nowMs),
    csrSha256: check.csr(files, last.trustDomain),
    statement: check.statement(
      fileOf(files, resultFileNames.statement),
      { trustDomain: last.trustDomain, logKeys: last.logKeys, publicationUrl, issuers: last.issuers },
      nowMs,
    ),
  };
  check.done();
  const { statement, crl } = result;
  const lastNumber = state.lastCrl?.crlNumber ?? -1n;
  const isNewer = crl.crlNumber > lastNumber || state.lastCrl?.tbs.equals(crl.tbs) === true;
  if (statement.sequence <= last.sequence || !isNewer)
    throw new VouchError(
      'policy-conflict',
      `this result is not newer than what is there: statement ${statement.sequence} after ${last.sequence}, CRL ${crl.crlNumber} after ${lastNumber}`,
    );
  checkFollows(crl, state.lastCrl);
  checkRevoked(crl, state.revoked, result.transcript);
  return result;
}

/** Nothing is forgotten or told in another way, and what the transcript says was revoked is. */
function checkRevoked(crl: ParsedCrl, before: RenewedState['revoked'], { signed }: Transcript): void {
  const listed = new Map([...crl.revoked()].map((revoked) => [revoked.serial, revoked]));
  for (const { serial, reason, crlDateSeconds: dateSeconds } of before) {
    const now = listed.get(serial);
    if (!now) return refuse(`its CRL forgets the revoked ${serial}: renew with the last CRL as crl.last`);
    if (!follows({ reason, dateSeconds }, now))
      refuse(`its CRL says of the revoked ${serial} another date, or no worse reason than ${reason}`);
  }
  for (const { serial, reason, revokedAt } of signed.flatMap(({ revoked }) => revoked ?? [])) {
    const now = listed.get(serial as Serial);
    if (now?.reason !== reason || now.dateSeconds * 1000 !== Date.parse(revokedAt))
      refuse(`its transcript says that ${serial} was revoked for ${reason}, which its CRL does not`);
  }
}

/** Times of a root's CRLs go up, as its numbers do (DESIGN I5). */
function checkFollows(crl: ParsedCrl, lastCrl: RenewedState['lastCrl']): void {
  if (!lastCrl || lastCrl.tbs.equals(crl.tbs)) return;
  const last = parseTbsCrl(lastCrl.tbs);
  if (crl.thisUpdateSeconds <= last.thisUpdateSeconds || crl.nextUpdateSeconds < last.nextUpdateSeconds)
    refuse('its CRL is dated before the last one, or ends before it: renew with the last CRL as crl.last');
}

/** None twice, and those from the `made`th on with one fixed byte and 16 random ones (DESIGN I2): the others were there. */
function checkSerials(serials: readonly Serial[], { made, prefix }: { made: number; prefix: number }): void {
  const first = prefix.toString(16).padStart(2, '0');
  if (new Set(serials).size !== serials.length) refuse('two of its certificates have one serial');
  if (!serials.slice(made).every((serial) => serial.length === 34 && serial.startsWith(first)))
    refuse(`it has a serial that does not begin with ${first}, as all of this trust domain do`);
}

function rootOf(der: Buffer, expected: { trustDomain: TrustDomain; nowMs: number }): Root {
  try {
    const certificate = checkRootCertificate(der, expected);
    const { key, keyId, spki } = importPublicKey(certificate.spki);
    return { certificate, spki, key, keyId, algorithm: certificate.algorithm };
  } catch (cause) {
    throw new VouchError('integrity-signature', `the result cannot be taken: ${asVouchError(cause).detail}`, {
      cause,
    });
  }
}

function openResult(files: ResultFiles, root: Root) {
  const transcriptBytes = fileOf(files, resultFileNames.transcript);
  const transcriptJws = fileOf(files, resultFileNames.signature).toString('ascii').trimEnd();
  const transcript = openTranscript(transcriptBytes, transcriptJws, root);
  const pin = `sha256:${hash('sha256', root.spki, 'hex')}`;
  if (transcript.root.keyId !== root.keyId || transcript.root.pin !== pin)
    refuse('its transcript names another root');
  for (const { name, sha256 } of transcript.outputs)
    if (hash('sha256', fileOf(files, name), 'hex') !== sha256)
      refuse(`${name} is not the file that the ceremony wrote`);
  const { ckaId } = transcript.root;
  return {
    ...{ transcript, transcriptBytes, transcriptJws },
    root: { keyId: root.keyId, ckaId, certificateDer: root.certificate.der, pin },
  };
}

/** Holds what a result brings against what its transcript says was signed: neither has more than the other. */
class ItemCheck {
  readonly #root: Root;
  readonly #trustDomain: string;
  readonly #left: TranscriptItem[];

  constructor(transcript: Transcript, root: Root) {
    this.#root = root;
    this.#trustDomain = transcript.trustDomain;
    this.#left = [...transcript.signed];
  }

  certificate(kind: TranscriptItem['kind'], der: Buffer, artefact: Artefact): void {
    const { tbs, signature, algorithm } = parseCertificate(der);
    this.#signed(kind, tbs, artefact);
    if (!verifySignature(algorithm, this.#root.key, tbs, signature))
      refuse(`a ${kind} has a wrong signature`);
  }

  crl(der: Buffer, nowMs: number): ParsedCrl & { crlNumber: bigint } {
    const crl = parseCrl(der);
    const { tbs, signature, algorithm, crlNumber, thisUpdateSeconds, nextUpdateSeconds } = crl;
    if (crlNumber === undefined) return refuse('its CRL has no number');
    const artefact: Artefact = {
      ...{ kind: 'root-crl', crlNumber, thisUpdateSeconds, nextUpdateSeconds },
      rootName: this.#root.certificate.subjectName,
      revoked: [...crl.revoked()].map(encodeRevoked),
    };
    this.#signed('root-crl', tbs, artefact);
    if (!verifySignature(algorithm, this.#root.key, tbs, signature)) refuse('its CRL has a wrong signature');
    const times = { notBeforeMs: thisUpdateSeconds * 1000, notAfterMs: nextUpdateSeconds * 1000 };
    checkCurrent('root CRL', times, nowMs);
    return { ...crl, crlNumber };
  }

  statement(
    bytes: Buffer,
    expected: {
      trustDomain: string;
      logKeys: Statement['logKeys'];
      publicationUrl: string;
      issuers?: Statement['issuers'] | undefined;
    },
    nowMs: number,
  ): VerifiedResult['statement'] {
    const jws = bytes.toString('ascii');
    const statement = openStatement(jws, this.#root.key);
    this.#signed('statement', Buffer.from(jws.slice(0, jws.lastIndexOf('.')), 'ascii'), {
      kind: 'statement',
      statement,
    });
    if (statement.trustDomain !== expected.trustDomain || this.#trustDomain !== expected.trustDomain)
      refuse(`it is of the trust domain ${statement.trustDomain}`);
    const keys = (all: Statement['logKeys']): string => all.map(verifierKey).join();
    if (keys(statement.logKeys) !== keys(expected.logKeys))
      refuse('its statement names other log keys than ours');
    if (statement.issuers?.join() !== expected.issuers?.join())
      refuse('its statement names other issuers than ours');
    if (!statement.publicationUrls.includes(expected.publicationUrl))
      refuse(`its statement does not name ${expected.publicationUrl}`);
    if (statement.sequence < 1) refuse('its statement has no sequence from 1');
    if (statement.notAfterMs < nowMs)
      refuse('its statement has ended; compare the clocks, or hold the ceremony again');
    return { jws, sequence: statement.sequence };
  }

  /** Where the transcript lists one. */
  csr(files: ResultFiles, trustDomain: TrustDomain): string | undefined {
    if (!this.#left.some(({ kind }) => kind === 'root-csr')) return undefined;
    const { certificate, key } = this.#root;
    const { signed, signature, algorithm } = csrOf(fileOf(files, resultFileNames.csr));
    const artefact: Artefact = { kind: 'root-csr', trustDomain, rootName: certificate.subjectName };
    this.#signed('root-csr', signed, artefact);
    if (!verifySignature(algorithm, key, signed, signature)) refuse('its CSR has a wrong signature');
    return hash('sha256', signed, 'hex');
  }

  /** Nothing was signed that the result does not hold. */
  done(): void {
    const [more] = this.#left;
    if (more) refuse(`its transcript lists a ${more.kind} (${more.file}) that has no place here`);
  }

  #signed(kind: TranscriptItem['kind'], tbs: Buffer, artefact: Artefact): void {
    const { spki, algorithm } = this.#root;
    if (!signingInput(artefact, { publicKeySpki: spki, algorithm }).equals(tbs))
      refuse(
        `its ${kind} says something else than was asked for; use the same version of vouch on both machines`,
      );
    const tbsSha256 = hash('sha256', tbs, 'hex');
    const at = this.#left.findIndex((item) => item.kind === kind && item.tbsSha256 === tbsSha256);
    if (at < 0) refuse(`its transcript does not list this ${kind}`);
    this.#left.splice(at, 1);
  }
}

function csrOf(pem: Buffer): ParsedCsr {
  try {
    const [der = Buffer.alloc(0)] = decodePem(pem.toString('latin1'), 'CERTIFICATE REQUEST');
    return parseCsr(der);
  } catch (cause) {
    return refuse(`its CSR cannot be read: ${asVouchError(cause).detail}`);
  }
}

function rootArtefact({ certificate }: Root, { trustDomain }: CeremonyRequest): Artefact {
  const { serial, subjectName: rootName } = certificate;
  return { kind: 'root-certificate', trustDomain, serial, rootName, validity: validityOf(certificate) };
}

function issuerArtefact(der: Buffer, spki: Buffer, root: Root, request: CeremonyRequest): Artefact {
  const certificate = parseCertificate(der);
  const { trustDomain, publicationUrl, nameConstraints } = request;
  return {
    ...{ kind: 'issuer-certificate', trustDomain, publicationUrl, nameConstraints, spki },
    ...{ serial: certificate.serial, validity: validityOf(certificate) },
    rootName: root.certificate.subjectName,
  };
}

function validityOf({ notBeforeMs, notAfterMs }: ParsedCertificate) {
  return { notBeforeSeconds: notBeforeMs / 1000, notAfterSeconds: notAfterMs / 1000 };
}

function checkCurrent(what: string, times: { notBeforeMs: number; notAfterMs: number }, nowMs: number): void {
  if (times.notBeforeMs > nowMs) refuse(`its ${what} is of the future: compare the clocks of both machines`);
  if (times.notAfterMs < nowMs) refuse(`its ${what} has ended: hold the ceremony again`);
}

function fileOf(files: ResultFiles, name: string): Buffer {
  return files.get(name) ?? refuse(`it has no file ${name}`);
}

function refuse(why: string): never {
  throw new VouchError('integrity-signature', `the result cannot be taken: ${why}`);
}
