import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Mutation, MutationOutcome, Store } from '../../src/store/port.ts';
import { certificateConformance } from './conformance-certificates.ts';
import { joinTokenConformance } from './conformance-join-tokens.ts';
import { massRevocationConformance } from './conformance-mass-revocations.ts';
import { registrationConformance } from './conformance-registration.ts';
import { crlPiecesConformance } from './conformance-crl-pieces.ts';
import { revocationEventsConformance } from './conformance-revocation-events.ts';
import { revocationConformance } from './conformance-revocation.ts';
import { rowsConformance } from './conformance-rows.ts';
import {
  certificateMutation,
  committed,
  identity,
  leafHash,
  nothingSigned,
  operatorMutation,
  redemption,
  startMs,
  tokenMutation,
} from './fixture.ts';

/** An adapter on a fresh state of `identity`, as the suite drives it. */
export interface StoreHarness {
  store: Store;
  /** Another process's view of the same state, open at the same time. */
  second(): Promise<Store>;
  /** Closes the first store and opens the state again. */
  reopen(): Promise<Store>;
  dispose(): Promise<void>;
}

/** Gives the store of the running test. */
export type Current = { harness: StoreHarness; store: Store };

/** What every adapter of the store's port does; `open` makes a fresh state for each test. */
export function storeConformance(adapter: string, open: () => Promise<StoreHarness>): void {
  describe(`${adapter}: store conformance`, () => {
    const current = {} as Current;
    beforeEach(async () => {
      current.harness = await open();
      current.store = current.harness.store;
    });
    afterEach(async () => current.harness.dispose());

    describe('state', () => stateConformance(current));
    describe('batches', () => batchConformance(current));
    describe('certificates', () => certificateConformance(current));
    describe('join tokens', () => joinTokenConformance(current));
    describe('entries and authorities', () => registrationConformance(current));
    describe('revocation and CRLs', () => revocationConformance(current));
    describe('events of a serial', () => revocationEventsConformance(current));
    describe('mass revocations', () => massRevocationConformance(current));
    describe('pieces of CRLs', () => crlPiecesConformance(current));
    describe('all rows', () => rowsConformance(current));
  });
}

function stateConformance(current: Current): void {
  it('keeps its identity and its clock mark', async () => {
    expect(current.store.identity()).toEqual(identity);
    expect(current.store.clockMark().wallMs).toBe(startMs);
    const mark = { wallMs: startMs + 5, monotonicMs: 1234.567, bootId: 'this boot' };
    await current.store.setClockMark(mark);
    const store = await current.harness.reopen();
    expect(store.identity()).toEqual(identity);
    expect(store.clockMark()).toEqual(mark);
  });

  it('is empty at first', () => {
    const { store } = current;
    expect(store.treeSize()).toBe(0);
    expect(store.leaves(0, 0)).toEqual([]);
    expect(store.checkpointNote()).toBeUndefined();
    expect([store.authorities(), store.rows().revocations(-1, 1), store.crls()]).toEqual([[], [], []]);
  });

  it('says that it can be written to', () => {
    expect(current.store.writable()).toBe(true);
  });

  it('refuses writes after it was closed, and closes twice', async () => {
    await current.store.close();
    await current.store.close();
    await expect(current.store.setClockMark({ wallMs: 1, monotonicMs: 1, bootId: '' })).rejects.toMatchObject(
      { code: 'unavailable-stopping' },
    );
    await expect(current.store.commitBatch([operatorMutation()], nothingSigned)).rejects.toMatchObject({
      code: 'unavailable-stopping',
    });
  });
}

