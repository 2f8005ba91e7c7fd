// A client in a process of its own: signs so often with the key, one line for each outcome, and keeps its session open
// until its input ends.
import type { HsmConfig } from '../../src/signer/hsm.ts';
import { openClient, outcome } from './client.ts';

const { hsm, ckaId, signatures } = JSON.parse(process.argv[2] ?? '') as {
  hsm: HsmConfig;
  ckaId: string;
  signatures: number;
};
const client = openClient(hsm);
process.stdout.write('open\n');
for (let count = 0; count < signatures; count += 1)
  process.stdout.write(`${outcome(() => client.sign(ckaId))}\n`);
process.stdin.resume();
