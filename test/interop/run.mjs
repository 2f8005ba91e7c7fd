// `npm run test:interop`: our programs with the software of others. Says first which software that is, one line each, last
// `N passed, N failed`. Arguments choose files by a part of their names, as vitest has it.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runTypeScript } from '../support/runner.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders = ['test/interop', 'test/support'].map((name) => join(root, name));
/** Where Debian has servers, which is not on everybody's path. */
const environment = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

/** What the machine has, and how each says its version. */
const programs = [
  ['node', '--version'],
  ['go', 'version'],
  ['python3', '--version'],
  ['java', '-version'],
  ['openssl', 'version'],
  ['curl', '--version'],
  ['nginx', '-v'],
  ['haproxy', '-v'],
  ['caddy', 'version'],
  ['psql', '--version'],
  ['redis-server', '--version'],
  ['mosquitto', '-h'],
  ['systemctl', '--version'],
  ['podman', '--version'],
  ['swtpm', '--version'],
];

/** What tests are made with, not what they talk to. */
const ownTools = ['vitest', 'esbuild'];

function run() {
  const work = mkdtempSync(join(tmpdir(), 'vouch-interop-'));
  try {
    for (const line of software()) console.log(`interop: with ${line}`);
    return report(vitest(join(work, 'report.json')));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function* software() {
  for (const [name, flag] of programs) yield `${name} ${versionOf(name, flag)}`;
  const texts = folders.flatMap((folder) => textsBelow(folder));
  const sources = texts.filter(({ name }) => name.endsWith('.ts')).map(({ text }) => text);
  yield* pinned(sources, /'([\w-]+)==([\d.]+)'/g, 'of Python');
  const modules = texts.filter(({ name }) => name === 'go.mod').map(({ text }) => text);
  yield* pinned(modules, /^(?:require |\t)(\S+) (v\S+)$/gm, 'of Go');
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const [name, version] of Object.entries(devDependencies))
    if (!ownTools.includes(name) && sources.some((text) => text.includes(`from '${name}'`)))
      yield `${name} ${version} of Node`;
}

function versionOf(name, flag) {
  const { stdout, stderr } = spawnSync(name, [flag], { env: environment, encoding: 'utf8', timeout: 30_000 });
  return /\d+\.\d[\w.-]*/.exec(`${stdout ?? ''}${stderr ?? ''}`)?.[0] ?? 'is not here';
}

function* pinned(texts, pattern, whose) {
  const found = texts.flatMap((text) =>
    [...text.matchAll(pattern)].map(([, name, version]) => `${name} ${version}`),
  );
  for (const line of [...new Set(found)].sort((a, b) => a.localeCompare(b))) yield `${line} ${whose}`;
}

function textsBelow(folder) {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.ts$|go\.mod$/.test(name))
    .map((name) => ({ name: basename(name), text: readFileSync(join(folder, name), 'utf8') }));
}

/** What vitest reports; without a report it did not come to an end. */
function vitest(file) {
  const chosen = process.argv.slice(2);
  const among = chosen.length > 0 ? chosen.map((name) => `test/interop/${name}`) : ['test/interop/'];
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const args = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...among, ...reporters];
  const { status } = spawnSync(process.execPath, args, { cwd: root, env: environment, stdio: 'inherit' });
  try {
    return { status, ...JSON.parse(readFileSync(file, 'utf8')) };
  } catch {
    return { status, numPassedTests: 0, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0 };
  }
}

function report({ status, numPassedTests, numFailedTests, numPendingTests, numTodoTests }) {
  const skipped = numPendingTests + numTodoTests;
  if (skipped > 0) console.log(`interop: ${skipped} tests were skipped, which counts as failed`);
  let failed = numFailedTests + skipped;
  // A file that does not load and an error that no test caught are failures without a failed test.
  if (failed === 0 && (status !== 0 || numPassedTests === 0)) failed = 1;
  console.log(`${numPassedTests} passed, ${failed} failed`);
  return failed > 0 ? 1 : 0;
}

process.exitCode = await runTypeScript('interop', run);
