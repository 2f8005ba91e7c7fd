import type { CrlRule } from './rule.ts';

/** nextUpdate is after thisUpdate. */
export const updateTimes: CrlRule = {
  name: 'update-times',
  citation: 'RFC 5280 §5.1.2.4, §5.1.2.5',
  check: ({ thisUpdateSeconds, nextUpdateSeconds }) =>
    nextUpdateSeconds > thisUpdateSeconds ? [] : ['nextUpdate is not after thisUpdate'],
};
