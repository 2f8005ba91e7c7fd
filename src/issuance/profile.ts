import { hash } from 'node:crypto';
import { canonicalJson } from '../core/canonical-json.ts';

/** What a certificate of this kind looks like, beyond the names that its registration entry gives it. */
export interface Profile {
  name: string;
  /** Lifetime of a certificate, notAfter inclusive: notAfter − now + 1 s. */
  lifetimeSeconds: number;
  /** Longest lifetime that an entry may ask for. */
  maxLifetimeSeconds: number;
  /** How far notBefore lies in the past, for peers whose clocks are behind. */
  backdateSeconds: number;
  /** `none`: empty subject, critical subjectAltName. `cn-first-dns`: the first DNS name as common name. */
  subject: 'none' | 'cn-first-dns';
  /** A second CRL distribution point with the full CRL, for software that cannot read shards. */
  fullCrlPoint: boolean;
  /** The OCSP responder's URL in authorityInfoAccess, for software that asks there. */
  ocspPoint: boolean;
}

/** SHA-256 of the profile's canonical JSON, lower-case hex: a decision names the profile as it was then. */
export function profileSha256(profile: Profile): string {
  return hash('sha256', canonicalJson({ ...profile }), 'hex');
}

/** The profile used where an entry names none (docs/defaults.md has the reasons). */
export const defaultProfile: Profile = {
  name: 'default',
  lifetimeSeconds: 3600,
  maxLifetimeSeconds: 24 * 3600,
  backdateSeconds: 60,
  subject: 'none',
  fullCrlPoint: false,
  ocspPoint: false,
};
