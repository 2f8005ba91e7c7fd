import { readFileSync, writeFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { DeliveredHost, expectSmooth, plainService } from '../support/delivered-software.ts';
import { exchanges } from '../support/tls-caller.ts';
import { runTool } from '../x509/oracle-tools.ts';

const serverName = 'web.prod.example';
const migrateRequests = '/proc/sys/net/ipv4/tcp_migrate_req';

test('caddy takes each rotation by a forced reload, and no handshake fails; it knows no revocation', async () => {
  const service = await plainService();
  const host = await DeliveredHost.boot('caddy', [
    [`${serverName}:8443`, `${serverName}:$PORT`],
    ['127.0.0.1:8080', `127.0.0.1:${service.port}`],
  ]);
  const before = readFileSync(migrateRequests);
  onTestFinished(() => writeFileSync(migrateRequests, before));
  runTool('sysctl', '-p', host.write('/etc/sysctl.d/caddy.conf', host.block(/tcp_migrate_req/)));
  host.giveFolder('/run/caddy', 'caddy');
  const config = host.write('/etc/caddy/Caddyfile', host.block(/client_auth/));
  await host.startAgent();
  host.start(['caddy', 'run', '--config', config], 'caddy');
  const proof = await host.prove(serverName, () => exchanges.http(serverName), { readsCrls: false });
  expectSmooth(proof);
  expect(proof).toMatchObject({ refusalMs: undefined, isServedOnOpen: true });
  const named = new Set(service.seen.map((headers) => headers['x-client-id']));
  expect(named).toEqual(new Set(['spiffe://prod.example/good', 'spiffe://prod.example/victim']));
}, 60_000);
