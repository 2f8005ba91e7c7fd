import { readCrl, type VerifiedCrl, verifyCrl } from '../client/crl.ts';
import { readCrls } from '../client/delivered.ts';
import type { ChainAuthority } from './crls.ts';

/**
 * The CRLs in a generation's crl.pem that hold for `chain`, by the key id of who signed. What is damaged, of somebody
 * else, or below a number in `seen` is passed over: it is fetched again. Whether one is fresh is asked when it is used.
 */
export function readHeldCrls(
  folder: string,
  chain: readonly ChainAuthority[],
  seen: ReadonlyMap<string, bigint>,
): Map<string, VerifiedCrl> {
  const crls = new Map<string, VerifiedCrl>();
  for (const der of readCrlsOrNone(folder)) {
    try {
      const parsed = readCrl(der);
      const one = chain.find(({ keyId }) => keyId === parsed.authorityKeyId);
      if (one !== undefined) crls.set(one.keyId, verifyCrl(parsed, one.authority, seen.get(one.keyId)));
    } catch {
      continue;
    }
  }
  return crls;
}

function readCrlsOrNone(folder: string): Buffer[] {
  try {
    return readCrls(folder);
  } catch {
    return [];
  }
}
