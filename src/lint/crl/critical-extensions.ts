import type { CrlRule } from './rule.ts';

/** Nothing critical that our own reader, and so our agents, would not understand. */
export const criticalExtensions: CrlRule = {
  name: 'critical-extensions',
  citation: 'RFC 5280 §5.2',
  check: ({ criticalUnknown }) =>
    criticalUnknown.length > 0 ? [`critical extensions: ${criticalUnknown.join(', ')}`] : [],
};
