// `npm run bench:revocation`: from a revocation to where it bites. docs/benchmarks/README.md says what is measured.
import { parseArgs } from 'node:util';
import { count, runTypeScript } from '../../support/runner.mjs';

const usage = `usage: npm run bench:revocation -- [--entries N] [--rounds N] [--json]
  --entries  revoked and unexpired certificates at the start; without it 1,000, 10,000, 100,000 and 1,000,000, written to
             docs/benchmarks/revocation-<date>.md and .json
  --rounds   revocations of each kind; 30 if not given
  --json     the last line on stdout is one JSON object, of the largest size`;

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  return runTypeScript('bench', async () => {
    const { runRevocationBench } = await import('./command.ts');
    return runRevocationBench(options);
  });
}

function readOptions() {
  const text = { type: 'string' };
  try {
    const { values } = parseArgs({ options: { entries: text, rounds: text, json: { type: 'boolean' } } });
    return {
      entries: values.entries === undefined ? undefined : count(values.entries, 'entries', 1),
      rounds: count(values.rounds ?? '30', 'rounds', 1),
      json: values.json ?? false,
    };
  } catch (error) {
    console.error(`bench: ${error.message}\n${usage}`);
    return undefined;
  }
}

process.exitCode = await main();
