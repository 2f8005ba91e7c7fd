import { createPublicKey, hash, verify } from 'node:crypto';
import { canonicalJson } from '../core/canonical-json.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import { parseTrustDomain, type TrustDomain } from '../core/spiffe-id.ts';
import { decodeBase64 } from '../log/base64.ts';
import type { LogKeyAlgorithm } from '../log/note.ts';
import { type CeremonyRequestJson, ceremonyRequestSchema } from '../wire/ceremony.ts';
import { verifySignature } from '../x509/algorithm.ts';
import type { CaTemplate } from '../x509/certificate-tbs.ts';
import { parseCsr } from '../x509/csr.ts';
import { decodePem } from '../x509/pem.ts';
import { importPublicKey, type PublicKeyInfo } from '../x509/public-key.ts';

/** A log key of a request, whose holder has proven that it has it. */
export interface RequestedLogKey {
  algorithm: LogKeyAlgorithm;
  /** DER SubjectPublicKeyInfo. */
  publicKeySpki: Buffer;
}

/** What an authority asks of the root; every signature in it is verified. */
export interface CeremonyRequest {
  /** SHA-256 of the file, hex: what people compare by eye. */
  sha256: string;
  stateId: string;
  /** By the authority's clock. */
  createdAtMs: number;
  trustDomain: TrustDomain;
  publicationUrl: string;
  serialPrefix: number;
  nameConstraints: CaTemplate['nameConstraints'];
  logOrigin: string;
  /** The first one is to sign now, the others in turn. */
  issuers: readonly PublicKeyInfo[];
  logKeys: readonly RequestedLogKey[];
}

/** A request is shorter: 16 CSRs of RSA-4096. */
const requestMaxBytes = 400_000;

const proofPrefix = 'vouch-ceremony-request-v1\n';

/** What each log key signs: a fixed line, then canonical JSON of the request with every proof empty. */
export function logKeyProofText(request: CeremonyRequestJson): Buffer {
  const logKeys = request.logKeys.map((key) => ({ ...key, proof: '' }));
  return Buffer.from(proofPrefix + canonicalJson({ ...request, logKeys }), 'utf8');
}

/** True for the one kind of text that a log key signs besides checkpoints. */
export function isLogKeyProofText(text: Buffer): boolean {
  return text.subarray(0, proofPrefix.length).equals(Buffer.from(proofPrefix));
}

/** The request file's text: canonical JSON and a line end. */
export function encodeRequest(request: CeremonyRequestJson): string {
  return `${canonicalJson(request)}\n`;
}

/**
 * Reads a request and verifies all of it: one encoding only, each CSR signed with its own key, keys strong and
 * distinct, each log key's proof. Throws `config-invalid`.
 */
export function parseRequest(text: string): CeremonyRequest {
  const json = jsonOf(text);
  const issuers = json.issuers.map(({ csr }, index) => read(`CSR ${index + 1}`, () => keyOfCsr(csr)));
  const proven = logKeyProofText(json);
  const logKeys = json.logKeys.map(({ algorithm, publicKeySpki, proof }, index) =>
    read(`log key ${index + 1}`, () => provenLogKey({ algorithm, publicKeySpki, proof }, proven)),
  );
  const spkis = [...issuers.map(({ spki }) => spki), ...logKeys.map((key) => key.publicKeySpki)];
  if (new Set(spkis.map((spki) => spki.toString('hex'))).size !== spkis.length) refuse('names one key twice');
  const permitted = json.permittedUriDomains;
  if (permitted.some((domain) => domain !== json.trustDomain))
    refuse('asks for name constraints of another trust domain');
  return {
    sha256: hash('sha256', text, 'hex'),
    stateId: json.stateId,
    createdAtMs: Date.parse(json.createdAt),
    trustDomain: read('its trust domain', () => parseTrustDomain(json.trustDomain)),
    publicationUrl: json.publicationUrl,
    serialPrefix: json.serialPrefix,
    nameConstraints: permitted.length > 0 ? { permittedUriDomains: permitted } : undefined,
    logOrigin: json.logOrigin,
    issuers,
    logKeys,
  };
}

function jsonOf(text: string): CeremonyRequestJson {
  if (text.length > requestMaxBytes) refuse('is too large');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new VouchError('config-invalid', 'the request is not JSON', { cause });
  }
  const parsed = ceremonyRequestSchema.safeParse(value);
  if (!parsed.success) refuse('is not one that `vouch init --issuer-csr-out` writes');
  if (encodeRequest(parsed.data) !== text) refuse('is not in its one encoding');
  if (!/^http:\/\/[!-~]+[^/]$/.test(parsed.data.publicationUrl) || !URL.canParse(parsed.data.publicationUrl))
    refuse('has a publication URL that is no http URL without a slash at its end');
  return parsed.data;
}

/** Only the key counts; the CSR's own signature proves that whoever asks has it. */
function keyOfCsr(pem: string): PublicKeyInfo {
  const blocks = decodePem(pem, 'CERTIFICATE REQUEST');
  const [der] = blocks;
  if (!der || blocks.length > 1) return refuse('must have one CSR where it has several');
  const csr = parseCsr(der);
  const info = importPublicKey(csr.spki);
  if (info.type.startsWith('rsa-2')) refuse('has an RSA key below 3072 bits, too weak for a CA');
  if (!verifySignature(csr.algorithm, info.key, csr.signed, csr.signature))
    refuse('has a CSR that is not signed with its own key');
  return info;
}

function provenLogKey(
  { algorithm, publicKeySpki, proof }: CeremonyRequestJson['logKeys'][number],
  text: Buffer,
): RequestedLogKey {
  const spki = decodeBase64(publicKeySpki) ?? refuse('has a log key that is not base64');
  const type = importPublicKey(spki).type;
  if (type !== (algorithm === 'ed25519' ? 'ed25519' : 'ec-p256')) refuse('has a log key of another type');
  const key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
  const digest = algorithm === 'ed25519' ? null : 'sha256';
  if (!verify(digest, text, key, decodeBase64(proof) ?? Buffer.alloc(0)))
    refuse('was changed, or its log key is not there: the proof by the log key does not verify');
  return { algorithm, publicKeySpki: spki };
}

function read<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const { code, detail } = asVouchError(error);
    if (code === 'config-invalid') throw error;
    throw new VouchError('config-invalid', `the request cannot be taken (${what}): ${detail}`, {
      cause: error,
    });
  }
}

function refuse(why: string): never {
  throw new VouchError('config-invalid', `the request ${why}`);
}
