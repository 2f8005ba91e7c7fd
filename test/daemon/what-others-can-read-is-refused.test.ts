import { chmodSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { Authority, initAuthority, newToken } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await initAuthority();
});

it.each([0o640, 0o604, 0o660, 0o644])(
  'mode %o: the server does not start, and says what to do',
  async (mode) => {
    const { pinFile } = authority.tokens.online;
    const pin = readFileSync(pinFile, 'utf8').trim();
    chmodSync(pinFile, mode);
    const refused = await authority.refusal();
    expect(refused.code).toBe(78);
    expect(refused.stderr).toContain(`run: chmod 600 ${pinFile}`);
    expect(refused.stderr).not.toContain(pin);
    const doctor = await authority.vouch('doctor');
    expect(doctor.code).toBe(1);
    expect(JSON.parse(doctor.stdout)).toMatchObject({
      findings: expect.arrayContaining([
        expect.objectContaining({
          severity: 'error',
          what: `${pinFile} can be read by others`,
          remedy: `chmod 600 ${pinFile}`,
        }),
      ]) as unknown,
    });
    chmodSync(pinFile, 0o600);
  },
);

it("the server's own TLS key is refused as well", async () => {
  const file = join(authority.state, 'server/svid.key');
  chmodSync(file, 0o640);
  const refused = await authority.refusal();
  expect(refused.code).toBe(78);
  expect(refused.stderr).toContain(`run: chmod 600 ${file}`);
  chmodSync(file, 0o600);
});

it('with mode 0600 it starts', async () => {
  await authority.start();
  await authority.enroll('orders');
});

it.each(['online', 'root'])(
  '`vouch init` refuses that of the %s token, and leaves no state behind',
  async (which) => {
    const folder = newFolder();
    const [online, root] = await Promise.all([newToken(folder, 'online'), newToken(folder, 'root')]);
    const fresh = new Authority(folder, 'test.example', { online, root });
    const { pinFile } = which === 'online' ? online : root;
    chmodSync(pinFile, 0o644);
    const refused = await fresh.init();
    expect(refused.code).toBe(78);
    expect(refused.problem).toMatchObject({ code: 'config-secret-readable' });
    expect(refused.problem.detail).toContain(`chmod 600 ${pinFile}`);
    expect(readdirSync(folder).sort()).toEqual(['online', 'online.json', 'root', 'root.json']);
    chmodSync(pinFile, 0o600);
    expect((await fresh.init()).code).toBe(0);
  },
);
