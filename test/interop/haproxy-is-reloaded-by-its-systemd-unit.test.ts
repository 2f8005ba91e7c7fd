import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { reloadOnce } from '../../src/agent/deliver/reload.ts';
import { vouchEntry } from '../support/daemon.ts';
import { DeliveredHost, expectSmooth, plainService } from '../support/delivered-software.ts';
import { placeFiles } from '../support/proxy.ts';
import { newFolder, start } from '../support/running.ts';
import { SystemdHost } from '../support/systemd.ts';
import { exchanges } from '../support/tls-caller.ts';

// A real systemd with Debian's haproxy.service and our vouch-agent.service, hardened as it is: each with its paths in a drop-in.

const project = resolve(import.meta.dirname, '../..');
const serverName = 'edge.prod.example';

test('haproxy takes each rotation and each CRL by `systemctl reload`, and no handshake fails', async () => {
  const service = await plainService();
  const host = await DeliveredHost.boot('haproxy', [[/reload: .*/g, 'reload: { systemd: haproxy.service }']]);
  const [etc, run] = [host.giveFolder('/etc/vouch', 'root'), host.giveFolder('/run/vouch', 'root')];
  placeFiles('haproxy', { etc, run, port: host.port, servicePort: service.port });
  const systemd = await SystemdHost.boot();
  systemd.unit(
    'haproxy.service',
    readFileSync('/lib/systemd/system/haproxy.service', 'utf8'),
    `[Service]
Environment=CONFIG=${etc}/mtls.cfg
# No journal here.
BindReadOnlyPaths=
`,
  );

  await host.startAgent((args) => {
    const log = join(host.folder, 'agent.log');
    writeFileSync(log, '');
    systemd.unit(
      'vouch-agent.service',
      readFileSync(join(project, 'deploy/systemd/vouch-agent.service'), 'utf8'),
      `[Service]
ExecStart=
ExecStart=${[process.execPath, vouchEntry, ...args].join(' ')}
StandardError=append:${log}
StateDirectory=
BindReadOnlyPaths=${project} ${dirname(process.execPath)}
BindPaths=${host.folder}
`,
    );
    const follow = 'systemctl start vouch-agent.service && exec tail -n +1 -f "$0" >&2';
    return start(['sh', '-c', follow, log], { wrapper: systemd.inside });
  });
  expect(await systemd.systemctl('start', 'haproxy.service')).toMatchObject({ code: 0, stderr: '' });

  const proof = await host.prove(serverName, () => exchanges.http(serverName));
  expectSmooth(proof);
  expect(proof).toMatchObject({ refusalMs: expect.any(Number), isServedOnOpen: false });
}, 60_000);

test('a unit that is not there, does not run or cannot reload is a failure in the words of systemctl', async () => {
  const systemd = await SystemdHost.boot();
  const folder = newFolder();
  // This machine's systemctl, which looks for its systemd in /run.
  const enter = `#!/bin/sh\nexec ${systemd.inside.join(' ')} /bin/systemctl "$@"\n`;
  writeFileSync(join(folder, 'systemctl'), enter, { mode: 0o755 });
  const { PATH } = process.env;
  process.env.PATH = `${folder}:${PATH}`;
  onTestFinished(() => void (process.env.PATH = PATH));
  const reload = () =>
    reloadOnce(
      { on: [], type: 'systemd', unit: 'web.service' },
      { dir: folder, change: 'crl', signal: AbortSignal.timeout(30_000) },
    );

  expect(await reload()).toMatch('Unit web.service not found');
  const can = join(folder, 'can-reload');
  systemd.unit('web.service', `[Service]\nExecStart=/bin/sleep 600\nExecReload=/usr/bin/test -e ${can}\n`);
  await systemd.systemctl('daemon-reload');
  expect(await reload()).toMatch('web.service is not active, cannot reload');
  await systemd.systemctl('start', 'web.service');
  expect(await reload()).toMatch('Job for web.service failed');
  writeFileSync(can, '');
  expect(await reload()).toBeUndefined();
}, 60_000);
