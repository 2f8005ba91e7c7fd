import { createServer } from 'node:https';
import { expect, test } from 'vitest';
import { openVouch, VouchError } from '../../src/client/main.ts';
import { FakeAuthority } from '../agent/support/fake-authority.ts';
import { temporaryFolder } from '../agent/support/harness.ts';
import { get, listening, service } from './support.ts';

test('what the library refuses is told by class and code', async () => {
  await expect(openVouch({ dir: temporaryFolder() })).rejects.toBeInstanceOf(VouchError);
  const authority = new FakeAuthority();
  const { vouch } = await (await service(authority, 'orders')).open();
  expect(() => vouch.clientOptions({ serverId: 'billing' })).toThrow(VouchError);
  const port = await listening(vouch.secure(createServer(vouch.serverOptions())));
  const refused = get(port, vouch.clientOptions({ serverId: 'spiffe://example.org/billing' }));
  await expect(refused).rejects.toBeInstanceOf(VouchError);
  await expect(refused).rejects.toMatchObject({ code: 'denied-certificate' });
});
