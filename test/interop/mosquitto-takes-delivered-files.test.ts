import { expect, test } from 'vitest';
import { DeliveredHost, expectSmooth } from '../support/delivered-software.ts';
import { exchanges } from '../support/tls-caller.ts';

test('mosquitto takes each rotation and each CRL by SIGHUP, and no handshake fails', async () => {
  const host = await DeliveredHost.boot('mosquitto', [['listener 8883', 'listener $PORT 127.0.0.1']]);
  host.giveFolder('/run/mosquitto', 'mosquitto');
  const config = host.write('/etc/mosquitto.conf', host.block(/^listener/m));
  await host.startAgent();
  const mosquitto = host.start(['mosquitto', '-c', config], 'mosquitto');
  const proof = await host.prove('mqtt.prod.example', exchanges.mqtt);
  expectSmooth(proof);
  expect(proof).toMatchObject({ refusalMs: expect.any(Number), isServedOnOpen: true });
  expect(mosquitto.stderr).toContain("u'good.prod.example'");
}, 60_000);
