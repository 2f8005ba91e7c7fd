import { expect, it } from 'vitest';
import { bootAuthority, runVouch } from '../support/daemon.ts';

it('of a published log the tree alone, of a state everything', async () => {
  const authority = await bootAuthority();
  const { rootPin } = (await authority.vouch('status')).json<{ rootPin: string }>();
  const { publicationUrl } = authority.server.ready;
  const published = await runVouch(['log', 'verify', '--url', publicationUrl, '--root-pin', rootPin]);
  expect(published.code).toBe(0);
  expect(published.stdout).toMatch(/every tile .* the root vouches for/);
  expect(published.stdout).toMatch(/--state reads/);
  expect(published.stdout).not.toMatch(/everything signed|certificates +0/);
  const state = await runVouch(['log', 'verify', '--state', authority.state]);
  expect(state.stdout).toMatch(/everything signed is in it/);
  expect(state.stdout).toMatch(/certificates +[1-9]/);
});
