import { deserialize, serialize } from 'node:v8';
import type { SigningKeyType } from '../x509/signing-key-type.ts';
import type { Artefact } from '../ceremony/artefacts.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { HsmConfig, HsmKey } from './hsm.ts';
import type { KeyTypeProblems } from './key-types.ts';

/** The steps that `vouch init` asks of its child, one child for a token. */
export interface CeremonySteps {
  /** Opens the token and logs in. */
  open: {
    request: { hsm: HsmConfig; refusedFile: string };
    answer: { keyTypeProblems: KeyTypeProblems };
  };
  /** Makes a key that stays in the token. */
  createKey: { request: { type: SigningKeyType; label: string }; answer: HsmKey };
  /** Takes a key that is there as the root, once it is proven to be this one. */
  useKey: { request: HsmKey; answer: HsmKey };
  /** Private keys with that CKA_ID or label; `publicKeySpki` where the token shows the public half. */
  findKeys: { request: KeyAddress; answer: FoundKey[] };
  /** DER PKCS#10 request of an issuer for the key that was made or taken last. */
  requestCertificate: { request: { trustDomain: TrustDomain }; answer: Buffer };
  /** Signature of the key that was made or taken last, a log key, over a ceremony request. */
  proveLogKey: { request: { text: Buffer }; answer: Buffer };
  /** Builds what is to be signed; its bytes are answered, to be logged before anything is signed (I1). */
  prepare: { request: Artefact; answer: Buffer };
  /** The parent has logged it: signs what was prepared, once. Answers a certificate, a CRL or a compact JWS. */
  sign: { request: null; answer: Buffer };
}

/** How a key that is there already is named. */
export type KeyAddress = { ckaId: string } | { label: string };

/** A private key of the token. */
export interface FoundKey {
  ckaId: string;
  publicKeySpki: Buffer | undefined;
}

/** Name of a step. */
export type CeremonyStep = keyof CeremonySteps;

const codes = {
  open: 1,
  createKey: 2,
  useKey: 3,
  prepare: 4,
  sign: 5,
  findKeys: 6,
  requestCertificate: 7,
  proveLogKey: 8,
} as const satisfies Record<CeremonyStep, number>;

/** The frame's kind for a step. */
export function codeOfStep(step: CeremonyStep): number {
  return codes[step];
}

/** The step of a frame's kind. */
export function stepOfCode(code: number): CeremonyStep | undefined {
  return (Object.keys(codes) as CeremonyStep[]).find((step) => codes[step] === code);
}

/** Payload of a request or answer. Both ends are one program, parent and child. */
export function encodeStep(value: unknown): Buffer {
  return serialize(value);
}

/** Reads what `encodeStep` made. */
export function decodeStep<Value>(payload: Buffer): Value {
  return deserialize(payload) as Value;
}
