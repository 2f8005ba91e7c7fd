import { expect, test } from 'vitest';
import { DeliveredHost, expectSmooth, plainService } from '../support/delivered-software.ts';
import { placeFiles } from '../support/proxy.ts';
import { exchanges } from '../support/tls-caller.ts';

// As deploy/ and docs/integrations/ have them; `vouch exec` does the same for one of them in proxies-refuse-….test.ts.

test.each([
  ['nginx', 'web.prod.example'],
  ['haproxy', 'edge.prod.example'],
] as const)(
  '%s takes each rotation and each CRL from the agent, and no handshake fails',
  async (name, serverName) => {
    const service = await plainService();
    const host = await DeliveredHost.boot(name);
    const [etc, run] = [host.giveFolder('/etc/vouch', 'root'), host.giveFolder('/run/vouch', 'root')];
    placeFiles(name, { etc, run, port: host.port, servicePort: service.port });
    await host.startAgent();
    host.start(['sh', '-c', `exec ${host.block(new RegExp(`^${name} `))}`]);
    const proof = await host.prove(serverName, () => exchanges.http(serverName));
    expectSmooth(proof);
    expect(proof).toMatchObject({ refusalMs: expect.any(Number), isServedOnOpen: false });
  },
  60_000,
);
