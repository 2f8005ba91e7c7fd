import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { validateJwtSvid } from '../../src/agent/jwt/validate.ts';
import { type GrpcServer, type Method, serveGrpc } from '../../src/agent/grpc/server.ts';
import { createWorkloadApi, type ValidJwt, type WorkloadApi } from '../../src/agent/workload-api/service.ts';
import type { Attest } from '../../src/attestation/workload/attest.ts';
import { type WorkloadPeer, workloadPeer } from '../../src/attestation/workload/peer.ts';
import { FakeAuthority, type FakeEntry, FakeWorkloads } from '../fakes/workloads.ts';

/** The Workload API over a fake of what the agent holds, on a socket of its own; peers are real ones, known by their uid. */
export interface WorkloadApiBed {
  socket: string;
  authority: FakeAuthority;
  workloads: FakeWorkloads;
  api: WorkloadApi;
  server: GrpcServer;
  notices: string[];
  close(): Promise<void>;
}

interface Options {
  entries?: readonly FakeEntry[];
  attest?: Attest;
  peerOf?: (socket: Parameters<typeof workloadPeer>[0]) => WorkloadPeer;
  validate?: (token: string, audience: string) => ValidJwt;
  /** What is served in place of a method. */
  replace?: (name: string, method: Method) => Method;
  patienceMs?: number;
  /** Serve nothing yet. */
  isEmpty?: boolean;
}

/** Selectors of this process, as the attestor below sees it. */
export const ownSelectors = [`unix:uid:${process.getuid?.()}`];
export const ownEntries: readonly FakeEntry[] = [
  { entryId: 'e_1', spiffeId: 'spiffe://fake.example/web', selectors: ownSelectors, hint: 'internal' },
  { entryId: 'e_2', spiffeId: 'spiffe://fake.example/batch', selectors: ownSelectors },
  { entryId: 'e_3', spiffeId: 'spiffe://fake.example/other', selectors: ['unix:uid:4294967294'] },
];

export async function workloadApiBed(options: Options = {}): Promise<WorkloadApiBed> {
  const authority = await FakeAuthority.make();
  const workloads = new FakeWorkloads(authority);
  const svids = await Promise.all((options.entries ?? ownEntries).map((entry) => authority.svid(entry)));
  if (!options.isEmpty) workloads.set({ svids, trust: await authority.trust() });
  const notices: string[] = [];
  const notice = (line: string) => void notices.push(line);
  const api = createWorkloadApi({
    workloads,
    attest: options.attest ?? (async (peer) => new Set([`unix:uid:${peer.uid}`])),
    validate:
      options.validate ??
      ((token, audience, { trustDomain, jwtKeys }) =>
        validateJwtSvid(token, audience, { trustDomain, keys: jwtKeys, nowMs: Date.now() })),
    notice,
    ...(options.patienceMs !== undefined && { patienceMs: options.patienceMs }),
  });
  const dir = mkdtempSync(join(tmpdir(), 'vouch-workload-api-'));
  chmodSync(dir, 0o711);
  const socket = join(dir, 'agent.sock');
  const { replace = (_name, method) => method } = options;
  const methods = new Map(
    [...api.methods].map(([path, method]) => [path, replace(path.split('/')[2] ?? '', method)]),
  );
  const server = await serveGrpc({
    socket,
    mode: 0o777,
    methods,
    peerOf: options.peerOf ?? workloadPeer,
    notice,
  });
  return {
    socket,
    authority,
    workloads,
    api,
    server,
    notices,
    close: async () => {
      api.close();
      await server.close(0);
      rmSync(dir, { recursive: true });
    },
  };
}
