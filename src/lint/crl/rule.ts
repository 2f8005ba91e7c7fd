import type { ParsedCrlHead } from '../../x509/crl.ts';
import type { Rule } from '../finding.ts';

/** A rule for CRLs; they are measured against nothing but themselves. */
export type CrlRule = Rule<ParsedCrlHead, undefined>;
