// A profile is what an entry names: anything else is refused when it is registered, and again when something is issued.
import { expect, test } from 'vitest';
import { defaultProfile, profileNamed, requireProfile } from '../../src/issuance/profile.ts';

test('an entry names one that there is', () => {
  expect(profileNamed('default')).toBe(defaultProfile);
  expect(profileNamed('cn-first-dns')).toMatchObject({ name: 'cn-first-dns', subject: 'cn-first-dns' });
  expect(() => profileNamed('ca')).toThrow('no profile "ca"');
  expect(() => requireProfile('ca', ['db.test'])).toThrow(/use default or cn-first-dns/);
  expect(() => requireProfile('__proto__', [])).toThrow('no profile');
});

test('with a first DNS name where that becomes the common name', () => {
  expect(() => requireProfile('default', [])).not.toThrow();
  expect(() => requireProfile('cn-first-dns', ['db.test', `${'a'.repeat(63)}.test`])).not.toThrow();
  expect(() => requireProfile('cn-first-dns', [])).toThrow('needs a first DNS name');
  expect(() => requireProfile('cn-first-dns', [`${'a'.repeat(63)}.test`])).toThrow('at most 64 characters');
});
