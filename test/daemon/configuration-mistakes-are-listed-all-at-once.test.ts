import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, initAuthority, runVouch } from '../support/daemon.ts';

let authority: Authority;
let good: string;

beforeAll(async () => {
  authority = await initAuthority();
  good = readFileSync(authority.config, 'utf8');
});

function write(text: string): void {
  writeFileSync(authority.config, text, { mode: 0o600 });
}

it('the server and `vouch check-config` name each with its path', async () => {
  write(good);
  authority.configure((document) => {
    document.trustDomian = 'x';
    document.state = 'relative';
    document.hsm.tokenLabel = '';
    Object.assign(document.hsm, { pin: '1234' });
    document.enrollment.url = 'http://plain.example';
    document.enrollment.inFlightMax = 1;
    document.publication.listen = 'nowhere';
    document.operations.lissten = '127.0.0.1:1';
    document.crl = { validity: 'a while' };
    document.log = { level: 'loud' };
  });
  for (const ran of [await authority.vouch('check-config'), await authority.refusal()]) {
    expect(ran.code).toBe(78);
    expect(ran.problem.code).toBe('config-invalid');
    for (const path of [
      'trustDomian',
      'state',
      'hsm.tokenLabel',
      'pin',
      'enrollment.url',
      'enrollment.inFlightMax',
      'publication.listen',
      'lissten',
      'crl.validity',
      'log.level',
    ])
      expect(ran.problem.detail).toContain(path);
    expect(ran.problem.detail).not.toContain('1234');
  }
});

it.each([
  ['no YAML', 'a: [1, 2', /not YAML/],
  ['empty', '', /top level.*object/],
  ['a list', '- a\n- b\n', /top level|object/],
  ['a key twice', 'state: /a\nstate: /b\n', /not YAML|unique/],
  ['an alias bomb', 'a: &a [x]\nb: &b [*a,*a]\nc: [*b,*b]\n', /not YAML|alias/i],
])('%s', async (_name, text, words) => {
  write(text);
  const ran = await authority.vouch('check-config');
  expect(ran.code).toBe(78);
  expect(ran.problem.detail).toMatch(words);
  expect(ran.problem.detail).toContain(authority.config);
});

it('a file that is not there', async () => {
  const ran = await runVouch(['server', '--config', `${authority.folder}/nowhere.yaml`, '--json']);
  expect(ran.code).toBe(78);
  expect(ran.problem.detail).toMatch(/cannot read .*nowhere\.yaml; name the file with --config/);
});

it('a good one is printed without its secrets, and starts', async () => {
  write(good);
  const { valid, config } = (await authority.vouch('check-config')).json<{
    valid: boolean;
    config: unknown;
  }>();
  expect(valid).toBe(true);
  expect(JSON.stringify(config)).not.toContain(readFileSync(authority.tokens.online.pinFile, 'utf8').trim());
  await authority.start();
});
