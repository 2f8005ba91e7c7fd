import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import type { Authority } from '../support/daemon.ts';
import { freePort } from '../support/ports.ts';
import { eventually, start } from '../support/running.ts';
import { type EnvoyPlace, envoyConfig, envoyProgram } from '../support/sds-host.ts';
import type { Target } from '../support/tls-peer.ts';

/** Where agents' secrets are, and by which group of its own each Envoy is told apart there. */
interface Place {
  socket: string;
  groups: { web: number; gateway: number };
}

/**
 * deploy/envoy/mtls.yaml, run by the command of docs/integrations/envoy.md, twice: one Envoy in front of `web`'s plain
 * service, one that `gateway` calls it by.
 */
export class EnvoyPair {
  /** Of `web`'s Envoy: mTLS. */
  readonly inbound: Target;
  /** Of `gateway`'s: plain. */
  readonly outbound: Target;
  /** What the service was last told. */
  seen: IncomingHttpHeaders = {};
  readonly #service = createServer((request, response) => {
    this.seen = request.headers;
    response.end('served');
  });

  private constructor(inboundPort: number, outboundPort: number) {
    this.inbound = { host: '127.0.0.1', port: inboundPort };
    this.outbound = { host: '127.0.0.1', port: outboundPort };
  }

  /** Resolves when the one calls the other. */
  static async start(authority: Authority, { socket, groups }: Place): Promise<EnvoyPair> {
    const program = envoyProgram();
    const ports: number[] = [];
    for (let index = 0; index < 4; index += 1) ports.push(await freePort());
    const [inboundPort = 0, outboundPort = 0, spare = 0, spareToo = 0] = ports;
    const pair = new EnvoyPair(inboundPort, outboundPort);
    await new Promise<void>((done) => pair.#service.listen(0, '127.0.0.1', done));
    const { port: servicePort } = pair.#service.address() as AddressInfo;
    const place = { socket, servicePort, other: authority.id('web'), otherPort: inboundPort };
    const envoy = (group: number, own: EnvoyPlace): void => {
      const config = `${authority.path('envoy')}.yaml`;
      writeFileSync(config, envoyConfig(own));
      start(['setpriv', '--groups', String(group), program, ...documentedFlags(config)]);
    };
    envoy(groups.web, { ...place, inboundPort, outboundPort: spare });
    envoy(groups.gateway, { ...place, inboundPort: spareToo, outboundPort });
    await eventually(async () => (await pair.askThroughGateway()) === 'served', 30_000);
    return pair;
  }

  /** What the service answers, or why there is no answer. */
  async askThroughGateway(): Promise<string> {
    try {
      const { port } = this.outbound;
      const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } });
      return await response.text();
    } catch (error) {
      return String((error as Error).cause ?? error);
    }
  }

  close(): void {
    this.#service.close();
  }
}

function documentedFlags(config: string): string[] {
  const document = readFileSync(resolve('docs/integrations/envoy.md'), 'utf8');
  const [, command = ''] = /^```sh\n(envoy [^`]+)\n```$/m.exec(document) ?? [];
  const flags = command.replace('/etc/envoy/mtls.yaml', config).split(' ').slice(1);
  return [...flags, '--disable-hot-restart', '--concurrency', '1', '--log-level', 'warning'];
}
