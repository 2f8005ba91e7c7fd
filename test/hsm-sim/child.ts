// A client in a process of its own: each of its threads signs so often with the key, one line for each outcome, and keeps
// its session open until the input ends.
import { isMainThread, Worker } from 'node:worker_threads';
import type { HsmConfig } from '../../src/signer/hsm.ts';
import { openClient, outcome } from './client.ts';

const given = process.argv[2] ?? '';
const { hsm, ckaId, signatures, threads } = JSON.parse(given) as {
  hsm: HsmConfig;
  ckaId: string;
  signatures: number;
  threads: number;
};
const client = openClient(hsm);
console.log('open');
if (isMainThread) {
  for (let count = 1; count < threads; count += 1) new Worker(new URL(import.meta.url), { argv: [given] });
  process.stdin.resume();
}
for (let count = 0; count < signatures; count += 1) console.log(outcome(() => client.sign(ckaId)));
