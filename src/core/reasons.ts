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

/** What an operator may give for a workload's certificate; holds and their release come with delta CRLs. */
export const operatorReasons = [
  'unspecified',
  'keyCompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'privilegeWithdrawn',
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

/** The reason of a code read from a CRL, or undefined where RFC 5280 gives it none. */
export function reasonOfCode(code: number): Reason | undefined {
  return (Object.keys(reasonCodes) as Reason[]).find((reason) => reasonCodes[reason] === code);
}
