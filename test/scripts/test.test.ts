import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { writeFiles } from './project.ts';

/** What the suites of a project say; left out: that all is well. */
interface Suites {
  setup?: string;
  check?: string;
  /** Vitest's report, and its exit code. */
  report?: { numPassedTests: number; numFailedTests: number; numPendingTests: number; numTodoTests: number };
  vitestExit?: number;
  /** Undefined: the runner does not exist. */
  guards?: string | undefined;
  kills?: string | undefined;
  matrix?: string | undefined;
}

interface Tested {
  status: number | null;
  lines: string[];
  last: string | undefined;
}

const noTrouble = { numPassedTests: 40, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0 };
const killed = {
  kills: 30,
  acked: 200,
  lost: 0,
  duplicates: 0,
  orphans: 0,
  regressions: 0,
  recoverMsP99: 900,
};
const lived = { cases: 36, failed: 0, enrolled: 200, orphans: 0, problems: 0 };
const says = (text: string, exit = 0): string =>
  `console.log(${JSON.stringify(text)});\nprocess.exitCode = ${exit};\n`;

/** Runs a copy of scripts/test over suites that only say what they are told to. */
function test(suites: Suites): Tested {
  const directory = mkdtempSync(join(tmpdir(), 'vouch-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  cpSync('.ci/run', join(directory, '.ci/run'));
  const all: Suites = {
    guards: says('12 passed, 0 failed'),
    kills: says(JSON.stringify(killed)),
    matrix: says(JSON.stringify(lived)),
    ...suites,
  };
  const vitest = `#!/bin/sh
for argument; do case $argument in --outputFile.json=*) cp report.json "\${argument#*=}" ;; esac; done
exit ${all.vitestExit ?? 0}
`;
  const program = readFileSync('scripts/test', 'utf8').replace(/^not_written_yet=.*$/m, 'not_written_yet=');
  writeFiles(directory, {
    'scripts/test': program,
    'package.json': JSON.stringify({ type: 'module' }),
    'scripts/setup': `#!/bin/sh\n${all.setup ?? 'exit 0'}\n`,
    'scripts/check.mjs': all.check ?? '',
    'node_modules/.bin/vitest': vitest,
    'report.json': JSON.stringify(all.report ?? noTrouble),
    ...(all.guards === undefined ? {} : { 'test/guards/run.mjs': all.guards }),
    ...(all.kills === undefined ? {} : { 'test/kills/run.mjs': all.kills }),
    ...(all.matrix === undefined ? {} : { 'test/hsm-matrix/run.mjs': all.matrix }),
  });
  for (const file of ['scripts/test', 'scripts/setup', 'node_modules/.bin/vitest'])
    chmodSync(join(directory, file), 0o755);
  const env = { ...process.env, PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) };
  const { status, stdout } = spawnSync('bash', [join(directory, '.ci/run')], {
    cwd: '/',
    env,
    encoding: 'utf8',
  });
  const lines = stdout.trimEnd().split('\n');
  return { status, lines, last: lines.at(-1) };
}

describe('.ci/run', () => {
  it('counts vitest, each guard, check, kills and matrix', () => {
    expect(test({})).toMatchObject({ status: 0, last: '55 passed, 0 failed' });
  });

  it.each<[string, Suites, string]>([
    ['a test fails', { report: { ...noTrouble, numFailedTests: 2 }, vitestExit: 1 }, '55 passed, 2 failed'],
    ['a test file does not load', { vitestExit: 1 }, '55 passed, 1 failed'],
    [
      'a test is skipped',
      { report: { ...noTrouble, numPendingTests: 1, numTodoTests: 1 } },
      '55 passed, 2 failed',
    ],
    ['vitest runs nothing', { report: { ...noTrouble, numPassedTests: 0 } }, '15 passed, 1 failed'],
    ['check fails', { check: says('', 1) }, '54 passed, 1 failed'],
    ['a guard can be left out unseen', { guards: says('11 passed, 1 failed', 1) }, '54 passed, 1 failed'],
    ['a guard is forgotten', { guards: says('11 passed, 0 failed') }, '54 passed, 1 failed'],
    ['the guards crash at the end', { guards: says('12 passed, 0 failed', 3) }, '55 passed, 1 failed'],
    ['the runner of the guards is missing', { guards: undefined }, '43 passed, 1 failed'],
    ['the runner of the kills is missing', { kills: undefined }, '54 passed, 1 failed'],
    ['the guards say nothing', { guards: '' }, '43 passed, 1 failed'],
    ['a certificate is lost', { kills: says(JSON.stringify({ ...killed, lost: 1 })) }, '54 passed, 1 failed'],
    [
      'a serial is given twice',
      { kills: says(JSON.stringify({ ...killed, duplicates: 1 })) },
      '54 passed, 1 failed',
    ],
    [
      'a leaf has no artefact',
      { kills: says(JSON.stringify({ ...killed, orphans: 1 })) },
      '54 passed, 1 failed',
    ],
    ['a number falls', { kills: says(JSON.stringify({ ...killed, regressions: 1 })) }, '54 passed, 1 failed'],
    ['nobody enrolled', { kills: says(JSON.stringify({ ...killed, acked: 0 })) }, '54 passed, 1 failed'],
    ['too few are killed', { kills: says(JSON.stringify({ ...killed, kills: 29 })) }, '54 passed, 1 failed'],
    ['kills says something else', { kills: says('fine') }, '54 passed, 1 failed'],
    ['the runner of the matrix is missing', { matrix: undefined }, '54 passed, 1 failed'],
    [
      'a fault is not outlasted',
      { matrix: says(JSON.stringify({ ...lived, failed: 1, problems: 1 })) },
      '54 passed, 1 failed',
    ],
    [
      'the token signed what is in no log',
      { matrix: says(JSON.stringify({ ...lived, orphans: 1 })) },
      '54 passed, 1 failed',
    ],
    [
      'the matrix is cut short',
      { matrix: says(JSON.stringify({ ...lived, cases: 9 })) },
      '54 passed, 1 failed',
    ],
    ['the matrix ends badly', { matrix: says(JSON.stringify(lived), 1) }, '54 passed, 1 failed'],
    ['the set-up fails', { setup: 'exit 78' }, '0 passed, 1 failed'],
  ])('fails when %s', (_what, suites, last) => {
    expect(test(suites)).toMatchObject({ status: 1, last });
  });
});
