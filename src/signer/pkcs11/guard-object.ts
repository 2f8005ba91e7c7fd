import pkcs11 from 'pkcs11js';
import type { HsmToken } from './token.ts';

const label = 'vouch-guard';
const application = 'vouch';

/** Values of all guard objects in the token. */
export function readGuardObjects(token: HsmToken): Buffer[] {
  return guardObjects(token).map(({ value }) => value);
}

/**
 * Creates the new guard, and only then destroys those with a value of `obsolete`: at a crash there is one too many.
 * Returns which of `obsolete` may still be there; that is no failure, since readers take the highest.
 */
export function replaceGuardObject(token: HsmToken, value: Buffer, obsolete: readonly Buffer[]): Buffer[] {
  token.module.C_CreateObject(token.session, [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_DATA },
    { type: pkcs11.CKA_TOKEN, value: true },
    { type: pkcs11.CKA_PRIVATE, value: true },
    { type: pkcs11.CKA_LABEL, value: label },
    { type: pkcs11.CKA_APPLICATION, value: application },
    { type: pkcs11.CKA_VALUE, value },
  ]);
  let left = [...obsolete];
  try {
    for (const guard of guardObjects(token)) {
      if (!obsolete.some((old) => old.equals(guard.value))) continue;
      token.module.C_DestroyObject(token.session, guard.object);
      left = left.filter((old) => !old.equals(guard.value));
    }
    return [];
  } catch {
    return left;
  }
}

function guardObjects(token: HsmToken): { object: pkcs11.Handle; value: Buffer }[] {
  const objects = token.find([
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_DATA },
    { type: pkcs11.CKA_LABEL, value: label },
    { type: pkcs11.CKA_APPLICATION, value: application },
  ]);
  return objects.map((object) => ({
    object,
    value: token.attribute(object, pkcs11.CKA_VALUE) ?? Buffer.alloc(0),
  }));
}
