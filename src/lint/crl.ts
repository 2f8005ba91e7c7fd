import { VouchError } from '../core/errors.ts';
import { type ParsedCrlHead, parseTbsCrl } from '../x509/crl.ts';
import { authorityKeyId } from './crl/authority-key-id.ts';
import { crlNumber } from './crl/crl-number.ts';
import { criticalExtensions } from './crl/critical-extensions.ts';
import { issuingDistributionPoint } from './crl/issuing-distribution-point.ts';
import { reasons } from './crl/reasons.ts';
import { revocationDates } from './crl/revocation-dates.ts';
import { serialOrder } from './crl/serial-order.ts';
import { updateTimes } from './crl/update-times.ts';
import { type Finding, runRules } from './finding.ts';

/** Every rule that a CRL must keep before it is signed. None looks at single entries: the reader did, in one pass. */
export const crlRules = [
  updateTimes,
  authorityKeyId,
  crlNumber,
  issuingDistributionPoint,
  serialOrder,
  revocationDates,
  reasons,
  criticalExtensions,
];

/** What is wrong with a to-be-signed CRL (DER TBSCertList); empty: it may be signed. Never throws on its bytes. */
export function lintCrl(tbs: Buffer): Finding[] {
  let parsed: ParsedCrlHead;
  try {
    parsed = parseTbsCrl(tbs);
  } catch (error) {
    if (!(error instanceof VouchError)) throw error;
    return [{ rule: 'strict-der', detail: error.detail, citation: 'RFC 5280 §5.1, X.690 §10' }];
  }
  return lintParsedCrl(parsed);
}

/** As `lintCrl`, of one that was read already. */
export function lintParsedCrl(parsed: ParsedCrlHead): Finding[] {
  return runRules(crlRules, parsed, undefined);
}
