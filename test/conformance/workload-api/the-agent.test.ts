import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { bootAuthority, startVouch } from '../../support/daemon.ts';
import { eventually } from '../../support/running.ts';
import { WorkloadClient, type X509SvidResponse } from './client.ts';
import { runKit } from './kit.ts';

const uid = process.getuid?.() ?? 0;
const isRoot = uid === 0;

test('`vouch agent` with a real server passes the kit', async () => {
  const authority = await bootAuthority();
  const flags = ['--parent', authority.id('host'), '--selector', `unix:uid:${uid}`];
  await authority.vouch('entry', 'create', '--id', authority.id('web'), ...flags, '--hint', 'internal');
  const dir = authority.path('agent');
  // Other users have to get at it, which they do not in the authority's own folder.
  const open = mkdtempSync(join(tmpdir(), 'vouch-conformance-'));
  chmodSync(open, 0o711);
  const socket = join(open, 'agent.sock');
  const joining = await authority.join('host');
  const agent = startVouch([
    'agent',
    '--join-file',
    joining.path,
    '--dir',
    dir,
    '--socket',
    socket,
    '--json',
  ]);
  await agent.until(({ stdout }) => stdout.includes('\n'));
  const client = new WorkloadClient(socket);
  onTestFinished(async () => {
    client.close();
    await agent.end('SIGTERM');
    rmSync(open, { recursive: true });
  });
  await eventually(async () => {
    const { svids } = await client.first<X509SvidResponse>('FetchX509SVID');
    return svids.length === 1;
  });
  const results = await runKit({
    socket,
    client,
    rotate: async () => void (await authority.vouch('cert', 'renew-now', '--id', authority.id('web'))).json(),
    withoutIdentityUid: isRoot ? 65_534 : undefined,
  });
  expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
  const skipped = results.filter(({ outcome }) => outcome === 'skipped').map(({ id }) => id);
  expect(skipped).toEqual([...(isRoot ? [] : ['endpoint-no-identity']), 'x509-federated']);
}, 120_000);
