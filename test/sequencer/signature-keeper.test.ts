import { expect, it } from 'vitest';
import { SignatureKeeper } from '../../src/sequencer/signature-keeper.ts';
import type { SignedSoFar } from '../../src/store/port.ts';
import { eventually } from '../support/running.ts';

const signature = { kind: 'certificate', leafIndex: 7, signature: Buffer.from('signed') } as const;

it('what could not be stored is tried again without anything else to store', async () => {
  const stored: SignedSoFar[] = [];
  let failures = 1;
  const keeper = new SignatureKeeper(
    {
      storeSigned: async (signed) => {
        if (failures > 0) {
          failures -= 1;
          throw new Error('the disk is full');
        }
        stored.push(signed);
      },
    },
    5,
  );
  keeper.keep([signature], 'note');
  await eventually(() => stored.length > 0);
  expect(stored).toEqual([{ signatures: [signature], checkpointNote: 'note' }]);
  await keeper.close();
});

it('nothing runs after the end, also where the last try failed', async () => {
  let tries = 0;
  const keeper = new SignatureKeeper(
    {
      storeSigned: async () => {
        tries += 1;
        throw new Error('the disk is full');
      },
    },
    60_000,
  );
  keeper.keep([signature], undefined);
  await keeper.close();
  expect(tries).toBe(1);
});
