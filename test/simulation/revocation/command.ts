import { type SimulationOptions, simulate } from './simulation.ts';

/** Runs one simulation, prints its result, and returns the exit code. */
export async function runSimulation(options: SimulationOptions & { json: boolean }): Promise<number> {
  const { seed, json } = options;
  const complain = (line: string): void => void process.stderr.write(`seed ${seed}: ${line}\n`);
  const startedMs = process.hrtime.bigint();
  const { counts, problems, refused } = await simulate({ ...options, ...(json ? {} : { notice: complain }) });
  const seconds = Number((process.hrtime.bigint() - startedMs) / 1_000_000n) / 1000;
  const failures = [...problems, ...refused.map((one) => `held back: ${one}`)];
  for (const failure of failures.slice(0, 10)) complain(failure.slice(0, 400));
  const { published = 0 } = counts;
  const said = Object.entries(counts).map(([name, count]) => `${name} ${count}`);
  process.stdout.write(
    json
      ? `${JSON.stringify({ seed, seconds, ...counts, failures: failures.length })}\n`
      : `seed ${seed}: ${said.join(', ')} in ${seconds.toFixed(1)} s\n${published} passed, ${failures.length} failed\n`,
  );
  return failures.length === 0 ? 0 : 1;
}
