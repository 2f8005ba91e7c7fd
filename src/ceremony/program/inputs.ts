import { hash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import path from 'node:path';
import type { ExistingRoot } from '../plan.ts';
import { type IssuerRevocations, parseIssuerRevocations } from '../issuer-revocations.ts';
import { type CeremonyRequest, parseRequest } from '../request.ts';
import { checkRootCertificate } from '../root-certificate.ts';
import { type CeremonyFile, loadCeremonyFile } from '../../config/ceremony-file.ts';
import { rfc3339 } from '../../core/clock.ts';
import { asVouchError, VouchError } from '../../core/errors.ts';
import type { TrustDomain } from '../../core/spiffe-id.ts';
import { openStatement, type Statement } from '../../log/statement.ts';
import { CeremonyClient } from '../../signer/ceremony-client.ts';
import type { HsmKey } from '../../signer/hsm.ts';
import type { SignerLog } from '../../signer/signer-log.ts';
import { bundleSchema } from '../../wire/enrollment.ts';
import { algorithmsOf, verifySignature } from '../../x509/algorithm.ts';
import { type ParsedCertificate, parseCertificate } from '../../x509/certificate.ts';
import { type ParsedCrl, parseCrl } from '../../x509/crl.ts';
import { decodePem } from '../../x509/pem.ts';
import { importPublicKey } from '../../x509/public-key.ts';

/** Everything that a ceremony reads, verified, before a key is made or used. */
export interface CeremonyInputs {
  ceremony: CeremonyFile;
  trustDomain: TrustDomain;
  request: CeremonyRequest | undefined;
  lastStatement: Statement | undefined;
  /** The certificate that the key must be of; with `reissue` only its name goes on. */
  certificate: ParsedCertificate | undefined;
  existing: ExistingRoot | undefined;
  lastCrl: ParsedCrl | undefined;
  /** Issuers that end; undefined where none does. */
  revocations: IssuerRevocations | undefined;
  /** Every file that was read, with its SHA-256, for the transcript. */
  files: { name: string; sha256: string }[];
}

/** Two clocks may be apart by so much. */
const clockSlackMs = 5 * 60_000;
/** A request that is older by the clock of this machine is worth a look at it. */
const requestAgeMs = 24 * 3600_000;

/** A result with a larger CRL is not read where it comes to (`files.ts`, and what the admin socket takes at once). */
const crlMaxBytes = 140_000;

const inputMaxBytes = 16 * 1024 * 1024;

/** Reads and verifies the ceremony's file and all that it names. Throws `config-invalid`. */
export function readCeremonyInputs(file: string, nowMs: number): CeremonyInputs {
  const ceremony = loadCeremonyFile(file);
  if (existsSync(ceremony.out))
    throw new VouchError(
      'config-state',
      `${ceremony.out} exists: name a new folder; a write-ahead.jsonl in it says what an attempt may have signed`,
    );
  const files: CeremonyInputs['files'] = [];
  const bytesOf = (name: string): Buffer => {
    const bytes = readInput(name);
    files.push({ name: path.basename(name), sha256: hash('sha256', bytes, 'hex') });
    return bytes;
  };
  bytesOf(file);
  const { renew, revoke, crl } = ceremony;
  const request = ceremony.request && requestOf(ceremony.request, bytesOf);
  const carried = (name: string, key: string, sha256: string | undefined): Buffer => {
    const bytes = bytesOf(name);
    refuseOther(key, hash('sha256', bytes, 'hex'), sha256);
    return bytes;
  };
  const renewed = renew && renewedOf(carried(renew.bundle, 'renew', renew.sha256));
  const trustDomain = request?.trustDomain ?? renewed?.statement.trustDomain;
  if (!trustDomain) throw new VouchError('config-invalid', 'give one of request and renew');
  const named = ceremony.root.certificate;
  const der = renewed?.rootDer ?? (named === undefined ? undefined : derOf(bytesOf(named), 'CERTIFICATE'));
  const certificate = der && certificateOf(der, ceremony.root.reissue, { trustDomain, nowMs });
  const lastCrl =
    crl.last === undefined
      ? undefined
      : crlOf(derOf(carried(crl.last, 'crl', crl.sha256), 'X509 CRL'), certificate);
  const revocations =
    revoke && certificate
      ? parseIssuerRevocations(carried(revoke.file, 'revoke', revoke.sha256).toString('utf8'), {
          root: certificate,
          trustDomain,
        })
      : undefined;
  refuseWrongClock(nowMs, { request, lastCrl, revocations });
  return {
    ...{ ceremony, trustDomain, request, lastStatement: renewed?.statement },
    ...{ certificate, existing: certificate, lastCrl, revocations, files },
  };
}

/** What the token has to do with it: the key where it is there, proven; undefined where it is yet to be made. */
export async function findRootKey(
  { ceremony, certificate }: CeremonyInputs,
  client: CeremonyClient,
): Promise<HsmKey | undefined> {
  const { key } = ceremony.root;
  if ('create' in key) {
    const found = await client.ask('findKeys', { label: key.label });
    if (found.length > 0)
      throw new VouchError(
        'config-hsm',
        `the token has a key labelled ${key.label} already (CKA_ID ${found.map(({ ckaId }) => ckaId).join(', ')}): take it with root.key.use, or give root.key.label another name`,
      );
    return undefined;
  }
  const found = await client.ask('findKeys', key.use);
  const [one] = found;
  const asked = 'ckaId' in key.use ? `CKA_ID ${key.use.ckaId}` : `label ${key.use.label}`;
  if (!one || found.length > 1)
    throw new VouchError(
      'config-hsm',
      `the token has ${found.length} private keys with ${asked}: name exactly one`,
    );
  const spki = one.publicKeySpki ?? certificate?.spki;
  if (!spki)
    throw new VouchError(
      'config-hsm',
      `the token does not show the public half of the key with ${asked}: name its certificate`,
    );
  if (certificate && !certificate.spki.equals(spki))
    throw new VouchError(
      'config-hsm',
      `the key with ${asked} is another one than that of the root certificate`,
    );
  const algorithm = certificate?.algorithm ?? algorithmsOf(importPublicKey(spki).type)[0];
  if (!algorithm)
    throw new VouchError('config-hsm', `the key with ${asked} is of a type that signs nothing here`);
  // Proven by a test signature, and that it can never leave the token.
  return client.ask('useKey', { ckaId: one.ckaId, algorithm, publicKeySpki: spki });
}

/** Logs into the root's token. A refused PIN is noted in the folder above the result, whatever that is called, and never tried again. */
export function openRootToken({ ceremony }: CeremonyInputs, log: SignerLog): Promise<CeremonyClient> {
  return CeremonyClient.open({
    entry: process.argv[1] ?? '',
    hsm: ceremony.root.hsm,
    refusedFile: path.join(path.dirname(ceremony.out), 'root.pin-refused'),
    log,
  });
}

/** What should not be so where a root signs, but hinders nothing. */
export function surroundings({ request, revocations, ceremony }: CeremonyInputs, nowMs: number): string[] {
  const reached = Object.entries(networkInterfaces())
    .filter(([, addresses]) => addresses?.some(({ internal }) => !internal))
    .map(([name]) => name);
  return [
    ...(reached.length > 0
      ? [`this machine has a network (${reached.join(', ')}): a root signs on one without`]
      : []),
    ...(request && nowMs - request.createdAtMs > requestAgeMs
      ? [
          `by the clock of this machine it is ${rfc3339(nowMs)}, and the request was made at ${rfc3339(request.createdAtMs)}: is the clock right?`,
        ]
      : []),
    ...(request && ceremony.request?.sha256 === undefined
      ? [`compare by eye: the request has the SHA-256 ${request.sha256}`]
      : []),
    ...(revocations && ceremony.revoke?.sha256 === undefined
      ? [`compare by eye: the file of revoke has the SHA-256 ${revocations.sha256}`]
      : []),
    ...[
      { key: 'renew.sha256', file: ceremony.renew?.bundle, sha256: ceremony.renew?.sha256 },
      { key: 'crl.sha256', file: ceremony.crl.last, sha256: ceremony.crl.sha256 },
    ].flatMap(({ key, file, sha256 }) =>
      file === undefined || sha256 !== undefined
        ? []
        : [
            `without ${key} an older ${path.basename(file)} is not noticed: what was revoked since then would be forgotten`,
          ],
    ),
  ];
}

function requestOf(
  asked: NonNullable<CeremonyFile['request']>,
  bytesOf: (name: string) => Buffer,
): CeremonyRequest {
  const request = parseRequest(bytesOf(asked.file).toString('utf8'));
  refuseOther('request', request.sha256, asked.sha256);
  return request;
}

/** `key`: whose `sha256` was written down where the file comes from. */
function refuseOther(key: string, sha256: string, expected: string | undefined): void {
  if (expected !== undefined && expected !== sha256)
    throw new VouchError(
      'config-invalid',
      `the file of ${key} has the SHA-256 ${sha256}, not the one that ${key}.sha256 names: it was changed on its way, or is another one`,
    );
}

/** A clock that stood still: what is dated by it would have ended before its time, or be refused where it comes back to. */
function refuseWrongClock(
  nowMs: number,
  { request, lastCrl, revocations }: Pick<CeremonyInputs, 'request' | 'lastCrl' | 'revocations'>,
): void {
  const madeMs = Math.max(
    request?.createdAtMs ?? 0,
    revocations?.createdAtMs ?? 0,
    (lastCrl?.thisUpdateSeconds ?? 0) * 1000,
  );
  if (nowMs < madeMs - clockSlackMs)
    throw new VouchError(
      'config-invalid',
      `by the clock of this machine it is ${rfc3339(nowMs)}, and what was carried here was made at ${rfc3339(madeMs)}: set the clock (or that of the authority, whichever is wrong)`,
    );
}

/** Root and statement of a bundle that is served now. */
function renewedOf(bytes: Buffer): { rootDer: Buffer; statement: Statement } {
  try {
    const bundle = bundleSchema.parse(JSON.parse(bytes.toString('utf8')));
    const rootDer = Buffer.from(bundle.keys[0]?.x5c?.[0] ?? '', 'base64');
    const { key } = importPublicKey(parseCertificate(rootDer).spki);
    return { rootDer, statement: openStatement(bundle.vouch_statement, key) };
  } catch (cause) {
    const { detail } = asVouchError(cause);
    throw new VouchError('config-invalid', `renew.bundle is not the bundle.json of an authority: ${detail}`, {
      cause,
    });
  }
}

function certificateOf(
  der: Buffer,
  reissue: boolean,
  expected: { trustDomain: TrustDomain; nowMs: number },
): ParsedCertificate {
  return reissue
    ? readOf('root.certificate', () => parseCertificate(der))
    : checkRootCertificate(der, expected);
}

function crlOf(der: Buffer, root: ParsedCertificate | undefined): ParsedCrl {
  const crl = readOf('crl.last', () => parseCrl(der));
  const isOurs =
    root !== undefined &&
    crl.issuerName.equals(root.subjectName) &&
    verifySignature(crl.algorithm, importPublicKey(root.spki).key, crl.tbs, crl.signature);
  if (!isOurs) throw new VouchError('config-invalid', 'crl.last is not a CRL of this root');
  if (crl.tbs.length > crlMaxBytes)
    throw new VouchError(
      'config-invalid',
      `crl.last lists ${crl.count} certificates: one with as many (${crlMaxBytes} bytes at most) could not be taken in afterwards; make a new root`,
    );
  if (crl.idp || crl.deltaBase !== undefined)
    throw new VouchError('config-invalid', 'crl.last is a part or a delta: name the full CRL');
  return crl;
}

/** DER as it is, or the one block of a PEM file. */
function derOf(bytes: Buffer, label: string): Buffer {
  if (bytes[0] === 0x30) return bytes;
  const blocks = readOf(label, () => decodePem(bytes.toString('latin1'), label));
  const [der] = blocks;
  if (!der || blocks.length > 1)
    throw new VouchError('config-invalid', `one ${label} is wanted, not ${blocks.length}`);
  return der;
}

function readOf<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw new VouchError('config-invalid', `${what} cannot be read: ${asVouchError(cause).detail}`, {
      cause,
    });
  }
}

function readInput(name: string): Buffer {
  try {
    // A pipe or a device on the medium would have no end.
    const stat = statSync(name);
    if (!stat.isFile() || stat.size > inputMaxBytes)
      throw new VouchError('config-invalid', `${name} is no file, or too large`);
    return readFileSync(name);
  } catch (cause) {
    if (cause instanceof VouchError) throw cause;
    throw new VouchError('config-invalid', `cannot read ${name}`, { cause });
  }
}
