import type { CrlRule } from './rule.ts';

/** The issuer's key is named, by 160 bits as in its certificates. */
export const authorityKeyId: CrlRule = {
  name: 'authority-key-id',
  citation: 'RFC 5280 §5.2.1; RFC 7093 §2',
  check: ({ authorityKeyId: found }) =>
    found?.length === 40 ? [] : ['authorityKeyIdentifier is not a key id of 20 bytes'],
};
