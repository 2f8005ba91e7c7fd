import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import type { Store } from '../../src/store/port.ts';
import type { Current } from './conformance.ts';
import type { Kind } from './fixture.ts';
import {
  certificateMutation,
  committed,
  entry,
  hourMs,
  keyHash,
  leaf,
  nothingSigned,
  outcomeOf,
  redemption,
  refused,
  revocationMutation,
  startMs,
  tokenMutation,
} from './fixture.ts';

export function joinTokenConformance(current: Current): void {
  it('gives back a token, by id and by the hash of its secret', async () => {
    const mutation = tokenMutation();
    await committed(current.store, mutation);
    const expected = { ...mutation.token, usesTaken: 0, revokedAtMs: undefined };
    expect(current.store.token(mutation.token.tokenId)).toEqual(expected);
    expect(current.store.tokenBySecret(mutation.secretSha256)).toEqual(expected);
    expect(current.store.tokenBySecret(randomBytes(32))).toBeUndefined();
    expect(current.store.entry(mutation.entry.entryId)).toEqual(mutation.entry);
  });

  it('I6 burns the use in the transaction that reserves the serial', async () => {
    const token = await created(current.store);
    const mutation = redemption(token);
    const leafIndex = await committed(current.store, mutation);
    expect(current.store.token(token.token.tokenId)?.usesTaken).toBe(1);
    expect(current.store.certificateOfTokenUse(token.token.tokenId, mutation.certificate.spkiSha256)).toEqual(
      {
        ...mutation.certificate,
        leafIndex,
        signature: undefined,
      },
    );
    expect(current.store.certificateOfTokenUse(token.token.tokenId, keyHash())).toBeUndefined();
  });

  it('I6 gives another key nothing once the token is used up', async () => {
    const token = await created(current.store);
    await committed(current.store, redemption(token));
    expect(await refused(current.store, redemption(token))).toBe('policy-key-conflict');
    expect(current.store.token(token.token.tokenId)?.usesTaken).toBe(1);
  });

  it('I6 answers a retry with the same key with the stored certificate', async () => {
    const token = await created(current.store);
    const first = redemption(token);
    const { spkiSha256 } = first.certificate;
    const retry = () => redemption(token, { spkiSha256 });
    const leafIndex = await committed(current.store, first);
    const stored = { ...first.certificate, leafIndex };
    expect(await outcomeOf(current.store, retry())).toEqual({
      status: 'exists',
      certificate: { ...stored, signature: undefined },
    });
    const signature = randomBytes(71);
    await current.store.storeSigned({
      signatures: [{ kind: 'certificate', leafIndex, signature }],
      checkpointNote: undefined,
    });
    expect(await outcomeOf(current.store, retry())).toEqual({
      status: 'exists',
      certificate: { ...stored, signature },
    });
    expect(current.store.treeSize()).toBe(2);
    expect(current.store.token(token.token.tokenId)?.usesTaken).toBe(1);
  });

  it('I6 answers a retry in the batch of the first attempt', async () => {
    const token = tokenMutation();
    const first = redemption(token);
    const retry = redemption(token, { spkiSha256: first.certificate.spkiSha256 });
    const outcomes = await current.store.commitBatch([token, first, retry], nothingSigned);
    expect(outcomes[2]).toMatchObject({
      status: 'exists',
      certificate: { serial: first.certificate.serial },
    });
  });

  it('I6 refuses the retry of a revoked certificate, and one past half its life', async () => {
    const token = await created(current.store);
    const first = redemption(token, { notAfterMs: startMs + hourMs });
    const { spkiSha256 } = first.certificate;
    await committed(current.store, first);
    const retry = (atMs: number) => outcomeOf(current.store, redemption(token, { spkiSha256, atMs }));
    expect(await retry(startMs + hourMs / 2)).toMatchObject({ status: 'exists' });
    expect(await retry(startMs + hourMs / 2 + 1)).toMatchObject({
      status: 'refused',
      code: 'denied-token-used',
    });
    await committed(current.store, revocationMutation(first.certificate));
    expect(await retry(startMs)).toMatchObject({ status: 'refused', code: 'denied-revoked' });
  });

  it('refuses a token that is unknown, revoked or expired, also for a retry', async () => {
    const token = await created(current.store, { usesAllowed: 5 });
    const used = redemption(token);
    await committed(current.store, used);
    const { tokenId } = token.token;
    const attempt = (atMs: number) => [
      redemption(token, { atMs }),
      redemption(token, { atMs, spkiSha256: used.certificate.spkiSha256 }),
    ];
    for (const mutation of attempt(startMs + hourMs))
      expect(await refused(current.store, mutation)).toBe('denied-token-expired');
    expect((await outcomeOf(current.store, redemption(token, { atMs: startMs + hourMs - 1 }))).status).toBe(
      'committed',
    );
    await committed(current.store, { kind: 'token-revoked', leaf: leaf(), tokenId, atMs: startMs });
    for (const mutation of attempt(startMs))
      expect(await refused(current.store, mutation)).toBe('denied-token-revoked');
    const unknown = tokenMutation({ entry: token.entry });
    expect(await refused(current.store, redemption(unknown))).toBe('denied-evidence');
  });

  it('lets each of several uses go to a key of its own', async () => {
    const token = await created(current.store, { usesAllowed: 3 });
    const uses = [redemption(token), redemption(token), redemption(token), redemption(token)];
    const outcomes = await current.store.commitBatch(uses, nothingSigned);
    expect(outcomes.map(({ status }) => status)).toEqual(['committed', 'committed', 'committed', 'refused']);
    const spkiSha256 = uses[1]?.certificate.spkiSha256 ?? '';
    expect(await outcomeOf(current.store, redemption(token, { spkiSha256 }))).toMatchObject({
      status: 'exists',
    });
    expect(current.store.token(token.token.tokenId)).toMatchObject({ usesAllowed: 3, usesTaken: 3 });
  });

  it('takes no use for a certificate that is refused', async () => {
    const token = await created(current.store);
    const taken = certificateMutation();
    await committed(current.store, taken);
    expect(await refused(current.store, redemption(token, { serial: taken.certificate.serial }))).toBe(
      'policy-conflict',
    );
    expect(current.store.token(token.token.tokenId)?.usesTaken).toBe(0);
    await committed(current.store, redemption(token));
  });

  it('yields the entry of the token and no other', async () => {
    const [token, other] = [await created(current.store), await created(current.store)];
    expect(await refused(current.store, redemption(token, { entryId: other.entry.entryId }))).toBe(
      'internal',
    );
  });

  it('I6 gives one certificate to 200 parallel redemptions with keys of their own', async () => {
    const token = await created(current.store);
    const outcomes = await parallel(current, () => redemption(token));
    expect(outcomes.filter(({ status }) => status === 'committed').length).toBe(1);
    expect(
      outcomes.filter((outcome) => outcome.status === 'refused' && outcome.code === 'policy-key-conflict')
        .length,
    ).toBe(199);
    expect(current.store.certificates({ limit: 300, tokenId: token.token.tokenId }).length).toBe(1);
  });

  it('I6 gives one certificate to 200 parallel redemptions with one key', async () => {
    const token = await created(current.store);
    const spkiSha256 = keyHash();
    const outcomes = await parallel(current, () => redemption(token, { spkiSha256 }));
    const serials = outcomes.map((outcome) =>
      outcome.status === 'exists' ? outcome.certificate.serial : undefined,
    );
    expect(outcomes.filter(({ status }) => status === 'committed').length).toBe(1);
    expect(serials.filter((serial) => serial !== undefined).length).toBe(199);
    expect(new Set(serials.filter((serial) => serial !== undefined)).size).toBe(1);
  });

  it('makes a second token for an entry as long as it is as it was', async () => {
    const first = await created(current.store);
    await committed(current.store, tokenMutation({ entry: first.entry }));
    expect(await refused(current.store, tokenMutation({ entry: { ...first.entry, version: 2 } }))).toBe(
      'policy-entry-changed',
    );
    await committed(current.store, {
      kind: 'entry-suspended',
      leaf: leaf(),
      entryId: first.entry.entryId,
      atMs: startMs,
    });
    expect(await refused(current.store, tokenMutation({ entry: first.entry }))).toBe('denied-suspended');
  });

  it('refuses a token id or secret that exists, with its entry', async () => {
    const first = await created(current.store);
    const sameId = tokenMutation({ token: { tokenId: first.token.tokenId } });
    expect(await refused(current.store, { ...sameId, secretSha256: randomBytes(32) })).toBe(
      'policy-conflict',
    );
    expect(current.store.entry(sameId.entry.entryId)).toBeUndefined();
    expect(await refused(current.store, { ...tokenMutation(), secretSha256: first.secretSha256 })).toBe(
      'policy-conflict',
    );
  });

  it('revokes a token once', async () => {
    const { token } = await created(current.store);
    const revoke: Kind<'token-revoked'> = {
      kind: 'token-revoked',
      leaf: leaf(),
      tokenId: token.tokenId,
      atMs: startMs + 7,
    };
    await committed(current.store, revoke);
    expect(current.store.token(token.tokenId)?.revokedAtMs).toBe(startMs + 7);
    expect(await refused(current.store, { ...revoke, atMs: startMs + 9 })).toBe('policy-conflict');
    expect(await refused(current.store, { ...revoke, tokenId: 't_none' })).toBe('request-not-found');
    expect(current.store.token(token.tokenId)?.revokedAtMs).toBe(startMs + 7);
  });

  it('lists tokens newest first, page by page', async () => {
    const shared = entry();
    const ids = ['t_b', 't_a', 't_c'];
    for (const tokenId of ids)
      await committed(current.store, tokenMutation({ entry: shared, token: { tokenId } }));
    expect(current.store.tokens({ limit: 2 }).map(({ tokenId }) => tokenId)).toEqual(['t_c', 't_a']);
    expect(current.store.tokens({ limit: 2, after: 't_a' }).map(({ tokenId }) => tokenId)).toEqual(['t_b']);
    expect(() => current.store.tokens({ limit: 2, after: 't_x' })).toThrow(
      expect.objectContaining({ code: 'request-malformed' }),
    );
  });
}

async function created(store: Store, token: Partial<Kind<'token'>['token']> = {}): Promise<Kind<'token'>> {
  const mutation = tokenMutation({ token });
  await committed(store, mutation);
  return mutation;
}

/** 200 redemptions through two writers, in batches of ten. */
async function parallel(current: Current, make: () => Kind<'certificate'>) {
  const other = await current.harness.second();
  const batches = Array.from({ length: 20 }, (_, round) =>
    (round % 2 === 0 ? current.store : other).commitBatch(Array.from({ length: 10 }, make), nothingSigned),
  );
  const outcomes = (await Promise.all(batches)).flat();
  await other.close();
  return outcomes;
}
