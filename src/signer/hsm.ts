import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import type { GuardStore } from './guard.ts';

/** Where the token is and how it is opened: the `hsm:` block of the configuration. */
export interface HsmConfig extends HsmAddress {
  /** Where its vendor keeps replicas of it, with the same keys: tried in order while it stays away. */
  replicas?: readonly HsmAddress[] | undefined;
}

/** One token. */
export interface HsmAddress {
  /** Path of the PKCS#11 module. */
  module: string;
  tokenLabel: string;
  tokenSerial: string;
  /** A file that only its owner reads, or `credential:<name>` for one in $CREDENTIALS_DIRECTORY. */
  pinFile: string;
  /** What the module wants to find in the environment, such as SOFTHSM2_CONF. */
  environment: Readonly<Record<string, string>>;
}

/** What a key's name begins with that has no CKA_ID of its own: the rest is its CKA_LABEL. */
export const byLabel = 'label:';

/** A key of the token as it must be: found by CKA_ID or label, proven by its public half. */
export interface HsmKey {
  /** CKA_ID, lower-case hex; `label:NAME` for an adopted key that only its CKA_LABEL names. */
  ckaId: string;
  algorithm: SignatureAlgorithm;
  /** DER SubjectPublicKeyInfo. */
  publicKeySpki: Buffer;
}

/** How well the token is. */
export interface HsmHealth {
  /** Sessions that sign now, and how many there should be. */
  sessions: number;
  sessionsWanted: number;
  /** Calls that were made again since the process started: after a new session, or after a login. */
  failures: { session: number; login: number };
}

/** How a signature is to be made. */
export interface SignOrder {
  /** Before those that wait. */
  urgent?: boolean;
}

/** Bytes to sign, or the digest of them that the key's algorithm takes (`digestOf`; Ed25519 has none). */
export type Signable = Buffer | { readonly digest: Buffer };

/** The token as the signer uses it. */
export interface Hsm {
  /**
   * Signature over `data` as it stands in a BIT STRING (ECDSA: DER). The key is one that was proven at the start. A
   * rejection is one after which the process should be replaced.
   */
  sign(ckaId: string, data: Signable, order?: SignOrder): Promise<Buffer>;
  /** Guards kept as data objects in the token; one that cannot be kept now may be kept later. */
  guards: GuardStore;
  health(): HsmHealth;
}
