#!/usr/bin/env node
// `npm run check`: everything that can be said about the code without running it. Each step runs, whatever the others
// say; one line a step, what a failed one printed below its line; exit 1 if any failed.
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const binaries = join(root, 'node_modules/.bin');
const environment = {
  ...process.env,
  PATH: [dirname(process.execPath), binaries, process.env.PATH].join(delimiter),
  NO_COLOR: '1',
  FORCE_COLOR: undefined,
};
const stepTimeoutMs = 300_000;
const outputMaxBytes = 64 * 1024 * 1024;

const steps = [
  {
    name: 'types',
    run: () => tool('tsc', ['-p', '.']),
  },
  { name: 'lint', run: () => tool('oxlint', ['--deny-warnings', '--format=unix']) },
  { name: 'layers', run: layers },
  { name: 'unused code', run: () => tool('knip', ['--no-progress', '--no-config-hints']) },
  { name: 'format', run: format },
  { name: 'text', run: text },
];

async function main() {
  const failed = [];
  const waiting = [...steps];
  const worker = async () => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift())
      if (!(await report(step))) failed.push(step.name);
  };
  await Promise.all([worker(), worker()]);
  return failed.length === 0 ? 0 : 1;
}

async function report({ name, run }) {
  const start = performance.now();
  const problems = await run().catch((error) => String(error.stack));
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`check: ${name.padEnd(12)} ${problems === '' ? 'ok    ' : 'FAILED'} ${seconds.padStart(5)} s`);
  if (problems !== '') console.log(`${problems.trimEnd()}\n`);
  return problems === '';
}

/** Runs a tool of node_modules/.bin; answers '' if it exits 0, else all it printed. */
async function tool(name, args) {
  const { code, output } = await execute(name, args);
  return code === 0 ? '' : `${output}\n${name} exited ${code}`;
}

function execute(name, args) {
  const options = { cwd: root, env: environment, timeout: stepTimeoutMs, maxBuffer: outputMaxBytes };
  return new Promise((done) => {
    const child = execFile(join(binaries, name), args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : (error.code ?? error.signal ?? 'without a status');
      done({ code, output: `${stdout}${stderr}` });
    });
    child.stdin?.end();
  });
}

async function format() {
  const { code, output } = await execute('biome', ['format', '--max-diagnostics=none']);
  if (code === 0) return '';
  const files = [...output.matchAll(/^(\S+) format ━/gm)].map(
    ([, file]) => `${file} is not formatted; npm run format`,
  );
  return files.length > 0 ? files.join('\n') : output;
}

/** A cruise over nothing finds nothing wrong: it counts only if it saw every source. */
async function layers() {
  const { code, output } = await execute('depcruise', ['src', '--output-type', 'json']);
  let cruise;
  try {
    cruise = JSON.parse(output);
  } catch {
    return `${output}\ndepcruise exited ${code}`;
  }
  const cruised = new Set(cruise.modules.map((module) => module.source));
  const missed = sources().filter((file) => !cruised.has(file));
  const problems = cruise.summary.violations.map(({ rule, from, to, cycle }) => {
    const way = cycle === undefined ? to : cycle.map((one) => one.name).join(' → ');
    return `${rule.name}: ${from} → ${way}`;
  });
  if (cruise.modules.length === 0) problems.push('depcruise saw no module');
  if (missed.length > 0) problems.push(`depcruise did not see ${missed.join(', ')}`);
  if (problems.length === 0 && code !== 0) problems.push(`depcruise exited ${code}`);
  return problems.join('\n');
}

function sources() {
  return readdirSync(join(root, 'src'), { recursive: true })
    .map((file) => `src/${String(file)}`)
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'));
}

/** What no parser sees. The patterns are written so that they do not find themselves. */
const texts = [
  { name: 'a path of the machine where it was written', pattern: /(?<![\w.$}/-])\/(work|root)\/[.\w]/ },
  { name: 'a temporary path of the machine where it was written', pattern: /\/tmp\/(spec|helper)/ },
  {
    name: 'the address of a package registry',
    pattern: /registry[.]npmjs|deb[.]debian[.]org|proxy[.]golang|pypi[.]org/,
  },
  {
    name: 'Date without an argument reads the clock; take a Clock',
    pattern: /new Date\(\s*\)/,
    only: /^src\//,
  },
  { name: 'a test that does not run', pattern: /\b(it|test|describe)[.](todo|fails)\b/, only: /^test\// },
];

async function text() {
  const files = projectFiles();
  if (files.length === 0) return 'no file of the project was found';
  const left = files.filter((file) => /[.](pem|key|crt|crl|p12)$/.test(file));
  return [
    ...left.map(
      (file) => `${String(file)}: a key, certificate or CRL that a run left behind; tests make their own`,
    ),
    ...files.flatMap(textProblems),
  ].join('\n');
}

function textProblems(file) {
  const content = readFileSync(join(root, file));
  if (content.includes(0)) return [];
  return content
    .toString()
    .split('\n')
    .flatMap((line, index) =>
      texts
        .filter(({ pattern, only }) => (only?.test(file) ?? true) && pattern.test(line))
        .map(({ name }) => `${file}:${index + 1}: ${name}`),
    );
}

/** What git has or would add; where git cannot tell, every file that the tools did not make. */
function projectFiles() {
  return (listedByGit() ?? walked()).filter((file) =>
    statSync(join(root, file), { throwIfNoEntry: false })?.isFile(),
  );
}

function listedByGit() {
  if (!existsSync(join(root, '.git'))) return undefined;
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const options = {
    cwd: root,
    maxBuffer: outputMaxBytes,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  };
  try {
    return execFileSync('git', args, options)
      .split('\0')
      .filter((file) => file !== '');
  } catch {
    return undefined;
  }
}

function walked() {
  const made = /^(node_modules|dist|\.git|\.vouch-quickstart|\.test-tools)(\/|$)/;
  return readdirSync(root, { recursive: true }).filter((file) => !made.test(file));
}

process.exitCode = await main();
