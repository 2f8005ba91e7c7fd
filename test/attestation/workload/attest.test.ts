import { expect, test } from 'vitest';
import { createAttest } from '../../../src/attestation/workload/attest.ts';
import { FakePeer } from '../../fakes/workload-peer.ts';

/** Sees a uid at no cost, and what is dear as asked. */
function attestorOf(uid: number) {
  const looks: string[] = [];
  const look = (start: string) => async () => {
    looks.push(start);
    return `${start}/bin/web`;
  };
  const attestor = {
    look: async () => [`unix:uid:${uid}`],
    dear: new Map(['unix:path:', 'unix:sha256:'].map((start) => [start, look(start)])),
  };
  return { attestor, looks };
}

const entries = Array.from({ length: 10_000 }, (_, index) => ({
  selectors: [`unix:uid:${index}`, `unix:path:/bin/${index}`, `unix:sha256:${index}`],
}));

test('a stranger costs a millisecond where there are ten thousand entries, and has nothing read', async () => {
  const { attestor, looks } = attestorOf(20_000);
  const attest = createAttest([attestor], () => entries);
  const hundred = async () => {
    const startedMs = performance.now();
    for (let index = 0; index < 100; index += 1) await attest(new FakePeer());
    return performance.now() - startedMs;
  };
  expect(Math.min(await hundred(), await hundred(), await hundred())).toBeLessThan(100);
  expect(looks).toEqual([]);
});

test('what is dear is looked at once, of what the entries ask that all else fits', async () => {
  const { attestor, looks } = attestorOf(7);
  const some = [...entries, { selectors: ['unix:uid:7', 'unix:path:/bin/web'] }, { selectors: [] }];
  const seen = await createAttest([attestor], () => some)(new FakePeer());
  expect([...seen]).toEqual(['unix:uid:7', 'unix:path:/bin/web', 'unix:sha256:/bin/web']);
  expect(looks).toEqual(['unix:path:', 'unix:sha256:']);
});
