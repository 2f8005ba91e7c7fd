import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, initAuthority, runVouch } from '../support/daemon.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await initAuthority();
});

it.each([
  ['an unknown verb', ['frobnicate']],
  ['an unknown verb below one', ['token', 'frobnicate']],
  ['no verb', []],
  ['a group without a verb', ['token']],
  ['an unknown flag', ['status', '--frobnicate']],
  ['an unknown flag of the agent', ['enroll', '--join-file', 'f', '--out', 'd', '--frobnicate']],
  ['an unknown flag of the server', ['server', '--frobnicate']],
  ['an unknown flag of the signer', ['signer', '--frobnicate']],
  ['an argument too many', ['status', 'frobnicate']],
  ['an argument too many for the agent', ['renew', '--dir', 'd', 'frobnicate']],
  ['a missing required flag', ['token', 'create', '--out', '-']],
  ['a missing required flag of the agent', ['enroll', '--out', 'd']],
  ['a flag without its value', ['token', 'create', '--id']],
  ['an empty value', ['renew', '--dir', '']],
  ['an empty value that has a default', ['exec', '--join-file', 'f', '--out', '', '--', 'true']],
  ['exec without a command', ['exec', '--join-file', 'f', '--']],
  ['a choice that there is not', ['renew', '--dir', 'd', '--crl', 'maybe']],
  ['a hook that there is not', ['exec', '--join-file', 'f', '--on-change', 'signal:NOPE', '--', 'true']],
  ['a time that is none', ['renew', '--dir', 'd', '--timeout', 'soon']],
  ['a reason that RFC 5280 does not know', ['revoke', '--serial', '01', '--reason', 'becauseISaySo']],
  ['two targets at once', ['revoke', '--serial', '01', '--id', 'spiffe://a/b']],
  ['no target', ['revoke']],
  ['uses that are no number', ['token', 'create', '--id', 'spiffe://a/b', '--out', '-', '--uses', 'many']],
])('%s: exit 2, and words on stderr', async (_name, args) => {
  const config = args[0] === 'revoke' || args[1] === 'create' ? ['--config', authority.config] : [];
  const ran = await runVouch([...args, ...config]);
  expect(ran.stderr).not.toBe('');
  expect(ran.stderr).not.toMatch(/\n {4}at /);
  expect(ran.stdout).toBe('');
  expect(ran.code).toBe(2);
});

it('with --json a usage error is a problem, too', async () => {
  for (const args of [
    ['status', '--frobnicate', '--json'],
    ['enroll', '--frobnicate', '--json'],
    ['revoke', '--json', '--config', authority.config],
  ]) {
    const ran = await runVouch(args);
    expect(ran.code).toBe(2);
    expect(ran.problem.code).toBe('usage-invalid');
  }
});

it('a group without its verb names the verbs, with --json too', async () => {
  for (const [args, verbs] of [
    [['token'], /create, list, revoke/],
    [['issuer'], /list/],
    [[], /init, server, signer, ceremony, token/],
  ] as const) {
    const ran = await runVouch([...args, '--json']);
    expect(ran.code).toBe(2);
    expect(ran.problem).toMatchObject({ code: 'usage-invalid' });
    expect(ran.problem.detail).toMatch(verbs);
  }
});

it('--help names every verb, and each says which flags it needs', async () => {
  const { stdout } = await runVouch(['--help']);
  const verbs = [
    'init',
    'server',
    'signer',
    'token create',
    'exec',
    'enroll',
    'renew',
    'bundle fetch',
    'agent',
    'entry create',
  ];
  for (const verb of [...verbs, 'status', 'cert list', 'revoke', 'log verify', 'backup', 'restore', 'doctor'])
    expect(stdout).toMatch(new RegExp(`^  ${verb}\\b`, 'm'));
  const create = (await runVouch(['token', 'create', '--help'])).stdout;
  expect(create).toMatch(/--id <spiffe-id>[^]*\(required\)[^]*--dns/);
  expect(create).not.toContain('default: []');
  expect(create.match(/--json/g)).toHaveLength(1);
});

it.each(['--help', '--version'])('%s: exit 0', async (flag) => {
  const ran = await runVouch([flag]);
  expect(ran.code).toBe(0);
  expect(ran.stdout).not.toBe('');
});

it.each(
  [
    ['init'],
    ['token', 'create'],
    ['enroll'],
    ['exec'],
    ['bundle'],
    ['agent'],
    ['signer'],
    ['revoke'],
    ['log', 'verify'],
    ['server'],
    ['doctor'],
    ['backup'],
  ].map((verb) => [verb]),
)('vouch %s --help: exit 0', async (verb) => {
  const ran = await runVouch([...verb, '--help']);
  expect(ran.code).toBe(0);
  expect(ran.stdout).toContain(verb.at(-1));
});

describe('without a server', () => {
  it.each([
    [['status']],
    [['token', 'list']],
    [['revoke', '--serial', '01ff', '--yes']],
    [['cert', 'list']],
    [['token', 'revoke', 't_0123456789abcdef', '--yes']],
    [['entry', 'resume', 'e_0123456789abcdef', '--yes']],
    [['crl', 'publish', '--yes']],
    [['doctor', '--accept-clock', '--yes']],
    [['backup', '/tmp/never']],
  ])('%s: exit 75, try again later', async (args) => {
    const ran = await authority.vouch(...args);
    expect(ran.code).toBe(75);
    expect(ran.problem).toMatchObject({
      code: 'unavailable-server',
      detail: expect.stringContaining('start it with `vouch server`') as unknown,
    });
  });
});
