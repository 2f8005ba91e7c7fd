import { expect, it } from 'vitest';
import { bootAuthority, runVouch } from '../support/daemon.ts';

it('a field a line, and no JSON', async () => {
  const authority = await bootAuthority();
  const { serial } = await authority.enroll('orders');
  const { stdout } = await runVouch(['explain', serial, '--config', authority.config]);
  expect(stdout).toMatch(/^profile +\S+$/m);
  expect(stdout).toMatch(/^evidence peer address +127\./m);
  expect(stdout).not.toMatch(/[{}"]/);
});
