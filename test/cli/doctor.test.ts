// What `vouch doctor` advises for the problems that a server tells of, in the words in which it tells them.
import { describe, expect, it } from 'vitest';
import { remedyOf } from '../../src/cli/doctor.ts';
import { VouchError } from '../../src/core/errors.ts';
import { haltProblem } from '../../src/operator/readiness.ts';

describe('a remedy', () => {
  it.each([
    ['the wall clock is 9 s behind', /--accept-clock/],
    [
      'the token refused the PIN in /pin (CKR_PIN_INCORRECT): put the right one there',
      /^mend the PIN, then `vouch doctor --retry-signer`$/,
    ],
    ['the token has locked its PIN, that in /pin: its security officer must set a new one', /in the token/],
    ["the token's PIN is locked; its security officer must set a new one", /in the token/],
    ['standby: the PIN in /pin has expired: set a new one', /in the token/],
    ['the PKCS#11 module shows no token online (serial 1); it shows none', /tokenSerial.*by itself/],
    ['opening the token online and proving its keys failed: CKR_DEVICE_ERROR', /by itself/],
    ['the signer ended and is started again (the token does not answer)', /by itself/],
    ['not published for 5 s and more: CRL full 0 1', /^mend the signer first/],
    ['the signer ended while it started (SIGSEGV)', /by itself/],
  ])('for "%s"', (problem, words) => {
    expect(remedyOf(problem)).toMatch(words);
  });

  it('for an integrity failure, which no retry ends: a look at the log, and another start', () => {
    const halted = new VouchError('integrity-log', 'checkpoint has a wrong signature');
    const problem = haltProblem({ haltedBy: () => halted }) ?? '';
    expect(problem).toBe('nothing is signed any more: checkpoint has a wrong signature');
    expect(remedyOf(problem)).toMatch(/vouch log verify.*start the server again/);
    expect(haltProblem({ haltedBy: () => undefined })).toBeUndefined();
  });
});
