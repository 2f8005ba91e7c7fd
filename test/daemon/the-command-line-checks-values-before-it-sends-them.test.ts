import { beforeAll, expect, it } from 'vitest';
import { type Authority, initAuthority } from '../support/daemon.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await initAuthority();
});

const create = ['token', 'create', '--id', 'spiffe://test.example/a', '--out', '-'];
const entry = [
  ...['entry', 'create', '--id', 'spiffe://test.example/a', '--parent', 'spiffe://test.example/h'],
  ...['--selector', 'unix:uid:1'],
];
const pin = `sha256:${'0'.repeat(64)}`;

// No server runs: what is sent at all ends with 75.
it.each([
  [
    [...create, '--ttl'],
    ['abc', '600', '0s', '8d'],
  ],
  [
    [...create, '--lifetime'],
    ['abc', '1m', '25h'],
  ],
  [
    [...create, '--uses'],
    ['0', '1.5', '10001'],
  ],
  [[...create, '--dns'], ['Upper.example']],
  [[...create, '--ip'], ['1.2.3']],
  [[...create, '--cidr'], ['10.0.0.0/33']],
  [[...create, '--allowed-client'], ['orders']],
  [[...create, '--allow'], ['orders']],
  [['token', 'create', '--out', '-', '--id'], ['orders']],
  [
    ['token', 'list', '--limit'],
    ['abc', '0', '1001'],
  ],
  [['token', 'list', '--after'], ['e_0123456789abcdef']],
  [
    ['cert', 'list', '--limit'],
    ['abc', '-1'],
  ],
  [['cert', 'list', '--after'], ['abc']],
  [['cert', 'list', '--id'], ['orders']],
  [['cert', 'list', '--token'], ['nonsense']],
  [['cert', 'show'], ['0']],
  [['explain'], ['hello']],
  [['entry', 'list', '--limit'], ['0']],
  [['entry', 'list', '--after'], ['t_0123456789abcdef']],
  [['entry', 'list', '--id'], ['orders']],
  [['entry', 'list', '--parent'], ['orders']],
  [
    [
      'entry',
      'create',
      '--id',
      'spiffe://test.example/a',
      '--parent',
      'spiffe://test.example/h',
      '--selector',
    ],
    ['unix:uid:root', 'uid:1000'],
  ],
  [[...entry, '--allowed-client'], ['orders']],
  [
    [...entry, '--lifetime'],
    ['1m', '48h'],
  ],
  [['entry', 'show'], ['orders']],
  [['entry', 'delete', '--yes'], ['orders']],
  [['entry', 'resume'], ['orders']],
  [['entry', 'resume', '--id'], ['orders']],
  [['revoke', '--serial'], ['hello']],
  [['revoke', '--id'], ['orders']],
  [['revoke', '--token'], ['hello']],
  [['revoke', '--entry'], ['hello']],
  [['revoke', '--agent'], ['db-7']],
  [
    ['revoke', '--operator'],
    ['root', 'uid:'],
  ],
  [
    ['revoke', '--issued-between'],
    ['yesterday', '2026-11-26T02:00:00Z', '2026-11-26..2026-11-27'],
  ],
  [
    ['revoke', '--serial', '01', '--invalidity-date'],
    ['2026-02-30T00:00:00Z', '2026-11-26T02:00:00+01:00'],
  ],
  [['release', '--serial'], ['hello']],
  [['audit', '--limit'], ['all']],
  [['audit', '--after'], ['hello']],
  [['log', 'verify', '--url', 'http://127.0.0.1:1', '--root-pin'], ['junk']],
  [
    ['log', 'verify', '--root-pin', pin, '--url'],
    ['junk', 'ftp://ca.example'],
  ],
  [['log', 'verify', '--state'], ['']],
])('vouch %s %s: exit 2', async (args, values) => {
  for (const value of values) {
    const ran = await authority.vouch(...args, value);
    expect(ran.code, value).toBe(2);
    expect(JSON.parse(ran.stderr)).toMatchObject({ code: 'usage-invalid' });
  }
});

it('a file of the token that is not there is named by its flag', async () => {
  for (const flag of ['--hsm-file', '--root-hsm-file']) {
    const ran = await authority.init(flag, '/nowhere/hsm.json');
    expect(ran.code).toBe(78);
    expect(ran.problem.detail).toMatch(/cannot read \/nowhere\/hsm\.json/);
    expect(ran.problem.detail).not.toContain('--config');
  }
});
