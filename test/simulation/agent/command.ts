import { simulate } from './simulation.ts';

/** Runs simulations of seeds in a row, prints their results, and returns the exit code. */
export async function runSimulations({
  hours,
  seeds,
  seed: first,
  verbose,
}: {
  hours: number;
  seeds: number;
  seed: number;
  verbose: boolean;
}): Promise<number> {
  let failed = 0;
  for (let seed = first; seed < first + seeds; seed += 1) {
    const complain = (line: string): void => void process.stderr.write(`seed ${seed}: ${line}\n`);
    const startedAt = process.hrtime.bigint();
    const { trace, counts, problems } = await simulate({ hours, seed, ...(verbose && { notice: complain }) });
    const seconds = Number((process.hrtime.bigint() - startedAt) / 1_000_000n) / 1000;
    for (const problem of problems) complain(problem);
    const said = Object.entries(counts).map(([name, count]) => `${name} ${count}`);
    process.stdout.write(
      `seed ${seed}: ${hours} h, ${said.join(', ')} in ${seconds.toFixed(1)} s, trace ${trace.slice(0, 16)}\n`,
    );
    if (problems.length > 0) failed += 1;
  }
  process.stdout.write(`${seeds - failed} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}
