import { expect, it } from 'vitest';
import type { Reason } from '../../src/core/reasons.ts';
import type { Serial } from '../../src/core/serial.ts';
import type { Current } from './conformance.ts';
import type { Kind } from './fixture.ts';
import {
  certificateMutation,
  committed,
  signed,
  crlMutation,
  hourMs,
  issuerKeyId,
  otherIssuerKeyId,
  outcomeOf,
  refused,
  renewal,
  revocationMutation,
  startMs,
} from './fixture.ts';

const startSeconds = startMs / 1000;

/** Holds, releases and worse reasons: what may follow what, and what it takes over. */
export function revocationEventsConformance(current: Current): void {
  const reasonsOf = (serial: Serial) =>
    current.store.revocationEvents(issuerKeyId, serial).map(({ reason }) => reason);
  const publish = (over: Parameters<typeof crlMutation>[0]) =>
    signed(
      current.store,
      crlMutation({
        crlNumber: current.store.lastCrlNumber(issuerKeyId) + 1n,
        coversTreeSize: current.store.treeSize(),
        ...over,
      }),
    );

  it.each<[standing: Reason, then: Reason, isTaken: boolean]>([
    ['certificateHold', 'removeFromCRL', true],
    ['certificateHold', 'unspecified', true],
    ['certificateHold', 'keyCompromise', true],
    ['certificateHold', 'certificateHold', false],
    ['unspecified', 'superseded', true],
    ['superseded', 'privilegeWithdrawn', true],
    ['superseded', 'keyCompromise', true],
    ['superseded', 'cessationOfOperation', false],
    ['superseded', 'superseded', false],
    ['superseded', 'unspecified', false],
    ['superseded', 'certificateHold', false],
    ['superseded', 'removeFromCRL', false],
    ['keyCompromise', 'cACompromise', false],
    ['keyCompromise', 'superseded', false],
    ['keyCompromise', 'removeFromCRL', false],
  ])('after %s takes %s: %s', async (standing, then, isTaken) => {
    const { certificate } = certificateMutation();
    const first = await committed(current.store, revocationMutation(certificate, { reason: standing }));
    const next = revocationMutation(certificate, { reason: then });
    if (!isTaken) {
      expect(await outcomeOf(current.store, next)).toMatchObject({
        code: 'policy-conflict',
        revocation: { leafIndex: first, reason: standing, followedBy: undefined },
      });
      expect(reasonsOf(certificate.serial)).toEqual([standing]);
      return;
    }
    const second = await committed(current.store, next);
    expect(current.store.revocationEvents(issuerKeyId, certificate.serial)).toMatchObject([
      { leafIndex: first, reason: standing, followedBy: second },
      { leafIndex: second, reason: then, followedBy: undefined },
    ]);
    expect(current.store.revocation(issuerKeyId, certificate.serial)?.leafIndex).toBe(second);
  });

  it('releases nothing but a hold', async () => {
    const { certificate } = certificateMutation();
    const release = () => revocationMutation(certificate, { reason: 'removeFromCRL' });
    expect(await refused(current.store, release())).toBe('policy-conflict');
    await committed(current.store, revocationMutation(certificate, { reason: 'certificateHold' }));
    await committed(current.store, release());
    expect(await refused(current.store, release())).toBe('policy-conflict');
    expect(reasonsOf(certificate.serial)).toEqual(['certificateHold', 'removeFromCRL']);
  });

  it('counts a certificate again after its release, and not any more when it is revoked anew', async () => {
    const first = certificateMutation();
    const { certificate } = first;
    await committed(current.store, first);
    const isRevoked = () => current.store.certificate(issuerKeyId, certificate.serial)?.revoked !== undefined;
    const standing = () => current.store.standingBySerial(issuerKeyId, '', 9).length;
    await committed(current.store, revocationMutation(certificate, { reason: 'certificateHold' }));
    expect([isRevoked(), standing()]).toEqual([true, 1]);
    expect(await refused(current.store, renewal(first))).toBe('denied-revoked');
    await committed(current.store, revocationMutation(certificate, { reason: 'removeFromCRL' }));
    expect([isRevoked(), standing()]).toEqual([false, 0]);
    await committed(current.store, renewal(first));
    await committed(current.store, revocationMutation(certificate));
    expect([isRevoked(), standing()]).toEqual([true, 1]);
    expect(await refused(current.store, renewal(first))).toBe('denied-revoked');
    expect(await refused(current.store, certificateMutation({ serial: certificate.serial }))).toBe(
      'policy-conflict',
    );
  });

  it('blocks the key when it comes as a worse reason', async () => {
    const { certificate } = certificateMutation();
    const { spkiSha256 } = certificate;
    await committed(current.store, revocationMutation(certificate));
    await committed(
      current.store,
      revocationMutation(certificate, { reason: 'keyCompromise', blockKeySha256: spkiSha256 }),
    );
    expect(await refused(current.store, certificateMutation({ spkiSha256 }))).toBe('policy-key-blocked');
  });

  it('does not block the key of what was released', async () => {
    const { certificate } = certificateMutation();
    const { spkiSha256 } = certificate;
    for (const reason of ['certificateHold', 'removeFromCRL'] as const)
      await committed(current.store, revocationMutation(certificate, { reason }));
    const { leaf } = revocationMutation(certificate);
    const block = { kind: 'key-blocked' as const, leaf, revoked: certificate, spkiSha256 };
    expect(await refused(current.store, block)).toBe('request-not-found');
  });

  it('keeps an invalidity date', async () => {
    const { certificate } = certificateMutation();
    const invalidityDateSeconds = startSeconds - 86_400;
    await committed(current.store, revocationMutation(certificate, { invalidityDateSeconds }));
    const { serial } = certificate;
    expect(current.store.revocation(issuerKeyId, serial)).toMatchObject({ invalidityDateSeconds });
    expect(current.store.rows().revocations(-1, 9)).toMatchObject([{ invalidityDateSeconds }]);
  });

  it('I5 takes the date over from what stands on CRLs, and not over a release', async () => {
    const { certificate } = certificateMutation();
    const { serial } = certificate;
    const dates = () =>
      current.store.revocationEvents(issuerKeyId, serial).map(({ crlDateSeconds }) => crlDateSeconds);
    await committed(current.store, revocationMutation(certificate, { reason: 'certificateHold' }));
    await publish({ datesFixed: [{ serial, crlDateSeconds: startSeconds }] });
    await committed(current.store, revocationMutation(certificate, { reason: 'removeFromCRL' }));
    await committed(current.store, revocationMutation(certificate));
    expect(dates()).toEqual([startSeconds, startSeconds, undefined]);
    await publish({ datesFixed: [{ serial, crlDateSeconds: startSeconds + 9 }] });
    await committed(current.store, revocationMutation(certificate, { reason: 'keyCompromise' }));
    expect(dates()).toEqual([startSeconds, startSeconds, startSeconds + 9, startSeconds + 9]);
  });

  it('I5 fixes the date of what a CRL on its way carries, and of what follows it, up to a release', async () => {
    const { certificate } = certificateMutation();
    const { serial } = certificate;
    const dates = () =>
      current.store.revocationEvents(issuerKeyId, serial).map(({ crlDateSeconds }) => crlDateSeconds);
    await committed(current.store, revocationMutation(certificate, { reason: 'certificateHold' }));
    const coversTreeSize = current.store.treeSize();
    await committed(current.store, revocationMutation(certificate, { reason: 'removeFromCRL' }));
    await committed(current.store, revocationMutation(certificate, { reason: 'certificateHold' }));
    await publish({ coversTreeSize, datesFixed: [{ serial, crlDateSeconds: startSeconds }] });
    expect(dates()).toEqual([startSeconds, startSeconds, undefined]);
    const { crl, datesFixed } = crlMutation({
      crlNumber: 9n,
      coversTreeSize,
      datesFixed: [{ serial, crlDateSeconds: startSeconds + 1 }],
    });
    expect(await refused(current.store, { ...crlMutation(), crl, datesFixed })).toBe('integrity-crl');
  });

  it('I5 has what follows one that left its CRLs leave with it', async () => {
    const { certificate } = certificateMutation({ notAfterMs: startMs + hourMs });
    const { serial } = certificate;
    await committed(current.store, revocationMutation(certificate));
    const thisUpdateSeconds = startSeconds + 3_601;
    const datesFixed: Kind<'crl'>['datesFixed'] = [{ serial, crlDateSeconds: startSeconds }];
    await publish({ thisUpdateSeconds, scheduled: true, datesFixed });
    const expired = () => current.store.expiredStanding(issuerKeyId, startMs + hourMs + 1, 9).length;
    expect(expired()).toBe(1);
    await current.store.releaseExpired(issuerKeyId, [serial]);
    expect(expired()).toBe(0);
    await committed(current.store, revocationMutation(certificate, { reason: 'keyCompromise' }));
    expect(current.store.revocation(issuerKeyId, serial)).toMatchObject({
      reason: 'keyCompromise',
      mayLeave: true,
    });
    expect([expired(), current.store.standingBySerial(issuerKeyId, '', 9)]).toEqual([0, []]);
  });

  it('I5 does not let a release leave, nor what was released stand', async () => {
    const { certificate } = certificateMutation({ notAfterMs: startMs });
    const { serial } = certificate;
    for (const reason of ['certificateHold', 'removeFromCRL'] as const)
      await committed(current.store, revocationMutation(certificate, { reason }));
    expect(current.store.expiredStanding(issuerKeyId, startMs + hourMs, 9)).toEqual([]);
    await publish({ thisUpdateSeconds: startSeconds + 3_601, scheduled: true });
    await current.store.releaseExpired(issuerKeyId, [serial]);
    expect(current.store.revocation(issuerKeyId, serial)?.mayLeave).toBe(false);
  });

  it('gives what stands and what came in pages', async () => {
    const serials = ['7f01', '0a', '7e', '05ff', '7001'] as Serial[];
    const of = (serial: Serial) => ({
      issuerKeyId,
      serial,
      notAfterMs: startMs + Number.parseInt(serial, 16),
    });
    for (const serial of serials)
      await committed(current.store, revocationMutation(of(serial), { reason: 'certificateHold' }));
    await committed(current.store, revocationMutation(of('7e' as Serial), { reason: 'removeFromCRL' }));
    await committed(current.store, revocationMutation(of('0a' as Serial)));
    const { store } = current;
    const named = (rows: { serial: Serial }[]) => rows.map(({ serial }) => serial);
    const standing = serials.toSorted().filter((serial) => serial !== '7e');
    expect(named(store.standingBySerial(issuerKeyId, '', 2))).toEqual(standing.slice(0, 2));
    expect(named(store.standingBySerial(issuerKeyId, standing[1] ?? '', 9))).toEqual(standing.slice(2));
    expect(store.standingBySerial(otherIssuerKeyId, '', 9)).toEqual([]);
    const after = (leafIndex: number, limit: number) =>
      store.revocationsAfter(issuerKeyId, { leafIndex }, limit).map((row) => row.leafIndex);
    expect([after(-1, 2), after(3, 9), after(6, 9)]).toEqual([[0, 3], [4, 5, 6], []]);
    expect(store.revocationsAfter(otherIssuerKeyId, { leafIndex: -1 }, 9)).toEqual([]);
    const expired = (beforeMs: number, limit: number) =>
      named(store.expiredStanding(issuerKeyId, beforeMs, limit));
    expect(expired(startMs + 0x7001, 9)).toEqual(['0a', '05ff']);
    expect(expired(startMs + 0xffff, 3)).toEqual(['0a', '05ff', '7001']);
  });

  it('tells the rows of a serial in order, with what came before each', async () => {
    const { certificate } = certificateMutation();
    for (const reason of ['certificateHold', 'removeFromCRL', 'superseded'] as const)
      await committed(current.store, revocationMutation(certificate, { reason }));
    const rows = current.store.rows();
    expect(rows.revocations(-1, 9)).toMatchObject([
      { followedBy: 1, followedByOwn: 1, precedingReason: null },
      { followedBy: 2, precedingReason: 'certificateHold', precedingFollowedBy: 1 },
      { followedBy: null, followedByOwn: 1, precedingReason: 'removeFromCRL', precedingMayLeave: 0 },
    ]);
    expect(rows.revocationsBySerial(issuerKeyId, '', 9)).toMatchObject([{ leafIndex: 2 }]);
    const earlier = rows.earlierRevocations(issuerKeyId, certificate.serial);
    expect(earlier.map(({ leafIndex }) => leafIndex)).toEqual([0, 1]);
  });
}
