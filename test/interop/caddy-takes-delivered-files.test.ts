import { expect, test } from 'vitest';
import { DeliveredHost, expectSmooth, plainService } from '../support/delivered-software.ts';
import { exchanges } from '../support/tls-caller.ts';

const serverName = 'web.prod.example';

test('caddy takes each rotation by a forced reload, and no handshake fails; it knows no revocation', async () => {
  const service = await plainService();
  const host = await DeliveredHost.boot('caddy', [
    [`${serverName}:8443`, `${serverName}:$PORT`],
    ['127.0.0.1:8080', `127.0.0.1:${service.port}`],
  ]);
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
