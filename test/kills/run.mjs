// `npm run test:kills`: kills server and signer at random moments under enrolling clients, and holds what every client
// ever got against what is left.
import { parseArgs } from 'node:util';
import { count, runTypeScript } from '../support/runner.mjs';

const usage = `usage: run.mjs [--kills N] [--seed S] [--json]
  --kills  processes to kill; 300 if not given
  --seed   repeats the choices of an earlier run: whom to kill, when, what clients do (not the machine's own timing)
  --json   the result as one JSON object on the last line; without it a summary, and progress on stderr
VOUCH_DIST names another build than dist/, for instance a mutation build.`;

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  return runTypeScript('kills', async () => {
    if (process.env.VOUCH_KILLS_ROLE === 'clients') {
      const { runClients } = await import('./clients.ts');
      return runClients();
    }
    const { runKills } = await import('./command.ts');
    return runKills(options);
  });
}

function readOptions() {
  const text = { type: 'string' };
  try {
    const { values } = parseArgs({ options: { kills: text, seed: text, json: { type: 'boolean' } } });
    return {
      kills: count(values.kills ?? '300', 'kills', 1),
      seed: count(values.seed ?? String(Date.now() % 1_000_000), 'seed', 0),
      json: values.json ?? false,
    };
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    return undefined;
  }
}

process.exitCode = await main();
