import type { ParsedTbs } from '../../x509/certificate.ts';
import type { Rule } from '../finding.ts';

/** What a leaf is measured against. */
export interface CertificateLintContext {
  /** The identity it was decided to give; undefined where only the trust domain is known, as in the signer. */
  spiffeId: string | undefined;
  trustDomain: string;
  /** True only for the server's own TLS certificate. */
  isServer: boolean;
  issuer: { nameDer: Buffer; notAfterMs: number; keyId: string };
}

/** A rule for leaves. */
export type CertificateRule = Rule<ParsedTbs, CertificateLintContext>;

/** The details whose condition holds. */
export function details(...pairs: readonly (readonly [boolean, string])[]): string[] {
  return pairs.filter(([broken]) => broken).map(([, detail]) => detail);
}
