import { expect, it } from 'vitest';
import type { Current } from './conformance.ts';
import {
  committed,
  signed,
  crlMutation,
  freshSerial,
  issuerKeyId,
  operatorMutation,
  redemption,
  renewal,
  revocationMutation,
  startMs,
  tokenMutation,
} from './fixture.ts';

/** What a whole state is verified by: all rows, page by page, with what other tables say of them. */
export function rowsConformance(current: Current): void {
  const all = 100;

  it('gives every leaf with its index, in pages', async () => {
    const drafts = [operatorMutation(), operatorMutation(), operatorMutation()];
    for (const draft of drafts) await committed(current.store, draft);
    const [a, b, c] = drafts.map(({ leaf }, leafIndex) => ({ leafIndex, ...leaf }));
    const rows = current.store.rows();
    expect(rows.leaves(-1, 2)).toEqual([a, b]);
    expect(rows.leaves(1, 2)).toEqual([c]);
    expect(rows.leaves(2, 2)).toEqual([]);
  });

  it('tells of a certificate what its predecessor was and whether its use is recorded', async () => {
    const token = tokenMutation();
    const first = redemption(token);
    const second = renewal(first);
    for (const mutation of [token, first, second]) await committed(current.store, mutation);
    const { tokenId, entryId } = token.token;
    const { serial } = first.certificate;
    expect(current.store.rows().certificates(-1, all)).toMatchObject([
      { serial, entryId, tokenId, lineage: serial, predecessorLineage: null, useRecorded: 1 },
      { predecessor: serial, predecessorLineage: serial, predecessorTokenId: tokenId, useRecorded: 0 },
    ]);
    const [use] = current.store.rows().tokenUses({ tokenNumber: -1, spkiSha256: '' }, all);
    expect(use).toMatchObject({ tokenId, spkiSha256: first.certificate.spkiSha256, certificateFits: 1 });
    if (use) expect(current.store.rows().tokenUses(use, all)).toEqual([]);
    expect(current.store.rows().tokens(-1, all)).toMatchObject([
      { tokenId, entryId, usesTaken: 1, usesRecorded: 1, secretSha256: token.secretSha256.toString('hex') },
    ]);
    expect(current.store.rows().entries(-1, all)).toMatchObject([
      { entryId, foundBy: JSON.stringify([`join_token:${entryId}`]), selectorCount: 1, version: 1 },
    ]);
  });

  it('tells of a revocation what the certificate says and whether its key is blocked', async () => {
    const unknown = revocationMutation({ issuerKeyId, serial: freshSerial(), notAfterMs: startMs });
    const token = tokenMutation();
    const known = redemption(token);
    const blocking = revocationMutation(known.certificate, {
      reason: 'keyCompromise',
      blockKeySha256: known.certificate.spkiSha256,
    });
    for (const mutation of [token, known, unknown, blocking]) await committed(current.store, mutation);
    const rows = current.store.rows();
    expect(rows.revocations(-1, all)).toMatchObject([
      { certificateNotAfterMs: null, keyBlocked: 0 },
      { certificateNotAfterMs: known.certificate.notAfterMs, keyBlocked: 1 },
    ]);
    expect(rows.blockedKeys('', all)).toEqual([{ leafIndex: 3, spkiSha256: known.certificate.spkiSha256 }]);
    const { serial, spkiSha256 } = known.certificate;
    expect(rows.certificateKey(issuerKeyId, serial)).toEqual({ spkiSha256, keyBlocked: 1 });
    expect(rows.certificateKey(issuerKeyId, unknown.revocation.serial)).toBeUndefined();
    expect(rows.blockedKeys(known.certificate.spkiSha256, all)).toEqual([]);
    const inOrder = rows.revocationsBySerial(issuerKeyId, '', all).map((row) => row.serial);
    expect(inOrder).toEqual([unknown.revocation.serial, blocking.revocation.serial].toSorted());
    expect(rows.revocationsBySerial(issuerKeyId, inOrder[0] ?? '', all)).toHaveLength(1);
  });

  it('gives CRLs with their numbers as text, and what outlives them', async () => {
    const mutation = crlMutation({ crlNumber: 2n ** 62n + 1n, scheduled: true, coversTreeSize: 9 });
    await signed(current.store, mutation);
    const { scope, thisUpdateSeconds } = mutation.crl;
    const crlNumber = String(2n ** 62n + 1n);
    expect(current.store.rows().crls(-1, all)).toMatchObject([{ crlNumber, scheduled: 1 }]);
    expect(current.store.rows().crlScopes()).toEqual([
      {
        ...{ issuerKeyId, scope, lastNumber: crlNumber },
        ...{ scheduledThisUpdateSeconds: thisUpdateSeconds, scheduledCoversTreeSize: 9 },
      },
    ]);
  });
}
