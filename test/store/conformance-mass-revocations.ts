import { expect, it } from 'vitest';
import { takeOverOperator } from '../../src/core/take-over.ts';
import type { Current } from './conformance.ts';
import type { Kind } from './fixture.ts';
import {
  certificateMutation,
  committed,
  hourMs,
  leaf,
  nothingSigned,
  refused,
  revocationMutation,
  startMs,
  tokenMutation,
} from './fixture.ts';

const begun: Kind<'mass-revocation'>['massRevocation'] = {
  target: '{"node":"node-1"}',
  reason: 'superseded',
  invalidityDateSeconds: startMs / 1000 - 60,
  operator: 'uid:7',
  startedAtMs: startMs,
};

/** Revocations of many certificates: what is left of them at a crash, and what they need to know. */
export function massRevocationConformance(current: Current): void {
  const begin = () =>
    committed(current.store, { kind: 'mass-revocation', leaf: leaf(), massRevocation: begun });
  const end = (massRevocation: number): Kind<'mass-revocation-ended'> => ({
    ...{ kind: 'mass-revocation-ended', leaf: leaf(), massRevocation },
  });

  it('keeps one until it has ended, once', async () => {
    const leafIndex = await begin();
    const stored = { ...begun, leafIndex, eventCount: 0, endedBy: undefined };
    expect(current.store.unfinishedMassRevocations()).toEqual([stored]);
    const endedBy = await committed(current.store, end(leafIndex));
    expect(current.store.unfinishedMassRevocations()).toEqual([]);
    expect(current.store.massRevocation(leafIndex)).toEqual({ ...stored, endedBy });
    expect(await refused(current.store, end(leafIndex))).toBe('policy-conflict');
    expect(await refused(current.store, end(99))).toBe('policy-conflict');
    expect(current.store.rows().massRevocations(-1, 9)).toMatchObject([{ ...begun, leafIndex, endedBy }]);
  });

  it('counts its events, and none that was refused', async () => {
    const leafIndex = await begin();
    const { certificate } = certificateMutation();
    const event = () => ({ ...revocationMutation(certificate), massRevocation: leafIndex });
    await committed(current.store, event());
    expect(await refused(current.store, event())).toBe('policy-conflict');
    await committed(current.store, revocationMutation(certificateMutation().certificate));
    expect(current.store.massRevocation(leafIndex)?.eventCount).toBe(1);
  });

  it('finds the join tokens of an operator that can still be used', async () => {
    const of = (token: object) => tokenMutation({ token: { createdBy: 'uid:7', ...token } });
    const [late, early, expired, revoked] = [
      of({ expiresAtMs: startMs + 2 * hourMs }),
      of({}),
      of({ expiresAtMs: startMs }),
      of({}),
    ];
    await current.store.commitBatch([late, early, expired, revoked, tokenMutation()], nothingSigned);
    const { tokenId } = revoked.token;
    await committed(current.store, { kind: 'token-revoked', leaf: leaf(), tokenId, atMs: startMs });
    const live = (limit: number) =>
      current.store.liveTokensOf('uid:7', startMs, limit).map((token) => token.tokenId);
    expect(live(9)).toEqual([late, early].map(({ token }) => token.tokenId));
    expect(live(1)).toEqual([late.token.tokenId]);
  });

  it.each(['certificateHold', 'unspecified'] as const)(
    'lets nobody take over from what an operator revoked as %s',
    async (reason) => {
      const { certificate } = certificateMutation();
      const over = { reason: 'superseded', operator: takeOverOperator } as const;
      await committed(current.store, revocationMutation(certificate, { reason }));
      expect(await refused(current.store, revocationMutation(certificate, over))).toBe('policy-conflict');
    },
  );
}
