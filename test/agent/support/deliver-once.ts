// A program for tests: what stands in the file of its argument (`targets` of `deliver:`, validated, and a `Served`, Buffers as JSON has
// them) is delivered; it says what happens, and ends when nothing waits or its input does.
import { readFileSync } from 'node:fs';
import { DeliverTargets } from '../../../src/agent/deliver/targets.ts';
import type { Served } from '../../../src/agent/workloads.ts';
import type { DeliverTarget } from '../../../src/config/deliver-config.ts';
import { systemClock } from '../../../src/core/clock.ts';

const revived = (_key: string, value: unknown): unknown => {
  const { type, data } = (value ?? {}) as { type?: string; data?: number[] };
  return type === 'Buffer' && data !== undefined ? Buffer.from(data) : value;
};
const input = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8'), revived) as {
  targets: DeliverTarget[];
  served: Served;
};
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const deliver = new DeliverTargets(input.targets, { clock: systemClock, notice: say, withheld: () => [] });
deliver.take(input.served);
const isDone = (): boolean =>
  deliver
    .status()
    .every(({ files, crls, reload }) =>
      [files, crls, reload].every((outcome) => outcome?.waitingSince === undefined),
    );
while (!isDone()) await new Promise((done) => setTimeout(done, 20));
await deliver.close();
