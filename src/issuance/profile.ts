import { hash } from 'node:crypto';
import { canonicalJson } from '../core/canonical-json.ts';
import { VouchError } from '../core/errors.ts';
import { commonNameMaxLength } from '../x509/name.ts';

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

/** The profiles that an entry may name. */
const profiles: ReadonlyMap<string, Profile> = new Map(
  [defaultProfile, { ...defaultProfile, name: 'cn-first-dns', subject: 'cn-first-dns' } as const].map(
    (profile) => [profile.name, profile],
  ),
);

/** The profile of this name. Throws `policy-lint` where there is none: nothing is issued by a guess. */
export function profileNamed(name: string): Profile {
  const profile = profiles.get(name);
  if (profile) return profile;
  throw new VouchError('policy-lint', `there is no profile ${JSON.stringify(name.slice(0, 80))}`);
}

/** For whoever registers an entry: the profile must be one that can be kept with these names. Throws `request-malformed`. */
export function requireProfile(name: string, dnsNames: readonly string[]): void {
  const profile = profiles.get(name);
  if (!profile)
    throw new VouchError(
      'request-malformed',
      `no profile ${JSON.stringify(name.slice(0, 80))}: use ${[...profiles.keys()].join(' or ')}`,
    );
  if (profile.subject === 'none') return;
  const [first] = dnsNames;
  if (first === undefined || first.length > commonNameMaxLength)
    throw new VouchError(
      'request-malformed',
      `the profile ${name} needs a first DNS name of at most ${commonNameMaxLength} characters: it becomes the common name`,
    );
}
