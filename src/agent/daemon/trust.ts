import type { BundleJson } from '../../wire/enrollment.ts';
import { rootsOf } from '../answer.ts';
import type { CrlKeeper } from '../crl-keeper.ts';
import type { Held } from '../held.ts';
import type { Trust } from '../workloads.ts';

/** Whom workloads trust, by a verified bundle, the issuers that the own identity came with, and the CRLs known now. */
export function trustOf(held: Held, bundle: BundleJson, keeper: Pick<CrlKeeper, 'crls'>): Trust {
  const roots = rootsOf(bundle);
  const authorities = held.chain.map(({ authority }) => authority.der);
  return Object.freeze({
    trustDomain: held.state.trustDomain,
    sequence: bundle.spiffe_sequence,
    roots,
    issuers: authorities.filter((der) => !roots.some((root) => root.equals(der))),
    crls: held.chain.flatMap(({ keyId }) => keeper.crls.get(keyId)?.der ?? []),
    jwtKeys: bundle.keys.filter(({ use }) => use === 'jwt-svid'),
  });
}

/** True where nothing differs that anybody could see. */
export function isSameTrust(one: Trust | undefined, other: Trust): boolean {
  return (
    one !== undefined &&
    one.sequence === other.sequence &&
    isSameList(one.roots, other.roots) &&
    isSameList(one.issuers, other.issuers) &&
    isSameList(one.crls, other.crls) &&
    JSON.stringify(one.jwtKeys) === JSON.stringify(other.jwtKeys)
  );
}

/** A CRL of a million entries is the same object where it is the same. */
function isSameList(some: readonly Buffer[], others: readonly Buffer[]): boolean {
  return (
    some.length === others.length &&
    some.every((der, index) => {
      const other = others[index];
      return other !== undefined && (der === other || der.equals(other));
    })
  );
}
