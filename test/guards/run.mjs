#!/usr/bin/env node
// Takes each of the twelve guards out and expects the test of its invariant to go red. `npm run test:guards`, or
// `npm run test:guards -- I4 I11` for some of them. `--green FILE`: a report of vitest on these sources, which says how
// the same tests end with the guards; without it they run first.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const all = Array.from({ length: 12 }, (_, at) => `I${at + 1}`);
const { values: options, positionals: asked } = parseArgs({
  allowPositionals: true,
  options: { green: { type: 'string' } },
});
const invariants = asked.length === 0 ? all : all.filter((invariant) => asked.includes(invariant));

/** Invariants whose tests start the built program: they need a build without the guard, the others its source alone. */
const built = new Set(['I1', 'I8', 'I10', 'I11']);

/** What marks the tests that must go red: one at least for each place in src/ that asks for the flag. */
const mark = '[guard]';

const folder = mkdtempSync(join(tmpdir(), 'vouch-guards-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

async function main() {
  const unknown = asked.find((one) => !all.includes(one));
  if (unknown !== undefined) {
    complain(`there is no invariant ${unknown}; usage: run.mjs [--green FILE] [I1 … I12]`);
    return 2;
  }
  await run(process.execPath, ['scripts/build.mjs', '--if-changed'], { cwd: root });
  const files = new Map(invariants.map((invariant) => [invariant, fileOf(invariant)]));
  const tests =
    asked.length === 0 ? ['test/invariants'] : [...files.values()].filter((file) => file !== undefined);
  const green = options.green ? testsIn(options.green) : await vitest('green', [...tests, 'test/guards'], {});
  const release = green.filter(({ file }) => file.includes('/test/guards/'));
  for (const { file, tests } of release)
    for (const { title } of tests.filter(({ status }) => status !== 'passed')) complain(`${file}: ${title}`);

  const verdicts = await inTurn(invariants, (invariant) => judge(invariant, files.get(invariant), green));
  const failed = verdicts.filter(({ problem }) => problem !== undefined).length;
  const releaseFailed =
    release.length === 0 || release.some(({ tests }) => tests.some(({ status }) => status !== 'passed'));
  if (releaseFailed) console.log('the release has a trace of the flag, or nobody looked');
  console.log(`${invariants.length - failed} passed, ${failed} failed`);
  return failed === 0 && !releaseFailed ? 0 : 1;
}

/** Prints one line for an invariant as soon as those before it have theirs. */
async function judge(invariant, file, green) {
  const started = performance.now();
  const problem = await problemOf(invariant, file, green).catch((error) => ({
    problem: `${error.message}`.split('\n')[0],
  }));
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const said = problem.problem === undefined ? `passed  ${problem.words}` : `FAILED  ${problem.problem}`;
  return { ...problem, line: `${invariant.padEnd(4)}${said}  (${seconds} s)` };
}

async function problemOf(invariant, file, green) {
  if (file === undefined) return { problem: 'has no test named after it' };
  const whole = green.find((one) => one.file.endsWith(file));
  if (whole === undefined || whole.tests.length === 0) return { problem: `${file} did not run` };
  const already = whole.tests.filter(({ status }) => status !== 'passed');
  if (already.length > 0) return { problem: `is red with its guard: ${already[0].title}` };
  const guards = whole.tests.filter(({ title }) => title.includes(mark));
  if (guards.length === 0) return { problem: `${file} has no test marked ${mark}` };

  const dist = built.has(invariant) ? { VOUCH_DIST: await mutation(invariant) } : {};
  const [without] = await vitest(invariant, [file], { VOUCH_WITHOUT: invariant, ...dist });
  return comparison(whole, without);
}

/** Every marked test is red by an assertion, and something else in the file is still green: it ran, and only that is gone. */
function comparison(whole, without) {
  const found = new Map((without?.tests ?? []).map((test) => [test.title, test]));
  if (found.size !== new Set(whole.tests.map(({ title }) => title)).size)
    return { problem: 'the file does not run to its end without the guard' };
  const guards = whole.tests.filter(({ title }) => title.includes(mark)).map(({ title }) => found.get(title));
  const stillGreen = guards.find((test) => test.status === 'passed');
  if (stillGreen) return { problem: `stays green without its guard: ${stillGreen.title}` };
  const crashed = guards.find(({ failure }) => !/^(?:Error: Property failed|AssertionError)/.test(failure));
  if (crashed)
    return { problem: `crashes instead of failing: ${crashed.title}: ${crashed.failure.split('\n')[0]}` };
  const others = [...found.values()].filter(
    ({ title, status }) => !title.includes(mark) && status === 'passed',
  );
  if (others.length === 0)
    return { problem: 'nothing is green without the guard: is it the guard that fails?' };
  return {
    problem: undefined,
    words: `${guards.length} red without its guard, ${others.length} still green`,
  };
}

/** A build without one guard, beside links to what a bundle loads at run time. */
async function mutation(invariant) {
  const home = join(folder, invariant);
  mkdirSync(home);
  for (const name of ['node_modules', 'migrations', 'package.json'])
    symlinkSync(join(root, name), join(home, name));
  const dist = join(home, 'dist');
  const arguments_ = ['scripts/build.mjs', '--without', invariant, '--outdir', dist];
  await run(process.execPath, arguments_, { cwd: root });
  return dist;
}

/** Runs test files; each with its tests, by vitest's own report. */
async function vitest(name, files, environment) {
  const report = join(folder, `${name}.json`);
  const { VOUCH_WITHOUT: _without, VOUCH_DIST: _dist, ...clean } = process.env;
  const args = [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=json',
    `--outputFile=${report}`,
    ...files,
  ];
  const how = { cwd: root, env: { ...clean, ...environment }, maxBuffer: 64 * 1024 * 1024 };
  // Red is what is looked for: the exit code says nothing here, the report does.
  await run(process.execPath, args, how).catch((error) => error);
  return testsIn(report);
}

function testsIn(report) {
  const { testResults } = JSON.parse(readFileSync(report, 'utf8'));
  return testResults.map(({ name: file, assertionResults }) => ({
    file,
    tests: assertionResults.map(({ fullName, status, failureMessages }) => ({
      title: fullName,
      status,
      failure: failureMessages?.[0] ?? '',
    })),
  }));
}

function fileOf(invariant) {
  const prefix = `i${invariant.slice(1).padStart(2, '0')}-`;
  const found = readdirSync(join(root, 'test/invariants')).find(
    (name) => name.startsWith(prefix) && name.endsWith('.test.ts'),
  );
  return found && `test/invariants/${found}`;
}

/** Some at a time, since most of them wait for a disk; printed in order. */
async function inTurn(items, work) {
  const results = items.map(() => Promise.withResolvers());
  const queue = items.map((item, at) => ({ item, at }));
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift())
      results[next.at].resolve(await work(next.item));
  };
  const workers = Array.from({ length: Math.min(2, availableParallelism()) }, worker);
  const verdicts = [];
  for (const { promise } of results) {
    const verdict = await promise;
    console.log(verdict.line);
    verdicts.push(verdict);
  }
  await Promise.all(workers);
  return verdicts;
}

function complain(what) {
  console.error(`guards: ${what}`);
}

process.exitCode = await main();
