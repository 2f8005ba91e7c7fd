// `npm run test:hsm-matrix`: every PKCS#11 error from every function that the signer calls, at rest and under load, with
// one server that nobody restarts; then what an outage costs.
import { parseArgs } from 'node:util';
import { count, runTypeScript } from '../support/runner.mjs';

const usage = `usage: run.mjs [--sample N] [--only TEXT] [--seed S] [--json]
  --sample  a part of the matrix in which each return value and each function comes N times; all of it if not given
  --only    cases whose name has this text, such as C_Login or "CKR_DEVICE_ERROR from C_Sign"; no figures
  --seed    chooses the sample; an earlier run's repeats it
  --json    the result as one JSON object on the last line; without it a summary, and progress on stderr
VOUCH_DIST names another build than dist/.`;

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  return runTypeScript('hsm-matrix', async () => {
    const { runMatrix } = await import('./command.ts');
    return runMatrix(options);
  });
}

function readOptions() {
  const text = { type: 'string' };
  try {
    const { values } = parseArgs({
      options: { sample: text, only: text, seed: text, json: { type: 'boolean' } },
    });
    return {
      sample: values.sample === undefined ? undefined : count(values.sample, 'sample', 1),
      only: values.only,
      seed: count(values.seed ?? String(Date.now() % 1_000_000), 'seed', 0),
      json: values.json ?? false,
    };
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    return undefined;
  }
}

process.exitCode = await main();
