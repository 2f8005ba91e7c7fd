/**
 * The invariant (`'I1'` … `'I12'`) whose guard a mutation build leaves out, so that `npm run test:guards` can
 * watch its test go red. The build replaces it by a literal; in a release it is `''` and every
 * `__VOUCH_WITHOUT__ !== 'I…'` folds to `true`.
 */
declare const __VOUCH_WITHOUT__: string;

/** The released version, from package.json. */
declare const __VOUCH_VERSION__: string;
