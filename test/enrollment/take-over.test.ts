// An enrollment whose certificate was logged under an issuer that went away before it signed: the standby answers it.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { joinTokenAttestor } from '../../src/attestation/node/join-token/verify.ts';
import { takeOverOperator } from '../../src/core/take-over.ts';
import { Challenges } from '../../src/enrollment/challenge.ts';
import { Enrollment } from '../../src/enrollment/enroll.ts';
import { verifyState } from '../../src/audit/verify-state.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { CrlPublishers } from '../../src/revocation/publishers.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { Enrollee, newToken } from '../invariants/support/enrollee.ts';
import { becomes, codeOf } from '../invariants/support/refusal.ts';
import {
  type PairedAuthority,
  pairedAuthority,
  publicationUrl,
  takeOverAfterMs,
} from '../support/software-authority.ts';
import { readPublished } from '../support/crl-bytes.ts';

let authority: PairedAuthority;
let publishers: CrlPublishers;
let revocation: Revocation;
let enrollment: Enrollment;

beforeEach(async () => {
  authority = await pairedAuthority();
  publishers = new CrlPublishers(
    [authority.issuer, authority.standby.issuer].map(
      (issuer) =>
        new CrlPublisher({
          ...{ ...authority, issuer, publicationUrl, shardCount: 16 },
          timing: { ...defaultCrlTiming, batchMs: 0 },
          publish: () => undefined,
          alarm: () => undefined,
        }),
    ),
  );
  await publishers.start();
  revocation = new Revocation({ ...authority, publisher: publishers, shardCount: 16 });
  enrollment = enrollmentOf();
  expect(await becomes(() => publishers.current().length === 36)).toBe(true);
});
afterEach(async () => {
  await publishers.close();
  await authority.close();
});

/** A front end with nothing in memory, as after a restart. */
function enrollmentOf(
  end = (unsigned: Parameters<Revocation['endUnsigned']>[0]) => revocation.endUnsigned(unsigned),
) {
  const attestors = [joinTokenAttestor(authority.store)];
  return new Enrollment({ ...authority, attestors, challenges: new Challenges(), end });
}

const keyId = () => ({ first: authority.issuer.keyId, standby: authority.standby.issuer.keyId });

/** The first goes away after it was asked and before it signed. */
async function loseFirst(who: Enrollee, token: string): Promise<void> {
  authority.signer.beforeAppend = () => {
    authority.signer.state = 'degraded';
  };
  expect(await codeOf(() => who.enroll(enrollment, token))).toBe('unavailable-signer');
  authority.signer.beforeAppend = undefined;
}

/** Nobody has signed for so long that the standby issues. */
function standbyIssues(): void {
  authority.issuers.current();
  authority.clock.pass(takeOverAfterMs);
  expect(authority.issuers.current().keyId).toBe(keyId().standby);
}

function firstIsBack(): void {
  const { signer, store } = authority;
  signer.resume(store.leaves(signer.treeSize, store.treeSize()));
  signer.state = 'usable';
}

const certificates = () => authority.store.certificates({ limit: 10 });
const live = () => certificates().filter(({ revoked }) => revoked === undefined);

test('a retry with the same key is answered by the standby; the unsigned certificate is ended first', async () => {
  const { token, tokenId } = await newToken(authority);
  const who = new Enrollee();
  await loseFirst(who, token);
  expect(await codeOf(() => who.enroll(enrollment, token))).toBe('unavailable-signer');
  standbyIssues();
  const { issued } = await who.enroll(enrollment, token);
  expect(issued.record.issuerKeyId).toBe(keyId().standby);
  const [fresh, lost] = certificates();
  expect(fresh).toMatchObject({ serial: issued.record.serial, predecessor: lost?.serial, tokenId });
  expect(lost).toMatchObject({ signature: undefined, revoked: { reason: 'superseded' } });
  const ending = authority.store.revocation(keyId().first, lost?.serial ?? issued.record.serial);
  expect(ending?.operator).toBe(takeOverOperator);
  expect(ending?.leafIndex).toBeLessThan(fresh?.leafIndex ?? 0);
  expect(live()).toHaveLength(1);
  expect(authority.store.token(tokenId)?.usesTaken).toBe(1);
  // An answer that got lost is given again, also after a restart.
  expect((await who.enroll(enrollmentOf(), token)).issued.der).toEqual(issued.der);
});

test('another key gets 409 before, while and after it passes on', async () => {
  const { token } = await newToken(authority);
  const who = new Enrollee();
  const thief = () => codeOf(() => new Enrollee().enroll(enrollment, token));
  await loseFirst(who, token);
  standbyIssues();
  expect(await thief()).toBe('policy-key-conflict');
  const broken = enrollmentOf(async (unsigned) => {
    await revocation.endUnsigned(unsigned);
    throw new Error('killed between the two');
  });
  await expect(who.enroll(broken, token)).rejects.toThrow('killed between the two');
  expect(live()).toHaveLength(0);
  expect(await thief()).toBe('policy-key-conflict');
  // A start anew finds it ended and goes on from there.
  expect((await who.enroll(enrollmentOf(), token)).issued.record.issuerKeyId).toBe(keyId().standby);
  expect(await thief()).toBe('policy-key-conflict');
  expect(live()).toHaveLength(1);
});

