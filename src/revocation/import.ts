import { hash, randomBytes } from 'node:crypto';
import { systemClock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { mayFollow } from '../core/reasons.ts';
import { type Issuer, signedBy } from '../issuance/issuer.ts';
import { crlLeaf, revocationLeaf } from '../sequencer/record.ts';
import { commitAll } from '../store/commit.ts';
import type { Mutation, RevocationDraft, Store, StoreReader } from '../store/port.ts';
import { parseCrl } from '../x509/crl.ts';
import { unsplitCrl } from '../x509/crl-tbs.ts';
import { fullScope } from './revoked-lists.ts';
import { shardOf } from '../core/publication.ts';

/**
 * Takes a published CRL of `issuer` into a state that does not know it: every revocation that it lists and the state
 * lacks or has for a lesser reason, with the date it was published with, and its number, below which none will be given
 * again. What a delta takes off is kept: a hold is released by an operator. Returns how many revocations were new. Throws `integrity-crl` for a CRL of anybody else.
 */
export async function importCrl(der: Buffer, issuer: Issuer, store: Store): Promise<number> {
  const crl = parseCrl(der);
  const { crlNumber } = crl;
  if (
    !crl.issuerName.equals(issuer.issuerName) ||
    crlNumber === undefined ||
    !signedBy(issuer, crl.tbs, crl.signature)
  )
    throw new VouchError('integrity-crl', 'a CRL to import is not signed by the issuer of this state');
  const datesFixed: { serial: Parameters<Store['revocation']>[1]; crlDateSeconds: number }[] = [];
  const mutations: Mutation[] = [];
  for (const { serial, dateSeconds, reason, invalidityDateSeconds } of crl.revoked()) {
    if (reason === 'removeFromCRL') continue;
    const known = store.revocation(issuer.keyId, serial);
    const standing = known?.reason === 'removeFromCRL' ? undefined : known;
    if (standing?.crlDateSeconds === undefined) datesFixed.push({ serial, crlDateSeconds: dateSeconds });
    const revocation = { serial, reason, revokedAtMs: dateSeconds * 1000, invalidityDateSeconds };
    if (mayFollow(known?.reason, reason)) mutations.push(revocationTakenOver(store, issuer, revocation));
  }
  await commitAll(store, mutations);
  if (crlNumber > store.lastCrlNumber(issuer.keyId))
    await importNumber(der, crlNumber, issuer, store, datesFixed);
  return mutations.length;
}

/**
 * A revocation that this state's log does not have yet. `spkiSha256`: the key of a certificate that the state does not
 * know; it is blocked where it was compromised. `operator`: who took it over.
 */
export function revocationTakenOver(
  store: StoreReader,
  issuer: Issuer,
  taken: Pick<RevocationDraft, 'serial' | 'reason' | 'revokedAtMs' | 'invalidityDateSeconds'>,
  spkiSha256?: string,
  operator = 'restore',
): Mutation {
  const { serial, reason, revokedAtMs, invalidityDateSeconds } = taken;
  const certificate = store.certificate(issuer.keyId, serial);
  const revocation = {
    ...{ issuerKeyId: issuer.keyId, serial, reason, revokedAtMs, invalidityDateSeconds },
    shard: shardOf(serial, store.identity().shardCount),
    operator,
    salt: randomBytes(16),
    // A certificate that this state does not know may last as long as its issuer.
    notAfterMs: certificate?.notAfterMs ?? issuer.notAfterMs,
  };
  const leaf = revocationLeaf(systemClock.now(), issuer.keyId, revocation);
  const key = certificate?.spkiSha256 ?? spkiSha256;
  const blockKeySha256 = reason === 'keyCompromise' ? key : undefined;
  return { kind: 'revocation', leaf, revocation, blockKeySha256 };
}

async function importNumber(
  der: Buffer,
  crlNumber: bigint,
  issuer: Issuer,
  store: Store,
  datesFixed: { serial: Parameters<Store['revocation']>[1]; crlDateSeconds: number }[],
): Promise<void> {
  const { tbs, signature, thisUpdateSeconds, nextUpdateSeconds, idp, deltaBase } = parseCrl(der);
  const shard = idp?.urls[0]?.match(/\/(\d+)\.crl$/)?.[1];
  const scope = deltaBase === undefined ? (shard ?? fullScope) : 'delta';
  const issuerKeyId = issuer.keyId;
  const leaf = crlLeaf(systemClock.now(), issuerKeyId, {
    scope,
    crlNumber,
    tbsSha256: hash('sha256', tbs, 'buffer'),
  });
  // It covers nothing of this log, so that every scope is built anew at the next start.
  const crl = {
    issuerKeyId,
    scope,
    crlNumber,
    thisUpdateSeconds,
    nextUpdateSeconds,
    scheduled: false,
    base: false,
    coversTreeSize: 0,
    tbs: unsplitCrl(tbs),
  };
  const [leafIndex = 0] = await commitAll(store, [{ kind: 'crl', leaf, crl, datesFixed }]);
  await store.storeSigned({ signatures: [{ kind: 'crl', leafIndex, signature }], checkpointNote: undefined });
}
