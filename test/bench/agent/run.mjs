// `npm run bench:agent`: how small and how fast the agent is. docs/benchmarks/README.md says what is measured.
import { parseArgs } from 'node:util';
import { count, runTypeScript } from '../../support/runner.mjs';

const usage = `usage: npm run bench:agent -- [--rounds N] [--entries N] [--starts] [--write] [--json]
  --rounds   cold starts of each kind; 9 if not given
  --entries  the largest number of entries that the agent rests with; 1000 if not given
  --starts   cold starts alone
  --write    also to docs/benchmarks/agent-<date>.md and .json
  --json     the last line on stdout is one JSON object`;

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  return runTypeScript('bench', async () => {
    const { runAgentBench } = await import('./command.ts');
    return runAgentBench(options);
  });
}

function readOptions() {
  const [text, flag] = [{ type: 'string' }, { type: 'boolean', default: false }];
  try {
    const options = { rounds: text, entries: text, starts: flag, write: flag, json: flag };
    const { values } = parseArgs({ options });
    if (values.starts && values.write) throw new Error('--write takes a whole run');
    return {
      ...values,
      rounds: count(values.rounds ?? '9', 'rounds', 1),
      entries: count(values.entries ?? '1000', 'entries', 1),
    };
  } catch (error) {
    console.error(`bench: ${error.message}\n${usage}`);
    return undefined;
  }
}

process.exitCode = await main();
