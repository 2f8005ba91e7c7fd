import { expect, it } from 'vitest';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import type { CommonOrigin } from '../../src/store/port.ts';
import type { Current } from './conformance.ts';
import {
  certificateMutation,
  committed,
  entry,
  freshSerial,
  hourMs,
  keyHash,
  issuerKeyId,
  leaf,
  nothingSigned,
  otherIssuerKeyId,
  redemption,
  refused,
  renewal,
  revocationMutation,
  startMs,
  tokenMutation,
} from './fixture.ts';

export function certificateConformance(current: Current): void {
  it('gives back every field of a certificate, and how it stands', async () => {
    const token = tokenMutation();
    await committed(current.store, token);
    const mutation = redemption(token);
    const leafIndex = await committed(current.store, mutation);
    const { issuerKeyId: issuer, serial } = mutation.certificate;
    const standing = current.store.certificate(issuer, serial);
    expect(standing).toEqual({
      ...mutation.certificate,
      leafIndex,
      signature: undefined,
      revoked: undefined,
      entrySuspended: false,
    });
    expect(current.store.certificatesBySerial(serial)).toEqual([standing]);
    expect(current.store.certificate(otherIssuerKeyId, serial)).toBeUndefined();
    const next = renewal(mutation);
    await committed(current.store, next);
    expect(current.store.certificate(issuer, next.certificate.serial)).toMatchObject({
      predecessor: serial,
      lineage: serial,
    });
  });

  it('refuses a certificate of an issuer that is active no more, in the transaction', async () => {
    const authority = { keyId: issuerKeyId, kind: 'issuer', algorithm: 'ecdsa-sha256' } as const;
    const certificateDer = Buffer.from('3000', 'hex');
    for (const state of ['old', 'tainted', 'retired', 'prepared'] as const) {
      const record = { ...authority, state, certificateDer };
      const changed = { kind: 'authority', leaf: leaf(), authority: record } as const;
      expect(await current.store.commitBatch([changed, certificateMutation()], nothingSigned)).toMatchObject([
        { status: 'committed' },
        { status: 'refused', code: 'unavailable-issuer' },
      ]);
    }
    await committed(current.store, certificateMutation({ issuerKeyId: otherIssuerKeyId }));
    const record = { ...authority, state: 'active' as const, certificateDer };
    await committed(current.store, { kind: 'authority', leaf: leaf(), authority: record });
    await committed(current.store, certificateMutation());
  });

  it('tells when the last certificate of an issuer ends, and how many have not', async () => {
    const { store } = current;
    const ends = [startMs + hourMs, startMs + 3 * hourMs, startMs + 2 * hourMs];
    for (const notAfterMs of ends) await committed(store, certificateMutation({ notAfterMs }));
    await committed(
      store,
      certificateMutation({ issuerKeyId: otherIssuerKeyId, notAfterMs: startMs + 9 * hourMs }),
    );
    const all = { from: 0, to: store.treeSize() };
    expect(store.issuedBy(issuerKeyId, all, startMs + 2 * hourMs)).toEqual({
      ...{ lastNotAfterMs: startMs + 3 * hourMs, unexpired: 2 },
    });
    expect(store.issuedBy(issuerKeyId, { from: 2, to: 3 }, 0).lastNotAfterMs).toBe(startMs + 2 * hourMs);
    expect(store.issuedBy('00'.repeat(20), all, 0)).toEqual({ lastNotAfterMs: 0, unexpired: 0 });
  });

  it('I2 gives a serial once for an issuer, in one batch and later', async () => {
    const { serial } = certificateMutation().certificate;
    const twins = [certificateMutation({ serial }), certificateMutation({ serial })];
    expect(await current.store.commitBatch(twins, nothingSigned)).toMatchObject([
      { status: 'committed', leafIndex: 0 },
      { status: 'refused', code: 'policy-conflict' },
    ]);
    expect(await refused(current.store, certificateMutation({ serial }))).toBe('policy-conflict');
    await committed(current.store, certificateMutation({ serial, issuerKeyId: otherIssuerKeyId }));
    expect(current.store.certificatesBySerial(serial).map((found) => found.issuerKeyId)).toEqual([
      issuerKeyId,
      otherIssuerKeyId,
    ]);
  });

  it('I2 never gives a serial that is known as revoked', async () => {
    const mutation = certificateMutation();
    await committed(current.store, revocationMutation(mutation.certificate));
    expect(await refused(current.store, mutation)).toBe('policy-conflict');
  });

  it('refuses an entry that is gone or changed since the request was prepared', async () => {
    expect(
      await refused(current.store, { ...certificateMutation({ entryId: 'e_gone' }), entryVersion: 1 }),
    ).toBe('policy-entry-changed');
    const token = tokenMutation({ token: { usesAllowed: 2 } });
    await committed(current.store, token);
    expect(await refused(current.store, redemption(token, { entryVersion: 2 }))).toBe('policy-entry-changed');
    expect(current.store.token(token.token.tokenId)?.usesTaken).toBe(0);
    await committed(current.store, redemption(token));
  });

  it('I7 refuses a suspended entry, also in the batch that suspends it, until it is resumed', async () => {
    const token = tokenMutation({ token: { usesAllowed: 9 } });
    const first = redemption(token);
    await current.store.commitBatch([token, first], nothingSigned);
    const { entryId } = token.entry;
    const outcomes = await current.store.commitBatch(
      [
        renewal(first),
        { kind: 'entry-suspended', leaf: leaf(), entryId, atMs: startMs },
        renewal(first),
        redemption(token),
      ],
      nothingSigned,
    );
    expect(outcomes).toMatchObject([
      { status: 'committed' },
      { status: 'committed' },
      { status: 'refused', code: 'denied-suspended' },
      { status: 'refused', code: 'denied-suspended' },
    ]);
    expect(current.store.certificate(issuerKeyId, first.certificate.serial)).toMatchObject({
      entrySuspended: true,
    });
    await committed(current.store, { kind: 'entry-resumed', leaf: leaf(), entryId });
    expect(current.store.certificate(issuerKeyId, first.certificate.serial)).toMatchObject({
      entrySuspended: false,
    });
    expect(await refused(current.store, renewal(first)), 'decided before the change').toBe(
      'policy-entry-changed',
    );
    const version = current.store.entry(entryId)?.version;
    expect(version).toBe(3);
    await committed(current.store, { ...renewal(first), entryVersion: version });
  });

  it('I7 refuses to renew what is revoked, also when the batch revokes it first', async () => {
    const token = tokenMutation();
    const first = redemption(token);
    await current.store.commitBatch([token, first], nothingSigned);
    const outcomes = await current.store.commitBatch(
      [renewal(first), revocationMutation(first.certificate), renewal(first)],
      nothingSigned,
    );
    expect(outcomes).toMatchObject([
      { status: 'committed' },
      { status: 'committed' },
      { status: 'refused', code: 'denied-revoked' },
    ]);
  });

  it('renews only what it knows, within its lineage', async () => {
    const token = tokenMutation();
    const first = redemption(token);
    await current.store.commitBatch([token, first], nothingSigned);
    expect(await refused(current.store, renewal(first, { predecessor: freshSerial() }))).toBe(
      'denied-certificate',
    );
    expect(await refused(current.store, renewal(first, { lineage: freshSerial() }))).toBe('internal');
  });

  it('refuses a key that was blocked by a revocation, for every name', async () => {
    const first = certificateMutation();
    await committed(current.store, first);
    const { spkiSha256 } = first.certificate;
    await committed(
      current.store,
      revocationMutation(first.certificate, { reason: 'keyCompromise', blockKeySha256: spkiSha256 }),
    );
    expect(await refused(current.store, certificateMutation({ spkiSha256 }))).toBe('policy-key-blocked');
    const token = tokenMutation();
    await committed(current.store, token);
    expect(await refused(current.store, redemption(token, { spkiSha256 }))).toBe('policy-key-blocked');
    expect(current.store.token(token.token.tokenId)?.usesTaken).toBe(0);
  });

  it('finds live certificates by what they have in common: unexpired, unrevoked', async () => {
    const token = tokenMutation({ token: { usesAllowed: 9 } });
    const [enrolled, sibling] = [redemption(token), redemption(token)];
    const renewed = renewal(enrolled, { notAfterMs: startMs + 2 * hourMs });
    const again = renewal(renewed, { notAfterMs: startMs + 3 * hourMs });
    const foreign = certificateMutation({ spiffeId: parseSpiffeId('spiffe://example.test/billing') });
    await current.store.commitBatch([token, enrolled, sibling, renewed, again, foreign], nothingSigned);
    const unexpired = (by: Parameters<typeof current.store.unexpiredCertificates>[0], nowMs: number) =>
      current.store.unexpiredCertificates(by, nowMs).map(({ serial }) => serial);
    const [a, b, c, d] = [enrolled, sibling, renewed, again].map(({ certificate }) => certificate.serial);
    const { spiffeId, entryId, tokenId } = enrolled.certificate;
    expect(unexpired({ lineage: enrolled.certificate.lineage }, startMs)).toEqual([d, c, a]);
    for (const by of [{ spiffeId }, { entryId: entryId ?? '' }, { tokenId: tokenId ?? '' }])
      expect(unexpired(by, startMs)).toEqual([d, c, b, a]);
    const { notAfterMs } = enrolled.certificate;
    expect(unexpired({ spiffeId }, notAfterMs), 'notAfter is inclusive').toEqual([d, c, b, a]);
    expect(unexpired({ spiffeId }, notAfterMs + 1)).toEqual([d, c]);
    await committed(current.store, revocationMutation(renewed.certificate));
    const ofLineage = current.store.unexpiredCertificates({ lineage: enrolled.certificate.lineage }, startMs);
    expect(ofLineage.map(({ serial, revoked }) => [serial, revoked !== undefined])).toEqual([
      [d, false],
      [c, true],
      [a, false],
    ]);
    expect(unexpired({ lineage: renewed.certificate.serial }, startMs), 'no lineage starts there').toEqual(
      [],
    );
    expect(unexpired({ tokenId: 't_none' }, startMs)).toEqual([]);
    expect(current.store.unexpiredCertificates({ tokenId: tokenId ?? '' }, startMs)[0]).toMatchObject({
      entryId,
      tokenId,
    });
  });

  it('finds live certificates by agent, node, operator, key and time of issuance', async () => {
    const agent = parseSpiffeId('spiffe://example.test/agents/a');
    const token = tokenMutation({ token: { usesAllowed: 9, createdBy: 'uid:1000' } });
    const [first, asked, late] = [
      redemption(token),
      certificateMutation({ agent, node: 'node-1', issuedAtMs: startMs + 1 }),
      redemption(token, { issuedAtMs: startMs + 2 }),
    ];
    await current.store.commitBatch([token, first, asked, late], nothingSigned);
    const found = (by: CommonOrigin) =>
      current.store.unexpiredCertificates(by, startMs).map(({ serial }) => serial);
    const [a, b, c] = [first, asked, late].map(({ certificate }) => certificate.serial);
    expect(found({ agentId: agent })).toEqual([b]);
    expect(found({ node: 'node-1' })).toEqual([b]);
    expect(found({ spkiSha256: late.certificate.spkiSha256 })).toEqual([c]);
    expect(found({ operator: 'uid:1000' })).toEqual([c, a]);
    expect(found({ operator: 'uid:0' })).toEqual([]);
    const between = (from: number, to: number) =>
      found({ issuedBetween: { fromMs: startMs + from, toMs: startMs + to } });
    expect([between(0, 1), between(1, 2), between(3, 9)]).toEqual([[b, a], [c, b], []]);
    const stored = current.store.unexpiredCertificates({ node: 'node-1' }, startMs)[0];
    expect(stored).toMatchObject({ agent, node: 'node-1' });
  });

  it('finds live certificates page by page, whatever they have in common', async () => {
    const token = tokenMutation({ token: { usesAllowed: 99 } });
    const agentId = parseSpiffeId('spiffe://example.test/agents/a');
    // Some expire together, some are issued together, and no order is that of the leaves.
    const ofOneKey = keyHash();
    const of = (index: number) => ({
      spkiSha256: ofOneKey,
      agent: agentId,
      node: 'node-1',
      notAfterMs: startMs + ((index * 3) % 5) * 1_000,
      issuedAtMs: startMs - ((index * 2) % 3),
    });
    const first = redemption(token, of(0));
    const more = Array.from({ length: 10 }, (_, index) => ({
      ...redemption(token, of(index + 1)),
      tokenUse: undefined,
    }));
    const inLineage = more.map(({ certificate, ...rest }) => {
      const { serial, lineage } = first.certificate;
      return { ...rest, certificate: { ...certificate, predecessor: serial, lineage } };
    });
    await current.store.commitBatch([token, first, ...inLineage], nothingSigned);
    const { spiffeId, lineage, tokenId = '', entryId = '', spkiSha256 } = first.certificate;
    const origins: CommonOrigin[] = [
      ...[{ lineage }, { spiffeId }, { tokenId }, { entryId }, { operator: 'uid:0' }],
      ...[
        { agentId },
        { node: 'node-1' },
        { spkiSha256 },
        { issuedBetween: { fromMs: startMs - 5, toMs: startMs } },
      ],
    ];
    for (const by of origins) {
      const whole = current.store.unexpiredCertificates(by, startMs + 1_000).map((one) => one.leafIndex);
      expect(whole.length, JSON.stringify(by)).toBe(8);
      const seen: number[] = [];
      for (;;) {
        const page = current.store.unexpiredCertificates(by, startMs + 1_000, {
          after: seen.at(-1),
          limit: 3,
        });
        seen.push(...page.map((one) => one.leafIndex));
        if (page.length < 3) break;
      }
      expect(seen, JSON.stringify(by)).toEqual(whole);
      expect(new Set(seen).size).toBe(8);
    }
  });

  it('lists certificates newest first, page by page', async () => {
    const token = tokenMutation({ token: { usesAllowed: 9 } });
    const mine = Array.from({ length: 4 }, () => redemption(token));
    const other = certificateMutation({ spiffeId: parseSpiffeId('spiffe://example.test/billing') });
    await current.store.commitBatch([token, ...mine, other], nothingSigned);
    const { spiffeId, tokenId } = mine[0]?.certificate ?? {};
    const walk = (filter: object) => {
      const seen: number[] = [];
      for (let after: string | undefined; ; after = String(seen.at(-1))) {
        const page = current.store.certificates({
          limit: 2,
          ...filter,
          ...(after === undefined ? {} : { after }),
        });
        seen.push(...page.map(({ leafIndex }) => leafIndex));
        if (page.length < 2) return seen;
      }
    };
    expect(walk({})).toEqual([5, 4, 3, 2, 1]);
    for (const filter of [{ spiffeId }, { tokenId }, { spiffeId, tokenId }])
      expect(walk(filter)).toEqual([4, 3, 2, 1]);
    expect(walk({ tokenId, spiffeId: other.certificate.spiffeId })).toEqual([]);
    for (const after of ['', '-1', 'x', '01', '1e3'])
      expect(() => current.store.certificates({ limit: 1, after })).toThrow(
        expect.objectContaining({ code: 'request-malformed' }),
      );
    for (const limit of [0, -1, 1.5])
      expect(() => current.store.certificates({ limit })).toThrow(
        expect.objectContaining({ code: 'request-malformed' }),
      );
  });

  it('gives certificates of a stretch of the log', async () => {
    const batch = [
      certificateMutation(),
      tokenMutation({ entry: entry() }),
      certificateMutation(),
      certificateMutation(),
    ];
    await current.store.commitBatch(batch, nothingSigned);
    expect(current.store.certificatesByLeaf(0, 2).map(({ leafIndex }) => leafIndex)).toEqual([0, 2]);
    expect(current.store.certificatesByLeaf(3, 2).map(({ leafIndex }) => leafIndex)).toEqual([3]);
  });
}
