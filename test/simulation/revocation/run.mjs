// `npm run test:revocations`: revocations, holds, releases, expiry, crashes and wrong clocks by a simulated time; after each
// publication every CRL is held against what really happened.
import { parseArgs } from 'node:util';
import { count, runTypeScript } from '../../support/runner.mjs';

const usage = `usage: run.mjs [--revocations N] [--seed S] [--json] [--mutants]
  --revocations  certificates to revoke; 100000 if not given
  --seed         repeats the choices of an earlier run
  --json         the result as one JSON object on the last line; without it a summary
  --mutants      takes writer and gate apart, one change at a time, and expects each to be found`;

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  if (options.mutants) {
    const { runMutants } = await import('./mutants.mjs');
    return runMutants(options);
  }
  return runTypeScript('revocations', async () => {
    const { runSimulation } = await import('./command.ts');
    return runSimulation(options);
  });
}

function readOptions() {
  const text = { type: 'string' };
  const flag = { type: 'boolean', default: false };
  try {
    const { values } = parseArgs({ options: { revocations: text, seed: text, json: flag, mutants: flag } });
    const { json, mutants } = values;
    return {
      revocations: count(values.revocations ?? '100000', 'revocations', 1),
      seed: count(values.seed ?? String(Date.now() % 1_000_000), 'seed', 0),
      json,
      mutants,
    };
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    return undefined;
  }
}

process.exitCode = await main();
