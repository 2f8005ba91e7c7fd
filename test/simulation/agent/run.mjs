// `npm run test:agent-hours`: an agent by a simulated time: outages, deaths, wrong clocks, changed entries, reused process
// numbers, answers that do not hold; each second what workloads hold is held against what the server had.
import { parseArgs } from 'node:util';
import { count, runTypeScript } from '../../support/runner.mjs';

const usage = `usage: run.mjs [--hours N] [--seeds N] [--seed S] [--verbose] [--mutants]
  --hours    simulated hours of each seed; 72 if not given
  --seeds    how many, from --seed on; 1 if not given
  --seed     repeats the choices of an earlier run
  --verbose  says what happens
  --mutants  takes the agent apart, one change at a time, and expects each to be found`;

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  return runTypeScript('agent-hours', async () => {
    if (options.mutants) return (await import('./mutants.mjs')).runMutants(options);
    const { runSimulations } = await import('./command.ts');
    return runSimulations(options);
  });
}

function readOptions() {
  const text = { type: 'string' };
  const flag = { type: 'boolean', default: false };
  try {
    const { values } = parseArgs({
      options: { hours: text, seeds: text, seed: text, verbose: flag, mutants: flag },
    });
    const { verbose, mutants } = values;
    return {
      hours: count(values.hours ?? '72', 'hours', 1),
      seeds: count(values.seeds ?? '1', 'seeds', 1),
      seed: count(values.seed ?? String(Date.now() % 1_000_000), 'seed', 0),
      verbose,
      mutants,
    };
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    return undefined;
  }
}

process.exitCode = await main();
