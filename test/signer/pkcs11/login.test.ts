import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HsmToken } from '../../../src/signer/pkcs11/token.ts';
import { newTestToken, temporaryFolder } from '../../support/hsm.ts';

describe('a wrong PIN', () => {
  it('is not presented where its refusal could not be noted, and once where it can (I8)', () => {
    const { hsm } = newTestToken('pin');
    Object.assign(process.env, hsm.environment);
    writeFileSync(hsm.pinFile, '00000000', { mode: 0o600 });
    const folder = join(temporaryFolder('refused'), 'away');
    const refused = join(folder, 'pin-refused');
    const other = HsmToken.open(hsm, { readWrite: false });
    let presented = 0;
    const login = other.module.C_Login.bind(other.module);
    other.module.C_Login = (...presentedPin) => {
      presented += 1;
      return login(...presentedPin);
    };
    const attempt = () => {
      try {
        other.login(hsm.pinFile, refused);
        return 'logged in';
      } catch (error) {
        return (error as { code?: string }).code;
      }
    };
    expect([attempt(), attempt(), attempt()]).toEqual(Array(3).fill('config-state'));
    expect(presented).toBe(0);
    mkdirSync(folder);
    expect([attempt(), attempt(), attempt()]).toEqual(Array(3).fill('config-pin'));
    expect(presented).toBe(1);
  });
});
