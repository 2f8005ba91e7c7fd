import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import type { Store } from '../../src/store/port.ts';
import type { Current } from './conformance.ts';
import type { Kind } from './fixture.ts';
import {
  certificateMutation,
  committed,
  signed,
  crlMutation,
  freshSerial,
  hourMs,
  issuerKeyId,
  keyHash,
  leaf,
  nothingSigned,
  otherIssuerKeyId,
  outcomeOf,
  refused,
  revocationMutation,
  startMs,
} from './fixture.ts';

const startSeconds = startMs / 1000;

export function revocationConformance(current: Current): void {
  it('revokes a serial once, and says which revocation stands', async () => {
    const { certificate } = certificateMutation();
    const first = revocationMutation(certificate);
    const leafIndex = await committed(current.store, first);
    const unfixed = { crlDateSeconds: undefined, mayLeave: false, followedBy: undefined };
    const standing = { ...first.revocation, leafIndex, ...unfixed, invalidityDateSeconds: undefined };
    expect(current.store.revocation(issuerKeyId, certificate.serial)).toEqual(standing);
    const again = revocationMutation(certificate, {
      reason: 'affiliationChanged',
      blockKeySha256: certificate.spkiSha256,
    });
    expect(await outcomeOf(current.store, again)).toMatchObject({
      status: 'refused',
      code: 'policy-conflict',
      revocation: standing,
    });
    expect(current.store.rows().revocations(-1, 9)).toMatchObject([{ leafIndex, reason: 'superseded' }]);
    await committed(current.store, certificateMutation({ spkiSha256: certificate.spkiSha256 }));
    expect(current.store.treeSize(), 'nothing of the refused one was written').toBe(2);
  });

  it('tells a certificate by issuer and serial', async () => {
    const { serial } = certificateMutation().certificate;
    const [mine, other] = [
      certificateMutation({ serial }),
      certificateMutation({ serial, issuerKeyId: otherIssuerKeyId }),
    ];
    await current.store.commitBatch([mine, other, revocationMutation(mine.certificate)], nothingSigned);
    const { reason, revokedAtMs } = revocationMutation(mine.certificate).revocation;
    expect(current.store.certificate(issuerKeyId, serial)?.revoked).toEqual({ reason, revokedAtMs });
    expect(current.store.certificate(otherIssuerKeyId, serial)?.revoked).toBeUndefined();
    await committed(current.store, revocationMutation(other.certificate));
    expect(current.store.standingBySerial(otherIssuerKeyId, '', 9).length).toBe(1);
  });

  it('blocks one key by two revocations', async () => {
    const blockKeySha256 = keyHash();
    for (let count = 0; count < 2; count += 1)
      await committed(
        current.store,
        revocationMutation(certificateMutation().certificate, { blockKeySha256 }),
      );
    expect(await refused(current.store, certificateMutation({ spkiSha256: blockKeySha256 }))).toBe(
      'policy-key-blocked',
    );
  });

  it('blocks the key of a certificate that was revoked for another reason, once', async () => {
    const { certificate } = certificateMutation();
    const { spkiSha256 } = certificate;
    const block = () => ({ kind: 'key-blocked', leaf: leaf(), revoked: certificate, spkiSha256 }) as const;
    expect(await refused(current.store, block())).toBe('request-not-found');
    await committed(current.store, revocationMutation(certificate));
    await committed(current.store, certificateMutation({ spkiSha256 }));
    await committed(current.store, block());
    expect(await refused(current.store, block())).toBe('policy-conflict');
    expect(await refused(current.store, certificateMutation({ spkiSha256 }))).toBe('policy-key-blocked');
    expect(current.store.treeSize()).toBe(3);
  });

  it('gives back every field of a CRL, its signature once it is there', async () => {
    const mutation = crlMutation({
      scope: '15',
      crlNumber: 2n ** 62n + 1n,
      scheduled: true,
      coversTreeSize: 9,
    });
    const leafIndex = await committed(current.store, mutation);
    expect(current.store.crls()).toEqual([{ ...mutation.crl, leafIndex, signature: undefined }]);
    const signature = randomBytes(71);
    await current.store.storeSigned({
      signatures: [{ kind: 'crl', leafIndex, signature }],
      checkpointNote: undefined,
    });
    expect(current.store.lastCrls(issuerKeyId)).toEqual([{ ...mutation.crl, leafIndex, signature }]);
    expect(current.store.lastCrlNumber(issuerKeyId)).toBe(2n ** 62n + 1n);
    expect(current.store.lastCrlNumber(otherIssuerKeyId)).toBe(0n);
  });

  it('I5 lets CRL numbers only rise within a scope', async () => {
    const number = (scope: string, crlNumber: bigint, issuer = issuerKeyId) =>
      crlMutation({ scope, crlNumber, issuerKeyId: issuer });
    await committed(current.store, number('full', 10n));
    expect(await refused(current.store, number('full', 10n))).toBe('integrity-crl');
    expect(await refused(current.store, number('full', 9n))).toBe('integrity-crl');
    await committed(current.store, number('delta', 10n));
    expect(await refused(current.store, number('delta', 10n))).toBe('integrity-crl');
    await committed(current.store, number('3', 12n));
    await committed(current.store, number('full', 11n));
    expect(await refused(current.store, number('full', 11n))).toBe('integrity-crl');
    await committed(current.store, number('full', 12n));
    await committed(current.store, number('full', 1n, otherIssuerKeyId));
    expect(current.store.lastCrlNumber(issuerKeyId)).toBe(12n);
    expect(await refused(current.store, number('full', 2n ** 63n))).toBe('integrity-crl');
    const batch = await current.store.commitBatch(
      [number('full', 20n), number('full', 20n), number('full', 21n)],
      nothingSigned,
    );
    expect(batch.map(({ status }) => status)).toEqual(['committed', 'refused', 'committed']);
  });

  it('knows when the schedule last asked for a CRL of each scope', async () => {
    expect([...current.store.scheduledUpdates(issuerKeyId)]).toEqual([]);
    const crl = (crlNumber: bigint, scope: string, scheduled: boolean, thisUpdateSeconds: number) =>
      signed(current.store, crlMutation({ crlNumber, scope, scheduled, thisUpdateSeconds }));
    await crl(1n, 'full', true, startSeconds);
    await crl(2n, '3', false, startSeconds);
    await crl(3n, 'full', true, startSeconds + 1);
    await crl(4n, 'full', false, startSeconds + 2);
    const unsigned = { crlNumber: 5n, scheduled: true, thisUpdateSeconds: startSeconds + 3 };
    await committed(current.store, crlMutation(unsigned));
    expect([...current.store.scheduledUpdates(issuerKeyId)]).toEqual([['full', startSeconds + 1]]);
    expect([...current.store.scheduledUpdates(otherIssuerKeyId)]).toEqual([]);
  });

  it('I5 fixes a revocation date by the first CRL that carries it', async () => {
    const { certificate } = certificateMutation();
    await committed(current.store, revocationMutation(certificate));
    const { serial } = certificate;
    const fixing = (crlNumber: bigint, scope: string, crlDateSeconds: number, of: Serial = serial) =>
      crlMutation({ crlNumber, scope, datesFixed: [{ serial: of, crlDateSeconds }] });
    await committed(current.store, fixing(1n, 'full', startSeconds));
    expect(current.store.revocation(issuerKeyId, serial)?.crlDateSeconds).toBe(startSeconds);
    await committed(current.store, fixing(2n, '3', startSeconds));
    expect(await refused(current.store, fixing(3n, 'full', startSeconds + 1))).toBe('integrity-crl');
    expect(await refused(current.store, fixing(3n, 'full', startSeconds, freshSerial()))).toBe(
      'integrity-crl',
    );
    expect(current.store.revocation(issuerKeyId, serial)?.crlDateSeconds).toBe(startSeconds);
    expect(current.store.lastCrlNumber(issuerKeyId), 'a refused CRL takes no number').toBe(2n);
  });

  it('keeps the two newest CRLs of each scope, and the newest signed one', async () => {
    const numbers = () => current.store.crls().map(({ scope, crlNumber }) => `${scope}:${crlNumber}`);
    const indices: number[] = [];
    for (const crlNumber of [1n, 2n, 3n])
      indices.push(await committed(current.store, crlMutation({ crlNumber })));
    await committed(current.store, crlMutation({ crlNumber: 4n, scope: '3' }));
    expect(numbers()).toEqual(['full:2', 'full:3', '3:4']);
    const sign = (leafIndex: number | undefined) =>
      current.store.storeSigned({
        signatures: [{ kind: 'crl', leafIndex: leafIndex ?? -1, signature: randomBytes(8) }],
        checkpointNote: undefined,
      });
    await sign(indices[0]);
    await sign(indices[1]);
    for (const crlNumber of [5n, 6n, 7n]) await committed(current.store, crlMutation({ crlNumber }));
    expect(numbers(), 'the signer was away: 2 is still what is served').toEqual([
      'full:2',
      '3:4',
      'full:6',
      'full:7',
    ]);
    const signed = () =>
      current.store.lastCrls(issuerKeyId).map(({ scope, crlNumber }) => `${scope}:${crlNumber}`);
    expect(signed()).toEqual(['full:2']);
    await sign(current.store.crls().at(-1)?.leafIndex);
    await sign(current.store.crls().find(({ scope }) => scope === '3')?.leafIndex);
    expect(signed()).toEqual(['3:4', 'full:7']);
    await committed(current.store, crlMutation({ crlNumber: 8n }));
    expect(numbers()).toEqual(['3:4', 'full:7', 'full:8']);
    expect(signed(), 'the newest is not signed yet').toEqual(['3:4', 'full:7']);
    expect(current.store.lastCrls(otherIssuerKeyId)).toEqual([]);
  });

  it('I5 lets an entry leave only after a scheduled CRL past its notAfter carried it', async () => {
    const { certificate } = certificateMutation({ notAfterMs: startMs + hourMs });
    await committed(current.store, revocationMutation(certificate));
    const { serial } = certificate;
    const pastSeconds = startSeconds + 3_601;
    const left = async () => {
      await current.store.releaseExpired(issuerKeyId, [serial]);
      return current.store.revocation(issuerKeyId, serial)?.mayLeave;
    };
    const publish = (crl: Partial<Kind<'crl'>['crl']>, datesFixed: Kind<'crl'>['datesFixed'] = []) =>
      signed(
        current.store,
        crlMutation({
          crlNumber: next(current.store),
          coversTreeSize: current.store.treeSize(),
          datesFixed,
          ...crl,
        }),
      );
    expect(await left(), 'on no CRL').toBe(false);
    await publish({ thisUpdateSeconds: pastSeconds, scheduled: true, coversTreeSize: 0 });
    expect(await left(), 'not on that one').toBe(false);
    await publish({ thisUpdateSeconds: startSeconds }, [{ serial, crlDateSeconds: startSeconds }]);
    await publish({ thisUpdateSeconds: pastSeconds });
    expect(await left(), 'not scheduled').toBe(false);
    await publish({ thisUpdateSeconds: startSeconds + 3_600, scheduled: true });
    expect(await left(), 'notAfter is inclusive').toBe(false);
    await publish({ thisUpdateSeconds: pastSeconds, scheduled: true, scope: '4' });
    expect(await left(), "another shard's").toBe(false);
    const unsigned = { thisUpdateSeconds: pastSeconds, scheduled: true };
    const coversTreeSize = current.store.treeSize();
    await committed(
      current.store,
      crlMutation({ crlNumber: next(current.store), coversTreeSize, ...unsigned }),
    );
    expect(await left(), 'without a signature it is no CRL').toBe(false);
    await publish({ thisUpdateSeconds: pastSeconds, scheduled: true });
    expect(await left()).toBe(true);
    expect(current.store.standingBySerial(issuerKeyId, '', 9)).toEqual([]);
    expect(current.store.rows().revocations(-1, 9).length, 'the revocation itself stays').toBe(1);
  });
}

function next(store: Store): bigint {
  return store.lastCrlNumber(issuerKeyId) + 1n;
}
