import { expect, it } from 'vitest';
import { runVouch } from '../support/daemon.ts';
import type { Ran } from '../support/running.ts';

const nowhere = '/nowhere/vouch.yaml';
const join = ['--join-file', '/nowhere/join'];

/** The whole of stderr as one problem. */
function problemOf(ran: Ran): { code: string; detail: string } {
  expect(ran.stdout).toBe('');
  const problem = JSON.parse(ran.stderr) as { code: string; detail: string };
  expect(problem).toMatchObject({
    type: `urn:vouch:problem:${problem.code}`,
    title: expect.any(String) as unknown,
    status: expect.any(Number) as unknown,
  });
  return problem;
}

it.each([
  [['--json', 'status', '--config', nowhere]],
  [['--config', nowhere, 'status', '--json']],
  [['--json', `--config=${nowhere}`, 'token', 'list']],
  [['--json', 'enroll', ...join, '--out', '/nowhere/w']],
  [['--config', nowhere, 'renew', '--dir', '/nowhere', '--json']],
  [['renew', '--dir', '/nowhere', '--config', nowhere, '--json']],
  [['--json', 'exec', ...join, '--', 'true']],
  [['exec', ...join, '--json', '--config', nowhere, '--', 'true']],
  [['--config', nowhere, 'signer', '--listen', '/nowhere/s', '--json']],
  [['--json', '--config', nowhere, 'signer', '--listen', '/nowhere/s']],
])('vouch %s: the verb is found, and its failure is one problem', async (args) => {
  const ran = await runVouch(args);
  expect(problemOf(ran).code).toMatch(/^config-/);
  expect(ran.code).toBe(78);
});

it('flags of the command that exec runs are its own', async () => {
  const ran = await runVouch(['exec', ...join, '--', 'true', '--json']);
  expect(ran.code).toBe(78);
  expect(ran.stderr).toMatch(/^vouch: the join file .* is not there/);
});

it.each([
  [['bundle'], /vouch bundle fetch/],
  [['bundle', 'frobnicate'], /vouch bundle fetch/],
  [['agent', 'frobnicate'], /frobnicate/],
  [['agent', 'proxy'], /--listen is missing/],
  [['signer', '--frobnicate'], /frobnicate/],
  [['signer', 'frobnicate'], /frobnicate/],
])('vouch %s: what is missing is said, with --json as a problem', async (args, words) => {
  const people = await runVouch(args);
  expect(people.code).toBe(2);
  expect(people.stderr).toMatch(/^vouch: /);
  expect(people.stderr).toMatch(words);
  const program = await runVouch([...args, '--json']);
  expect(program.code).toBe(2);
  expect(problemOf(program)).toMatchObject({
    code: 'usage-invalid',
    detail: expect.stringMatching(words) as unknown,
  });
});
