import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import { serialBytes } from '../../src/core/serial.ts';
import { CrlList } from '../../src/x509/crl-list.ts';
import { buildCrl, type CrlBytes, encodeRevoked, joinedCrl } from '../../src/x509/crl-tbs.ts';
import type { Current } from './conformance.ts';
import { committed, crlMutation, freshSerial, issuerKeyId, startMs } from './fixture.ts';

/** CRLs whose lists are in pieces that they share. */
export function crlPiecesConformance(current: Current): void {
  it('gives back a CRL in pieces, byte for byte', async () => {
    const tbs = crlOf(CrlList.of(entries(3_000)), 1n);
    expect(tbs.list.pieces.length).toBeGreaterThan(3);
    const leafIndex = await committed(current.store, crlMutation({ tbs, crlNumber: 1n }));
    await sign(leafIndex);
    const [stored] = current.store.lastCrls(issuerKeyId);
    expect(stored && joinedCrl(stored.tbs).equals(joinedCrl(tbs))).toBe(true);
    expect(stored?.tbs.list.count).toBe(3_000);
    const [row] = current.store.rows().crls(-1, 1);
    const parts = row ? [row.head, ...current.store.rows().crlPieces(row.pieces), row.tail] : [];
    expect(Buffer.concat(parts).equals(joinedCrl(tbs))).toBe(true);
  });

  it('has two CRLs share the pieces that both have, also when they are read', async () => {
    const first = CrlList.of(entries(3_000));
    const second = first.with(new Map([added()]));
    await sign(
      await committed(current.store, crlMutation({ tbs: crlOf(first, 1n), crlNumber: 1n, base: true })),
    );
    await sign(await committed(current.store, crlMutation({ tbs: crlOf(second, 2n), crlNumber: 2n })));
    const base = current.store.baseCrl(issuerKeyId)?.tbs.list;
    const last = current.store.lastCrls(issuerKeyId)[0]?.tbs.list;
    const shared = base?.pieces.filter((piece) => last?.pieces.includes(piece));
    expect(shared?.length).toBe(first.pieces.length - 1);
    expect(base && last && [...last.changesSince(base)]).toHaveLength(1);
  });

  it('takes pieces before their CRL, each once, and keeps those that are still used', async () => {
    let list = CrlList.of(entries(3_000));
    await current.store.putPieces(list.pieces);
    await current.store.putPieces(list.pieces);
    for (let number = 1n; number < 8n; number += 1n) {
      const tbs = crlOf(list, number);
      await sign(await committed(current.store, crlMutation({ tbs, crlNumber: number })));
      const [stored] = current.store.lastCrls(issuerKeyId);
      expect(stored && joinedCrl(stored.tbs).equals(joinedCrl(tbs)), `${number}`).toBe(true);
      list = list.with(new Map([added()]));
    }
  });

  it('puts again a piece whose last CRL was pruned meanwhile', async () => {
    const list = CrlList.of(entries(500));
    const publish = async (number: bigint, of: CrlList) =>
      sign(await committed(current.store, crlMutation({ tbs: crlOf(of, number), crlNumber: number })));
    await publish(1n, list);
    for (const number of [2n, 3n, 4n]) await publish(number, CrlList.empty);
    await publish(5n, list);
    expect(current.store.lastCrls(issuerKeyId)[0]?.tbs.list.count).toBe(500);
  });

  it('keeps the newest signed base, whatever came after it', async () => {
    const publish = async (crlNumber: bigint, base: boolean) =>
      sign(await committed(current.store, crlMutation({ crlNumber, base })));
    expect(current.store.baseCrl(issuerKeyId)).toBeUndefined();
    await publish(1n, true);
    for (const number of [2n, 3n, 4n, 5n]) await publish(number, false);
    await committed(current.store, crlMutation({ crlNumber: 6n, base: true }));
    const numbers = () => current.store.crls(issuerKeyId).map(({ crlNumber }) => crlNumber);
    expect(numbers(), 'the newest base is not signed').toEqual([1n, 5n, 6n]);
    expect(current.store.baseCrl(issuerKeyId)?.crlNumber).toBe(1n);
    await publish(7n, true);
    await publish(8n, false);
    expect(current.store.baseCrl(issuerKeyId)?.crlNumber).toBe(7n);
    expect(numbers()).toEqual([7n, 8n]);
  });

  async function sign(leafIndex: number): Promise<void> {
    const signatures = [{ kind: 'crl' as const, leafIndex, signature: randomBytes(8) }];
    await current.store.storeSigned({ signatures, checkpointNote: undefined });
  }
}

function entries(count: number): Buffer[] {
  const serials = Array.from({ length: count }, freshSerial);
  return serials.sort((a, b) => serialBytes(a).compare(serialBytes(b))).map(entry);
}

function added(): [Serial, Buffer] {
  const serial = freshSerial();
  return [serial, entry(serial)];
}

function entry(serial: Serial): Buffer {
  return encodeRevoked({ serial, dateSeconds: startMs / 1000, reason: 'superseded' });
}

function crlOf(revoked: CrlList, crlNumber: bigint): CrlBytes {
  return buildCrl({
    algorithm: 'ecdsa-sha256',
    issuerName: Buffer.from('3000', 'hex'),
    thisUpdateSeconds: startMs / 1000,
    nextUpdateSeconds: startMs / 1000 + 86_400,
    authorityKeyId: issuerKeyId,
    crlNumber,
    revoked,
  });
}
