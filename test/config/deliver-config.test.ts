import { expect, test } from 'vitest';
import * as z from 'zod/mini';
import { problemsOf } from '../../src/config/config-problem.ts';
import { deliverSchema } from '../../src/config/deliver-config.ts';

const web = { id: 'spiffe://prod.example/web', dir: '/etc/nginx/vouch' };

function problems(...targets: readonly object[]): string[] {
  const { error } = z.safeParse(z.strictObject({ deliver: deliverSchema }), { deliver: targets });
  return (error?.issues ?? []).flatMap(problemsOf).map(({ path, problem }) => `${path} ${problem}`);
}

test('a target is an identity and a folder; all else has a default', () => {
  expect(z.parse(deliverSchema, [web])).toEqual([{ ...web, mode: '0600', formats: ['pem'] }]);
});

test.each([
  [{ pidFile: '/run/nginx.pid' }, { type: 'signal', signal: 'SIGHUP', pidFile: '/run/nginx.pid' }],
  [
    { signal: 'USR1', pidFile: '/p' },
    { type: 'signal', signal: 'SIGUSR1', pidFile: '/p' },
  ],
  [{ command: ['nginx', '-s', 'reload'] }, { type: 'command', command: ['nginx', '-s', 'reload'] }],
  [{ systemd: 'postgresql@15-main.service' }, { type: 'systemd', unit: 'postgresql@15-main.service' }],
  [
    { container: 'web', signal: 'HUP' },
    { type: 'container', container: 'web', signal: 'SIGHUP', engine: '/run/docker.sock' },
  ],
])('a reload %j', (reload, read) => {
  expect(z.parse(deliverSchema, [{ ...web, reload }])[0]?.reload).toEqual({
    on: ['certificate', 'crl'],
    ...read,
  });
});

test.each([
  [{ id: undefined }, 'deliver.0 must have either `id` or `entry`'],
  [{ entry: 'e_0123456789abcdef' }, 'deliver.0 must have either `id` or `entry`'],
  [
    { id: undefined, entry: 'web' },
    'deliver.0.entry must be an id of `vouch entry list`, as e_0123456789abcdef',
  ],
  [{ id: 'prod.example/web' }, 'deliver.0.id SPIFFE ID must start with spiffe://: "prod.example/web"'],
  [{ dir: undefined }, 'deliver.0.dir is missing, or not of type string'],
  [{ dir: 'vouch' }, /^deliver.0.dir must be an absolute path without/],
  [{ dir: '/etc/../root' }, /^deliver.0.dir must be an absolute path without/],
  [{ dir: '/' }, /^deliver.0.dir must be an absolute path without/],
  [{ folder: '/etc' }, 'deliver.0.folder is not a key that is known here'],
  [{ owner: 'no such' }, 'deliver.0.owner must be a name as www-data, or a number'],
  [{ owner: -1 }, 'deliver.0.owner must be a name as www-data, or a number'],
  [{ group: 4_294_967_295 }, 'deliver.0.group must be a name as www-data, or a number'],
  [{ mode: '0644' }, /^deliver.0.mode must be '0600', '0640'/],
  [{ mode: 600 }, /^deliver.0.mode must be '0600'.* in quotes/],
  [{ formats: ['jks'] }, 'deliver.0.formats.0 must be one of pem, combined, pkcs12'],
  [{ formats: ['pkcs12'] }, /^deliver.0 must have `pkcs12:/],
  [{ pkcs12: { passwordFile: '/p' } }, /^deliver.0 must have `pkcs12:/],
  [
    { reload: { signal: 'HUP' } },
    'deliver.0.reload must have one of `pidFile`, `command`, `systemd` and `container`',
  ],
  [{ reload: { pidFile: '/p', systemd: 'x' } }, /^deliver.0.reload must have one of/],
  [{ reload: { signal: 'KILL', pidFile: '/p' } }, /^deliver.0.reload.signal must be one of HUP, /],
  [{ reload: { signal: 'HUP', command: ['x'] } }, /^deliver.0.reload has a `signal`, which goes with/],
  [{ reload: { engine: '/e', systemd: 'x' } }, /^deliver.0.reload has an `engine`, which goes with/],
  [{ reload: { on: [], systemd: 'x' } }, 'deliver.0.reload.on must name a change'],
  [{ reload: { command: [] } }, /^deliver.0.reload.command must be a program and its arguments/],
  [{ reload: { command: 'nginx -s reload' } }, 'deliver.0.reload.command is missing, or not of type array'],
  [{ reload: { systemd: '--force' } }, /^deliver.0.reload.systemd must be a unit/],
  [{ reload: { container: '../x' } }, /^deliver.0.reload.container must be a container's name/],
])('a mistake is named: %j', (change, said) => {
  expect(problems({ ...web, ...change })).toEqual([
    typeof said === 'string' ? said : expect.stringMatching(said),
  ]);
});

test('two targets never share a folder', () => {
  expect(problems(web, web)).toEqual(['deliver.1.dir is the folder of another target; each needs its own']);
});
