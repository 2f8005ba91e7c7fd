import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ckrName, recoveryFor } from '../../../src/signer/pkcs11/errors.ts';
import { readGuardObjects } from '../../../src/signer/pkcs11/guard-object.ts';
import { HsmToken } from '../../../src/signer/pkcs11/token.ts';
import { temporaryFolder } from '../../support/hsm.ts';
import { simulatedToken } from '../../support/hsm-sim.ts';

it('an error of each function of a search is known by its name, and a lost session as one', () => {
  const simulated = simulatedToken('errors');
  Object.assign(process.env, simulated.hsm.environment);
  const token = HsmToken.open(simulated.hsm, { readWrite: true });
  token.login(simulated.hsm.pinFile, join(temporaryFolder('refused'), 'pin-refused'));
  for (const on of ['C_FindObjectsInit', 'C_FindObjects']) {
    simulated.control([{ on, do: { error: 'CKR_SESSION_HANDLE_INVALID' }, nth: 1 }]);
    let failure: unknown;
    try {
      readGuardObjects(token);
    } catch (error) {
      failure = error;
    }
    expect({ on, name: ckrName(failure), recovery: recoveryFor(failure) }).toEqual({
      ...{ on, name: 'CKR_SESSION_HANDLE_INVALID', recovery: 'session' },
    });
  }
  // Nothing of a search is lost by its end; only its session is, which could not begin another.
  simulated.control([{ on: 'C_FindObjectsFinal', do: { error: 'CKR_GENERAL_ERROR' }, nth: 1 }]);
  const { session } = token;
  expect(readGuardObjects(token)).toEqual([]);
  expect(token.session).not.toEqual(session);
});
