import { readCrl, type VerifiedCrl, type VerifiedDelta, verifyCrl, verifyDelta } from '../client/crl.ts';
import { readCrls, readDeltas } from '../client/delivered.ts';
import type { ChainAuthority } from './crls.ts';
import { deltaNumberKey } from './state.ts';

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
  for (const der of orNone(() => readCrls(folder))) {
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

/** The delta CRLs in a generation's crl-delta.pem that hold for `chain`, as `readHeldCrls` has the full ones. */
export function readHeldDeltas(
  folder: string,
  chain: readonly ChainAuthority[],
  seen: ReadonlyMap<string, bigint>,
): VerifiedDelta[] {
  return orNone(() => readDeltas(folder)).flatMap((der) =>
    orNone(() => {
      const parsed = readCrl(der);
      const one = chain.find(({ keyId }) => keyId === parsed.authorityKeyId);
      if (one === undefined || parsed.deltaBase === undefined) return [];
      return [verifyDelta(parsed, one.authority, seen.get(deltaNumberKey(one.keyId)))];
    }),
  );
}

function orNone<T>(read: () => T[]): T[] {
  try {
    return read();
  } catch {
    return [];
  }
}