test('what an operator revoked meanwhile is not answered by anybody', async () => {
  const { token } = await newToken(authority);
  const who = new Enrollee();
  await loseFirst(who, token);
  const [lost] = certificates();
  if (!lost) throw new Error('a certificate');
  standbyIssues();
  const revoked = revocation.revoke(
    { by: 'serial', serial: lost.serial, only: false },
    'superseded',
    'uid:0',
  );
  expect(await becomes(() => authority.store.revocation(keyId().first, lost.serial) !== undefined)).toBe(
    true,
  );
  expect(await codeOf(() => who.enroll(enrollment, token))).toBe('denied-revoked');
  expect(certificates()).toHaveLength(1);
  await revoked;
});

test('nor what an operator revoked when it was ended and not made again yet', async () => {
  const { token } = await newToken(authority);
  const who = new Enrollee();
  await loseFirst(who, token);
  standbyIssues();
  const broken = enrollmentOf(async (unsigned) => {
    await revocation.endUnsigned(unsigned);
    throw new Error('killed between the two');
  });
  await expect(who.enroll(broken, token)).rejects.toThrow('killed between the two');
  const [lost] = certificates();
  if (!lost) throw new Error('a certificate');
  const target = { by: 'serial', serial: lost.serial, only: false } as const;
  const result = await revocation.revoke(target, 'cessationOfOperation', 'uid:0');
  expect(result).toMatchObject({ alreadyRevoked: [lost.serial], keysBlocked: [lost.serial] });
  expect(await codeOf(() => who.enroll(enrollmentOf(), token))).toBe('policy-key-blocked');
  expect(live()).toHaveLength(0);
  await authority.sequencer.storeSigned();
  expect(verifyState(authority.store, undefined, () => undefined).problems).toEqual([]);
});

test('a successor is ended with its lineage; its key need not be blocked', async () => {
  const { token } = await newToken(authority);
  const who = new Enrollee();
  await loseFirst(who, token);
  standbyIssues();
  const { issued } = await who.enroll(enrollment, token);
  const lost = certificates()[1];
  if (!lost) throw new Error('a certificate');
  const target = { by: 'serial', serial: lost.serial, only: false } as const;
  const { revoked, keysBlocked } = await revocation.revoke(target, 'unspecified', 'uid:0');
  expect([revoked.map(({ serial }) => serial), keysBlocked]).toEqual([[issued.record.serial], []]);
  expect(await codeOf(() => who.enroll(enrollment, token))).toBe('denied-revoked');
});

test('a token that was revoked or has expired passes nothing on', async () => {
  const revoked = await newToken(authority);
  const who = new Enrollee();
  await loseFirst(who, revoked.token);
  await revocation.revokeToken(revoked.tokenId, 'uid:0');
  standbyIssues();
  expect(await codeOf(() => who.enroll(enrollment, revoked.token))).toBe('denied-token-revoked');
  expect(live()).toHaveLength(1);
});

test('while its signer is back, or was away for a moment only, the same certificate is signed again', async () => {
  const { token } = await newToken(authority);
  const who = new Enrollee();
  await loseFirst(who, token);
  firstIsBack();
  const { issued } = await who.enroll(enrollment, token);
  expect(issued.record.issuerKeyId).toBe(keyId().first);
  expect(certificates()).toHaveLength(1);
});

test('its entry follows on the CRLs of its issuer when that is back, and the log is whole', async () => {
  const { token } = await newToken(authority);
  const who = new Enrollee();
  await loseFirst(who, token);
  standbyIssues();
  await who.enroll(enrollment, token);
  const lost = certificates()[1];
  const isListed = () =>
    publishers
      .current()
      .some(
        (crl) =>
          crl.issuerKeyId === keyId().first &&
          crl.scope === 'full' &&
          lost !== undefined &&
          readPublished(crl).has(lost.serial),
      );
  expect(isListed()).toBe(false);
  firstIsBack();
  expect(await becomes(isListed)).toBe(true);
  await authority.sequencer.storeSigned();
  expect(verifyState(authority.store, undefined, () => undefined).problems).toEqual([]);
});

test('a renewal of a certificate of the first is the standby’s, in the same lineage', async () => {
  const { token } = await newToken(authority);
  const { issued } = await new Enrollee().enroll(enrollment, token);
  expect(issued.record.issuerKeyId).toBe(keyId().first);
  authority.signer.state = 'degraded';
  standbyIssues();
  const { entryId } = issued.record;
  const entry = authority.store.entry(entryId ?? '');
  if (!entry) throw new Error('an entry');
  const { requestFor } = await import('../support/software-authority.ts');
  const renewed = await authority.issuance.issue({
    ...requestFor(entry, undefined),
    predecessor: issued.record,
  });
  expect(renewed.record).toMatchObject({
    issuerKeyId: keyId().standby,
    predecessor: issued.record.serial,
    lineage: issued.record.serial,
  });
});

test('the wait that is asked for ends when the standby issues', async () => {
  const { token } = await newToken(authority);
  const who = new Enrollee();
  await loseFirst(who, token);
  authority.issuers.current();
  authority.clock.pass(takeOverAfterMs - 4000);
  const error = await who.enroll(enrollment, token).catch((failure: unknown) => failure);
  expect(error).toMatchObject({ code: 'unavailable-signer' });
  const { retryAfterSeconds } = error as { retryAfterSeconds: number };
  expect(retryAfterSeconds).toBeGreaterThanOrEqual(4);
  expect(retryAfterSeconds).toBeLessThanOrEqual(5);
});
