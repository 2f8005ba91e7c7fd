import type { CrlRule } from './rule.ts';

/** Serials rise, so none stands twice. */
export const serialOrder: CrlRule = {
  name: 'serial-order',
  citation: 'RFC 5280 §5.1.2.6; invariant I5',
  check: ({ ascending }) => (ascending ? [] : ['serials do not rise, or one stands twice']),
};
