import { expect, test } from 'vitest';
import { DeliveredHost, expectSmooth } from '../support/delivered-software.ts';
import { exchanges } from '../support/tls-caller.ts';

test('redis takes each rotation by a command, and no handshake fails; it knows no revocation', async () => {
  const host = await DeliveredHost.boot('redis', [['tls-port 6379', 'tls-port $PORT']]);
  host.giveFolder('/run/redis', 'redis');
  const config = host.write('/etc/redis.conf', `${host.block(/^tls-port/m)}save ""\n`);
  await host.startAgent();
  host.start(['redis-server', config], 'redis');
  const proof = await host.prove('redis.prod.example', exchanges.redis, { readsCrls: false });
  expectSmooth(proof);
  expect(proof).toMatchObject({ refusalMs: undefined, isServedOnOpen: true });
}, 60_000);
