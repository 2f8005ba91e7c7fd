import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Authority, bootAuthority, initAuthority, runVouch } from '../support/daemon.ts';
import { askOcsp, ocspAnswers } from '../support/ocsp.ts';
import { eventually } from '../support/running.ts';

const enabled = (config: Record<string, unknown>): void => {
  config.ocsp = { enabled: true };
};

function ocspKey(authority: Authority, folder = 'signer'): string | undefined {
  const text = readFileSync(join(authority.state, folder, 'authority.json'), 'utf8');
  return (JSON.parse(text) as { ocspKey?: { publicKeySpki: string } }).ocspKey?.publicKeySpki;
}

it('a state that was made without it gets its key later', async () => {
  const authority = await bootAuthority();
  const orders = await authority.enroll('orders');
  expect(askOcsp(authority, orders)).toMatch(/404|405|Error querying/);
  await authority.server.end();
  authority.configure(enabled);
  await authority.start();
  await authority.server.until(({ stderr }) => stderr.includes('--make-ocsp-key'));
  expect(askOcsp(authority, orders)).toMatch(/trylater/);

  const make = () => runVouch(['signer', '--config', authority.config, '--make-ocsp-key', '--json']);
  const [made, again] = [(await make()).json(), (await make()).json()];
  expect(made).toEqual({ keyId: expect.stringMatching(/^[0-9a-f]{40}$/) as string, made: true });
  expect(again).toEqual({ ...made, made: false });
  await authority.server.end();
  await authority.start();
  await ocspAnswers(authority, orders);
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
}, 60_000);

it('a key that is not to be trusted any more gives way to another', async () => {
  const authority = await bootAuthority({ init: ['--ocsp'] });
  const orders = await authority.enroll('orders');
  await ocspAnswers(authority, orders);
  const before = ocspKey(authority);
  const replace = ['signer', '--config', authority.config, '--make-ocsp-key', '--replace', '--json'];
  expect((await runVouch(replace)).json()).toMatchObject({ made: true });
  expect(ocspKey(authority)).not.toBe(before);
  await authority.server.end();
  await authority.start();
  await ocspAnswers(authority, orders);
}, 60_000);

it('each token has a key of its own, and an operator who ends a certificate of one gets another', async () => {
  const authority = await initAuthority({ standby: true, init: ['--ocsp'] });
  const keys = ['signer', 'standby-signer'].map((folder) => ocspKey(authority, folder));
  expect(new Set(keys.filter((key) => key !== undefined)).size).toBe(2);
  await authority.start();
  const orders = await authority.enroll('orders');
  await ocspAnswers(authority, orders);
  const listed = async () => {
    const answer = await authority.vouch('cert', 'list', '--id', authority.id('vouch/ocsp'));
    return answer.json<{ certificates: { serial: string }[] }>().certificates;
  };
  const certificates = await eventually(async () => {
    const found = await listed();
    return found.length === 2 && found;
  });
  (
    await authority.vouch('revoke', '--serial', certificates[0]?.serial ?? '', '--reason', 'superseded')
  ).json();
  await eventually(async () => (await listed()).length === 3);
  await ocspAnswers(authority, orders);
}, 60_000);
