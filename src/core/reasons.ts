import { VouchError } from './errors.ts';

/** CRL reasons in RFC spelling with their codes (RFC 5280 §5.3.1); code 7 is unused. */
export const reasonCodes = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  removeFromCRL: 8,
  privilegeWithdrawn: 9,
  aACompromise: 10,
} as const;

/** A revocation reason in RFC spelling. */
export type Reason = keyof typeof reasonCodes;

/** What an operator may give for a workload's certificate; the release of a hold is a verb of its own. */
export const operatorReasons = [
  'unspecified',
  'keyCompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'certificateHold',
  'privilegeWithdrawn',
] as const satisfies Reason[];

/** What the root may say of an issuer; the first where nothing is said. */
export const issuerReasons = [
  'cACompromise',
  'keyCompromise',
  'superseded',
  'cessationOfOperation',
  'affiliationChanged',
] as const satisfies Reason[];

/** Parses an operator's reason. Throws `request-malformed` with the list. */
export function parseOperatorReason(text: string): Reason {
  const found = operatorReasons.find((reason) => reason === text);
  if (!found)
    throw new VouchError(
      'request-malformed',
      `reason must be one of ${operatorReasons.join(', ')}: ${JSON.stringify(text)}`,
    );
  return found;
}

/** How bad each is: a certificate that is revoked already may get a worse one only. */
const gravity = {
  removeFromCRL: 0,
  certificateHold: 1,
  unspecified: 2,
  affiliationChanged: 3,
  superseded: 3,
  cessationOfOperation: 3,
  privilegeWithdrawn: 4,
  keyCompromise: 5,
  cACompromise: 5,
  aACompromise: 5,
} as const satisfies Record<Reason, number>;

/** Whether `reason` says worse of a certificate than `than`, which stands. */
export function isWorse(than: Reason, reason: Reason): boolean {
  return gravity[reason] > gravity[than];
}

/**
 * Whether an event with `reason` may come after what stands of the same serial, undefined where nothing does: a hold is
 * released (`removeFromCRL`) or becomes final, what was released may be revoked anew, all else only gets worse.
 */
export function mayFollow(standing: Reason | undefined, reason: Reason): boolean {
  if (reason === 'removeFromCRL') return standing === 'certificateHold';
  return standing === undefined || isWorse(standing, reason);
}

/** The reason of a code read from a CRL, or undefined where RFC 5280 gives it none. */
export function reasonOfCode(code: number): Reason | undefined {
  return (Object.keys(reasonCodes) as Reason[]).find((reason) => reasonCodes[reason] === code);
}
