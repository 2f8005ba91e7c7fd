import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import type { RegistrationEntry, Selector } from '../../src/core/registration.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import type { Store } from '../../src/store/port.ts';
import type { AuthorityRecord } from '../../src/store/records.ts';
import type { Current } from './conformance.ts';
import {
  committed,
  entry,
  issuerKeyId,
  leaf,
  otherIssuerKeyId,
  redemption,
  refused,
  renewal,
  startMs,
  tokenMutation,
} from './fixture.ts';

export function registrationConformance(current: Current): void {
  it('gives back every field of an entry', async () => {
    const plain = entry();
    const odd = entry({
      selectors: [selector('unix:uid', '1000'), selector('unix', 'uid:1000'), selector('x', 'é ☃ "\\\u0000')],
      dnsNames: [],
      ipAddresses: ['2001:db8::1'],
      lifetimeSeconds: 600,
      version: 4,
      suspendedAtMs: startMs + 1,
    });
    await store(current.store, plain, odd);
    expect(current.store.entry(plain.entryId)).toEqual(plain);
    expect(current.store.entry(odd.entryId)).toEqual(odd);
    expect(current.store.entry('e_none')).toBeUndefined();
  });

  it('finds the entries whose selectors are all shown, oldest first', async () => {
    const [a, b, c] = [selector('unix', 'uid:1'), selector('unix', 'gid:2'), selector('k8s', 'ns:x')];
    const young = entry({ selectors: [a], createdAtMs: startMs + 10 });
    const both = entry({ selectors: [a, b], createdAtMs: startMs + 1 });
    const repeated = entry({ selectors: [b, b], createdAtMs: startMs + 2 });
    const none = entry({ selectors: [] });
    await store(current.store, young, both, repeated, none);
    const matching = (...shown: Selector[]) =>
      current.store
        .entriesMatching(shown.map(({ type, value }) => `${type}:${value}`))
        .map(({ entryId }) => entryId);
    expect(matching(a)).toEqual([young.entryId]);
    expect(matching(b, b)).toEqual([repeated.entryId]);
    expect(matching(c, b, a)).toEqual([both.entryId, repeated.entryId, young.entryId]);
    expect(matching(c)).toEqual([]);
    expect(matching(), 'no selectors: nobody, not even an entry without any').toEqual([]);
  });

  it('matches selectors byte for byte', async () => {
    await store(current.store, entry({ selectors: [selector('unix', 'path:/A')] }));
    for (const shown of ['unix:path:/a', 'unix:path:/A ', 'unix:path:/%', 'unix:path:/A\u0000'])
      expect(current.store.entriesMatching([shown])).toEqual([]);
    expect(current.store.entriesMatching(['unix:path:/A']).length).toBe(1);
  });

  it('lists entries newest first, by SPIFFE ID, page by page', async () => {
    const billing = parseSpiffeId('spiffe://example.test/billing');
    const all = [
      entry({ entryId: 'e_2' }),
      entry({ entryId: 'e_1', spiffeId: billing }),
      entry({ entryId: 'e_3' }),
    ];
    await store(current.store, ...all);
    const ids = (page: Parameters<Store['entries']>[0]) =>
      current.store.entries(page).map(({ entryId }) => entryId);
    expect(ids({ limit: 2 })).toEqual(['e_3', 'e_1']);
    expect(ids({ limit: 2, after: 'e_1' })).toEqual(['e_2']);
    expect(ids({ limit: 5, spiffeId: billing })).toEqual(['e_1']);
    expect(ids({ limit: 5, spiffeId: billing, after: 'e_1' })).toEqual([]);
    expect(() => ids({ limit: 1, after: 'e_none' })).toThrow(
      expect.objectContaining({ code: 'request-malformed' }),
    );
  });

  it('lists the entries of a parent and says by which leaf they changed last', async () => {
    const [agent, other] = ['a', 'b'].map((name) => parseSpiffeId(`spiffe://example.test/host/${name}`));
    const billing = parseSpiffeId('spiffe://example.test/billing');
    const create = (over: Partial<RegistrationEntry>) =>
      committed(current.store, { kind: 'entry-created', leaf: leaf(), entry: entry(over) });
    await store(current.store, entry());
    expect(agent && current.store.entriesChangedBy(agent)).toBeUndefined();
    if (!agent) return;
    await create({ entryId: 'e_1', parentId: agent, hint: 'é'.repeat(512) });
    const second = await create({ entryId: 'e_2', parentId: agent, spiffeId: billing });
    await create({ entryId: 'e_3', parentId: other });
    const ids = (page: Parameters<Store['entries']>[0]) =>
      current.store.entries(page).map(({ entryId }) => entryId);
    expect(ids({ limit: 9, parentId: agent })).toEqual(['e_2', 'e_1']);
    expect(ids({ limit: 1, parentId: agent })).toEqual(['e_2']);
    expect(ids({ limit: 9, parentId: agent, after: 'e_2' })).toEqual(['e_1']);
    expect(ids({ limit: 9, parentId: agent, spiffeId: billing })).toEqual(['e_2']);
    expect(current.store.entry('e_1')).toMatchObject({ parentId: agent, hint: 'é'.repeat(512) });
    expect(current.store.entriesChangedBy(agent)).toBe(second);
    const at = { entryId: 'e_1', leaf: leaf(), atMs: startMs };
    const suspended = await committed(current.store, { kind: 'entry-suspended', ...at });
    expect(current.store.entriesChangedBy(agent)).toBe(suspended);
    const resumed = await committed(current.store, { kind: 'entry-resumed', ...at });
    expect(current.store.entriesChangedBy(agent)).toBe(resumed);
    const deleted = await committed(current.store, { kind: 'entry-deleted', parentId: agent, ...at });
    expect(current.store.entriesChangedBy(agent)).toBe(deleted);
    expect(ids({ limit: 9, parentId: agent })).toEqual(['e_2']);
  });

  it('creates no entry for a suspended identity', async () => {
    const { entryId, spiffeId } = entry();
    await store(current.store, entry({ entryId }));
    const create = { kind: 'entry-created' as const, leaf: leaf(), entry: entry({ spiffeId }) };
    const at = { entryId, parentId: undefined, leaf: leaf(), atMs: startMs };
    await committed(current.store, { kind: 'entry-suspended', ...at });
    expect(await refused(current.store, create)).toBe('denied-suspended');
    await committed(current.store, { kind: 'entry-deleted', ...at });
    await committed(current.store, create);
  });

  it('knows a deleted entry no more, and issues nothing by it, but finds its certificates', async () => {
    const token = tokenMutation();
    const { entryId } = token.entry;
    const first = redemption(token);
    for (const mutation of [token, first]) await committed(current.store, mutation);
    const at = { entryId, parentId: undefined, leaf: leaf(), atMs: startMs + 1 };
    await committed(current.store, { kind: 'entry-deleted', ...at });
    expect(current.store.entry(entryId)).toBeUndefined();
    expect(current.store.entriesMatching([`join_token:${entryId}`])).toEqual([]);
    expect(current.store.entries({ limit: 9 })).toEqual([]);
    expect(current.store.entries({ limit: 9, spiffeId: token.entry.spiffeId })).toEqual([]);
    expect(current.store.isEntryOnRecord(entryId)).toBe(true);
    expect(current.store.isEntryOnRecord('e_none')).toBe(false);
    expect(await refused(current.store, renewal(first))).toBe('policy-entry-changed');
    expect(await refused(current.store, { ...renewal(first), entryVersion: 2 })).toBe('policy-entry-changed');
    for (const kind of ['entry-suspended', 'entry-deleted', 'entry-resumed'] as const)
      expect(await refused(current.store, { kind, ...at })).toBe('policy-conflict');
    const [found] = current.store.unexpiredCertificates({ entryId }, startMs);
    expect(found).toMatchObject({ serial: first.certificate.serial, entryId, entrySuspended: true });
  });

  it('suspends and resumes once each, raising the version', async () => {
    const { entryId } = entry();
    await store(current.store, entry({ entryId }));
    const suspend = { kind: 'entry-suspended' as const, leaf: leaf(), entryId, atMs: startMs + 3 };
    const resume = { kind: 'entry-resumed' as const, leaf: leaf(), entryId };
    expect(await refused(current.store, resume)).toBe('policy-conflict');
    await committed(current.store, suspend);
    expect(current.store.entry(entryId)).toMatchObject({ suspendedAtMs: startMs + 3, version: 2 });
    expect(await refused(current.store, { ...suspend, atMs: startMs + 4 })).toBe('policy-conflict');
    await committed(current.store, resume);
    expect(current.store.entry(entryId)).toMatchObject({ suspendedAtMs: undefined, version: 3 });
    expect(await refused(current.store, { ...suspend, entryId: 'e_none' })).toBe('request-not-found');
    expect(await refused(current.store, { ...resume, entryId: 'e_none' })).toBe('request-not-found');
  });

  it('keeps authorities in the order they came, through their states', async () => {
    const root: AuthorityRecord = {
      keyId: otherIssuerKeyId,
      kind: 'root',
      state: 'active',
      algorithm: 'rsa-pss-sha256',
      certificateDer: randomBytes(300),
    };
    const issuer: AuthorityRecord = {
      keyId: issuerKeyId,
      kind: 'issuer',
      state: 'prepared',
      algorithm: 'ecdsa-sha256',
      certificateDer: randomBytes(300),
    };
    for (const authority of [root, issuer, { ...issuer, state: 'active' as const }])
      await committed(current.store, { kind: 'authority', leaf: leaf(), authority });
    expect(current.store.authorities()).toEqual([root, { ...issuer, state: 'active' }]);
    for (const change of [{ kind: 'root' }, { algorithm: 'ecdsa-sha384' }] as const)
      expect(
        await refused(current.store, {
          kind: 'authority',
          leaf: leaf(),
          authority: { ...issuer, ...change },
        }),
      ).toBe('policy-conflict');
  });

  it('keeps the newest statement, of a sequence that only rises', async () => {
    expect(current.store.statement()).toBeUndefined();
    const state = (sequence: number) => ({
      kind: 'statement' as const,
      leaf: leaf(),
      sequence,
      statement: `jws ${sequence}`,
    });
    await committed(current.store, state(3));
    for (const sequence of [3, 2, 0])
      expect(await refused(current.store, state(sequence))).toBe('policy-conflict');
    await committed(current.store, state(7));
    expect((await current.harness.reopen()).statement()).toBe('jws 7');
  });

  it('keeps every key of JWT-SVIDs in the order in which they came', async () => {
    const key = (issuerKeyId: string, keyId: string) => ({
      ...{ issuerKeyId, keyId, publicKeySpki: Buffer.from(keyId) },
    });
    const keys = [key('first', 'a'), key('standby', 'b'), key('first', 'c')];
    for (const jwtKey of keys) await committed(current.store, { kind: 'jwt-key', leaf: leaf(), jwtKey });
    const store = await current.harness.reopen();
    expect(store.jwtKeys()).toMatchObject(keys);
    expect(store.rows().jwtKeys(-1, 9)).toEqual(store.jwtKeys());
    expect(store.rows().jwtKeys(store.jwtKeys()[0]?.leafIndex ?? 0, 1)).toMatchObject([keys[1]]);
  });

  it('keeps the newest cross-certificate', async () => {
    expect(current.store.crossChain()).toBeUndefined();
    for (const chainPem of ['first', 'second'])
      await committed(current.store, { kind: 'cross-certificate', leaf: leaf(), chainPem });
    const store = await current.harness.reopen();
    expect(store.crossChain()).toBe('second');
    expect(
      store
        .rows()
        .crossCertificates(-1, 9)
        .map(({ chainPem }) => chainPem),
    ).toEqual(['first', 'second']);
  });
}

function selector(type: string, value: string): Selector {
  return { type, value };
}

/** Entries come with their tokens. */
async function store(target: Store, ...entries: RegistrationEntry[]): Promise<void> {
  for (const each of entries) await committed(target, tokenMutation({ entry: each }));
}
