import { VouchError } from '../core/errors.ts';
import { reasonCodes, reasonOfCode } from '../core/reasons.ts';
import { parseSerial } from '../core/serial.ts';
import { type OcspAnswer, ocspNonceMaxBytes, type OcspStatus } from '../x509/ocsp.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import type { Packer, Unpacker } from './packing.ts';
import type { OcspKey } from './port.ts';

/** An OCSP answer to sign for an issuer. The signer makes the bytes from it: none are sent. */
export interface OcspOrder {
  issuerKeyId: string;
  answer: OcspAnswer;
}

/** 0 for good; a reason's code and one for revoked. */
const goodCode = 0;
const keyIdMaxChars = 40;
const serialMaxChars = 40;

/** Writes an order's fields. */
export function packOcsp(out: Packer, { issuerKeyId, answer }: OcspOrder): void {
  const { form, status, nonce } = answer;
  out.text(issuerKeyId);
  out
    .flag(form.hash === 'sha256')
    .flag(form.hasParameters)
    .text(form.serial);
  if (status.kind === 'good') out.u8(goodCode);
  else out.u8(reasonCodes[status.reason] + 1).u64(status.atSeconds);
  out.u64(answer.producedAtSeconds).u64(answer.thisUpdateSeconds).u64(answer.nextUpdateSeconds);
  out.flag(nonce !== undefined);
  if (nonce) out.bytes(nonce);
}

/** Reads them. Throws `request-malformed`. */
export function unpackOcsp(from: Unpacker): OcspOrder {
  const issuerKeyId = from.text(keyIdMaxChars);
  const hash = from.flag() ? 'sha256' : 'sha1';
  const form = { hash, hasParameters: from.flag(), serial: parseSerial(from.text(serialMaxChars)) } as const;
  const status = unpackStatus(from);
  const producedAtSeconds = from.u64();
  const thisUpdateSeconds = from.u64();
  const nextUpdateSeconds = from.u64();
  const nonce = from.flag() ? from.bytes(ocspNonceMaxBytes) : undefined;
  const times = { producedAtSeconds, thisUpdateSeconds, nextUpdateSeconds };
  return { issuerKeyId, answer: { form, status, ...times, nonce } };
}

function unpackStatus(from: Unpacker): OcspStatus {
  const code = from.u8();
  if (code === goodCode) return { kind: 'good' };
  const reason = reasonOfCode(code - 1);
  if (!reason) throw new VouchError('request-malformed', `there is no revocation reason ${code - 1}`);
  return { kind: 'revoked', reason, atSeconds: from.u64() };
}

/** The key as a greeting has it: a member of JSON. */
export function ocspKeyText({ algorithm, publicKeySpki }: OcspKey) {
  return { algorithm, publicKeySpki: publicKeySpki.toString('base64') };
}

/** Reads it; undefined where there is none. */
export function ocspKeyOf(value: unknown): OcspKey | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { algorithm, publicKeySpki } = value as { algorithm?: unknown; publicKeySpki?: unknown };
  if (typeof algorithm !== 'string' || typeof publicKeySpki !== 'string') return undefined;
  return { algorithm: algorithm as SignatureAlgorithm, publicKeySpki: Buffer.from(publicKeySpki, 'base64') };
}
