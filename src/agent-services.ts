import type { AgentDaemon } from './agent/daemon/daemon.ts';
import { serveGrpc } from './agent/grpc/server.ts';
import { HostLacks } from './agent/host-lacks.ts';
import { validateJwtSvid } from './agent/jwt/validate.ts';
import { createSds } from './agent/sds/service.ts';
import { createWorkloadApi } from './agent/workload-api/service.ts';
import { createAttest } from './attestation/workload/attest.ts';
import { workloadPeer } from './attestation/workload/peer.ts';
import { createUnixAttestor } from './attestation/workload/unix/attestor.ts';
import { createLacks } from './attestation/workload/unix/lacks.ts';
import type { AgentConfig } from './config/agent-file.ts';
import { systemClock } from './core/clock.ts';

/** How long connections of proxies may go on after SIGTERM. */
const proxyGraceMs = 10_000;
/** How long calls at the socket may: streams are ended at once, and their clients come back to the next agent. */
const socketGraceMs = 2_000;
/** Every process of the host may ask; who it is decides what it gets. */
const socketMode = 0o666;

interface Service {
  close(): Promise<void>;
}

/**
 * What serves the workloads of the host: the socket with Workload API and SDS, delivered files, proxies. Each begins at
 * once and serves when there is something to serve. Throws `config-in-use` and `config-invalid`, and then leaves nothing open.
 */
export async function openServices(
  config: AgentConfig,
  daemon: AgentDaemon,
  notice: (line: string) => void,
): Promise<Service> {
  const open: Service[] = [];
  const close = async (): Promise<void> => void (await Promise.all(open.map((service) => service.close())));
  try {
    open.push(await openSocket(config, daemon, notice));
    if (config.proxy.length > 0) open.push(await openProxies(config, daemon, notice));
    if (config.deliver.length > 0) open.push(await openDeliveries(config, daemon, notice));
    return { close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openSocket(
  { socket }: AgentConfig,
  daemon: AgentDaemon,
  notice: (line: string) => void,
): Promise<Service> {
  const { workloads, statusParts } = daemon;
  // Also by what is withheld: a refusal is to say so.
  const attest = createAttest([createUnixAttestor()], () => daemon.entries);
  const api = createWorkloadApi({
    ...{ workloads, attest, notice },
    validate: (token, audience, { trustDomain, jwtKeys }) =>
      validateJwtSvid(token, audience, { trustDomain, keys: jwtKeys, nowMs: systemClock.now() }),
  });
  const sds = createSds({ workloads, attest, notice });
  const methods = new Map([...api.methods, ...sds.methods]);
  const server = await serveGrpc({
    ...{ socket, mode: socketMode, methods, peerOf: workloadPeer, notice },
    problemChanged: () => daemon.statusChanged(),
  });
  const lacks = new HostLacks(createLacks(), notice);
  const unsubscribe = workloads.subscribe(() => void lacks.take(daemon.entries));
  if (workloads.now !== undefined) void lacks.take(daemon.entries);
  statusParts.set('socket', () => ({
    path: socket,
    connections: server.connections,
    streams: server.streams,
    problem: server.problem ?? null,
  }));
  return {
    close: async () => {
      unsubscribe();
      await server.close(socketGraceMs);
      api.close();
      sds.close();
    },
  };
}

async function openProxies(
  { proxy, crl }: AgentConfig,
  daemon: AgentDaemon,
  notice: (line: string) => void,
): Promise<Service> {
  const { workloads, statusParts } = daemon;
  const { MtlsProxies } = await import('./agent/proxy/mtls-proxies.ts');
  const staleCrl = crl === 'require' ? 'refuse' : 'allow';
  const proxies = new MtlsProxies(proxy, {
    ...{ clock: systemClock, notice, staleCrl },
    withheld: () => workloads.withheld(),
    knownCrl: (der) => daemon.knownCrl(der),
  });
  await proxies.listen();
  statusParts.set('proxy', () => proxies.status());
  const unsubscribe = workloads.subscribe((served) => proxies.take(served));
  if (workloads.now !== undefined) proxies.take(workloads.now);
  return {
    close: async () => {
      unsubscribe();
      await proxies.close(proxyGraceMs);
    },
  };
}

async function openDeliveries(
  { deliver }: AgentConfig,
  daemon: AgentDaemon,
  notice: (line: string) => void,
): Promise<Service> {
  const { DeliverTargets } = await import('./agent/deliver/targets.ts');
  const { workloads, statusParts } = daemon;
  const targets = new DeliverTargets(deliver, {
    ...{ clock: systemClock, notice },
    withheld: () => workloads.withheld(),
    statusChanged: () => daemon.statusChanged(),
  });
  statusParts.set('deliver', () => targets.status());
  const unsubscribe = workloads.subscribe((served) => targets.take(served));
  if (workloads.now !== undefined) targets.take(workloads.now);
  return {
    close: async () => {
      unsubscribe();
      await targets.close();
    },
  };
}