function batchConformance(current: Current): void {
  it('gives leaf indices in order and keeps the leaves byte for byte', async () => {
    const batch = [operatorMutation(), certificateMutation(), operatorMutation()];
    const outcomes = await current.store.commitBatch(batch, nothingSigned);
    expect(outcomes).toEqual([0, 1, 2].map((leafIndex) => ({ status: 'committed', leafIndex })));
    expect(await committed(current.store, operatorMutation())).toBe(3);
    const store = await current.harness.reopen();
    expect(store.treeSize()).toBe(4);
    expect(store.leaves(0, 3)).toEqual(batch.map(({ leaf }) => leaf.bytes));
    expect(store.leafHashes(1, 3)).toEqual(batch.slice(1).map(({ leaf }) => leafHash(leaf.bytes)));
  });

  it('takes a leaf of 65,535 bytes and not one more', async () => {
    const large = { ...operatorMutation(), leaf: { bytes: randomBytes(65_535), hash: randomBytes(32) } };
    expect(await committed(current.store, large)).toBe(0);
    expect(current.store.leaves(0, 1)).toEqual([large.leaf.bytes]);
    const larger = { ...operatorMutation(), leaf: { bytes: randomBytes(65_536), hash: randomBytes(32) } };
    expect(await current.store.commitBatch([larger], nothingSigned)).toMatchObject([
      { status: 'refused', code: 'internal' },
    ]);
  });

  it('leaves the batch alone when one mutation fails, without a hole in the log', async () => {
    const first = certificateMutation();
    const same = certificateMutation({ serial: first.certificate.serial });
    const last = certificateMutation();
    const outcomes = await current.store.commitBatch([first, same, last], nothingSigned);
    expect(outcomes).toMatchObject([
      { status: 'committed', leafIndex: 0 },
      { status: 'refused', code: 'policy-conflict' },
      { status: 'committed', leafIndex: 1 },
    ]);
    expect(current.store.leaves(0, current.store.treeSize())).toEqual([first.leaf.bytes, last.leaf.bytes]);
    expect(current.store.certificatesByLeaf(0, 10).map(({ leafIndex }) => leafIndex)).toEqual([0, 1]);
  });

  it('refuses a leaf range that the log does not hold', async () => {
    await committed(current.store, operatorMutation());
    expect(() => current.store.leaves(0, 2)).toThrow(expect.objectContaining({ code: 'integrity-log' }));
    expect(() => current.store.leafHashes(1, 2)).toThrow(expect.objectContaining({ code: 'integrity-log' }));
  });

  it('stores signatures and checkpoint with a batch, and without one', async () => {
    const leafIndex = await committed(current.store, certificateMutation());
    const [signature, other] = [randomBytes(71), randomBytes(70)];
    await current.store.commitBatch([operatorMutation()], {
      signatures: [{ kind: 'certificate', leafIndex, signature }],
      checkpointNote: 'note 1',
    });
    expect(current.store.certificatesByLeaf(0, 1)).toMatchObject([{ signature }]);
    expect(current.store.checkpointNote()).toBe('note 1');
    await current.store.storeSigned({
      signatures: [{ kind: 'certificate', leafIndex, signature: other }],
      checkpointNote: 'note 2',
    });
    const store = await current.harness.reopen();
    expect(store.checkpointNote()).toBe('note 2');
    expect(store.certificatesByLeaf(0, 1), 'the first signature stays').toMatchObject([{ signature }]);
  });

  it('does nothing for an empty batch', async () => {
    expect(await current.store.commitBatch([], nothingSigned)).toEqual([]);
    await current.store.storeSigned(nothingSigned);
    await current.store.releaseExpired('00'.repeat(20), []);
    expect(current.store.treeSize()).toBe(0);
  });

  it('fails as a whole, with nothing written, on a signature for no certificate', async () => {
    const signed = {
      signatures: [{ kind: 'certificate' as const, leafIndex: 7, signature: randomBytes(8) }],
      checkpointNote: 'n',
    };
    await expect(current.store.commitBatch([operatorMutation()], signed)).rejects.toThrow(/leaf 7/);
    expect(current.store.treeSize()).toBe(0);
    expect(current.store.checkpointNote()).toBeUndefined();
    expect(await committed(current.store, operatorMutation())).toBe(0);
  });

  it('logs exactly what it committed, in order, however the mutations are batched', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(fc.nat(5), { maxLength: 6 }), { maxLength: 5 }), async (plan) => {
        const before = current.store.treeSize();
        const pool = await preparedPool(current.store);
        const expected = [...current.store.leaves(before, current.store.treeSize())];
        for (const picks of plan) {
          const batch = picks.map((pick) => pool(pick));
          const outcomes = await current.store.commitBatch(batch, nothingSigned);
          expect(outcomes.length).toBe(batch.length);
          for (const [position, outcome] of outcomes.entries())
            if (outcome.status === 'committed')
              expect(expected.push(batch[position]?.leaf.bytes as Buffer) - 1).toBe(
                outcome.leafIndex - before,
              );
        }
        expect(current.store.leaves(before, current.store.treeSize())).toEqual(expected);
        expect(
          current.store
            .certificatesByLeaf(before, 1_000)
            .every(({ leafIndex, tbs }) => expected[leafIndex - before]?.equals(tbs)),
        ).toBe(true);
      }),
      { numRuns: 25 },
    );
  });

  it('serves two writers without giving an index twice', async () => {
    const other = await current.harness.second();
    const writes: Promise<MutationOutcome[]>[] = [];
    for (let round = 0; round < 20; round += 1)
      writes.push(
        ...[current.store, other].map((store) =>
          store.commitBatch([operatorMutation(), operatorMutation()], nothingSigned),
        ),
      );
    const indices = (await Promise.all(writes))
      .flat()
      .map((outcome) => (outcome.status === 'committed' ? outcome.leafIndex : -1));
    expect(indices.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 80 }, (_, index) => index));
    await other.close();
  });
}

/** Mutations of which some are refused, some retried. */
async function preparedPool(store: Store): Promise<(pick: number) => Mutation> {
  const token = tokenMutation({ token: { usesAllowed: 2 } });
  await committed(store, token);
  const fixed = certificateMutation();
  const retried = redemption(token);
  const pool: (() => Mutation)[] = [
    operatorMutation,
    () => certificateMutation(),
    () => fixed,
    () => retried,
    () => redemption(token),
    () => ({ kind: 'entry-resumed', leaf: operatorMutation().leaf, entryId: 'missing' }),
  ];
  return (pick) => (pool[pick] ?? operatorMutation)();
}
