import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type GrpcServer, serveGrpc } from '../../../src/agent/grpc/server.ts';
import { createSds } from '../../../src/agent/sds/service.ts';
import { decodePem } from '../../../src/x509/pem.ts';
import { HeldWorkloads, svidOf, trustOf } from '../../fakes/held-workloads.ts';
import { FakePeer } from '../../fakes/workload-peer.ts';
import { type ReadSecret, SdsClient, type SdsStream } from '../../support/sds-client.ts';

const web = 'spiffe://prod.example/web';
const api = 'spiffe://prod.example/api';
const other = 'spiffe://prod.example/other';
const domain = 'spiffe://prod.example';

let folder: string;
let workloads: HeldWorkloads;
let server: GrpcServer;
let client: SdsClient;
let peers: FakePeer[];
let notices: string[];
let selectors: string[];
let attested: number;
let sds: ReturnType<typeof createSds>;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vouch-s-'));
  peers = [];
  notices = [];
  selectors = ['unix:uid:1000'];
  attested = 0;
  workloads = new HeldWorkloads({
    svids: [
      svidOf(web, { allowedClients: [`${domain}/gateway`, `${domain}/ops/*`] }),
      svidOf(api),
      svidOf(other, { selectors: ['unix:uid:1000', 'unix:path:/other'] }),
    ],
    trust: trustOf('prod.example', [Buffer.from('crl of the issuer'), Buffer.from('crl of the root')]),
  });
  sds = createSds({
    workloads,
    attest: async () => {
      attested += 1;
      return new Set(selectors);
    },
    notice: (line) => notices.push(line),
  });
  server = await serveGrpc({
    socket: join(folder, 's'),
    mode: 0o600,
    methods: sds.methods,
    peerOf: () => {
      const peer = new FakePeer();
      peers.push(peer);
      return peer;
    },
    notice: (line) => notices.push(line),
  });
  client = new SdsClient(join(folder, 's'));
});

afterEach(async () => {
  client.close();
  sds.close();
  await server.close(0);
  rmSync(folder, { recursive: true });
});

async function names(...resourceNames: string[]): Promise<string[]> {
  return (await client.fetch({ resourceNames })).resources.map(({ value }) => value.name);
}

async function secret(name: string): Promise<ReadSecret> {
  const [found] = (await client.fetch({ resourceNames: [name] })).resources;
  if (found === undefined) throw new Error(`no ${name}`);
  return found.value;
}

function open(...resourceNames: string[]): SdsStream {
  const stream = client.stream();
  stream.send({ node: { id: 'envoy-1' }, resourceNames });
  return stream;
}

/** What was asked before this has been looked at. */
async function settle(): Promise<void> {
  await client.fetch({ resourceNames: [web] });
  await client.fetch({ resourceNames: [web] });
}

function renewed(serial: string): void {
  workloads.serve({
    svids: (workloads.now?.svids ?? []).map((one) =>
      one.spiffeId === web
        ? svidOf(web, { serial, allowedClients: one.allowedClients, selectors: one.selectors })
        : one,
    ),
  });
}

describe('a secret', () => {
  it('named by a SPIFFE ID is the key and the chain', async () => {
    const { tlsCertificate } = await secret(api);
    const chain = tlsCertificate?.certificateChain.inlineBytes.toString() ?? '';
    const held = workloads.now?.svids[1];
    expect(decodePem(chain, 'CERTIFICATE')).toEqual(held?.chain);
    expect(decodePem(String(tlsCertificate?.privateKey.inlineBytes), 'PRIVATE KEY')).toEqual([
      held?.keyPkcs8,
    ]);
    expect(await secret('default')).toEqual({ ...(await secret(web)), name: 'default' });
  });

  it.each([domain, 'ROOTCA', 'ALL'])('named %s is the trust domain, less the revoked', async (name) => {
    const { validationContext } = await secret(name);
    expect(decodePem(String(validationContext?.trustedCa.inlineBytes), 'CERTIFICATE')).toEqual(
      workloads.now?.trust.roots,
    );
    expect(decodePem(String(validationContext?.crl?.inlineBytes), 'X509 CRL')).toEqual(
      workloads.now?.trust.crls,
    );
    expect(validationContext?.matchTypedSubjectAltNames).toEqual([]);
  });

  it.each(['allowed-clients', `allowed-clients:${web}`])(
    'named %s lets in whom the entry lets call',
    async (name) => {
      const { validationContext } = await secret(name);
      expect(validationContext?.crl?.inlineBytes.toString()).toContain('X509 CRL');
      expect(validationContext?.matchTypedSubjectAltNames).toMatchObject([
        { sanType: 'URI', matcher: { exact: `${domain}/gateway` } },
        { sanType: 'URI', matcher: { prefix: `${domain}/ops/` } },
      ]);
    },
  );

  it('of an entry that lets nobody call lets in nobody, not everybody', async () => {
    const { validationContext } = await secret(`allowed-clients:${api}`);
    expect(validationContext?.matchTypedSubjectAltNames).toMatchObject([
      { sanType: 'URI', matcher: { exact: `${domain}/vouch/nobody` } },
    ]);
  });

  it('that the caller may not have is left out, and a request for nothing else refused', async () => {
    expect(await names(web, other, `allowed-clients:${other}`, 'nonsense', 'ROOTCA')).toEqual([
      web,
      'ROOTCA',
    ]);
    for (const name of [other, `allowed-clients:${other}`, 'nonsense', 'spiffe://other.example'])
      await expect(names(name)).rejects.toMatchObject({ code: 3 });
    expect(notices.join('\n')).toContain('e_other asks for unix:path:/other');
    selectors.push('unix:path:/other');
    expect(await names(other)).toEqual([other]);
  });

  it('is one for each the caller has where none is named', async () => {
    expect(await names()).toEqual([web, api, domain]);
  });

  it('is none for who has no identity, and the answer says nothing of why', async () => {
    selectors = ['unix:uid:7'];
    await expect(names('ROOTCA')).rejects.toMatchObject({ code: 7, details: 'no identity issued' });
    expect(notices.join('\n')).toContain('pid 4711 shows unix:uid:7; e_web asks for unix:uid:1000');
  });

  it('is none while the agent has nothing yet', async () => {
    workloads.now = undefined;
    await expect(names('ROOTCA')).rejects.toMatchObject({ code: 14 });
    expect(await open('ROOTCA').ended()).toBe(14);
  });
});

describe('a stream', () => {
  it('is sent what it names at once, and again when its content changes', async () => {
    const stream = open('default');
    const first = await stream.response(1);
    expect(first).toMatchObject({ nonce: first.versionInfo, resources: [{ value: { name: 'default' } }] });
    stream.acknowledge(['default']);
    renewed('02');
    const second = await stream.response(2);
    expect(second.versionInfo).not.toBe(first.versionInfo);
    const chain = second.resources[0]?.value.tlsCertificate?.certificateChain.inlineBytes.toString() ?? '';
    expect(decodePem(chain, 'CERTIFICATE')[0]?.toString()).toBe(`leaf ${web} 02`);
    stream.end();
    expect(await stream.ended()).toBe(0);
  });

  it('is sent nothing when what it names stays equal', async () => {
    const certificate = open(api);
    const context = open('ROOTCA');
    await Promise.all([certificate.response(1), context.response(1)]);
    certificate.acknowledge([api]);
    context.acknowledge(['ROOTCA']);
    renewed('02');
    await settle();
    expect([certificate.responses.length, context.responses.length]).toEqual([1, 1]);
    workloads.serve({ trust: trustOf('prod.example', [Buffer.from('another crl')]) });
    await context.response(2);
    await settle();
    expect(certificate.responses.length).toBe(1);
  });

  it('that refuses a version is not sent it again until something changes, and the log says why', async () => {
    const stream = open('default');
    const { versionInfo } = await stream.response(1);
    stream.acknowledge(['default'], 'no such\nkey');
    await vi.waitFor(() =>
      expect(notices).toContain(
        `pid 4711 (envoy-1) refuses the secrets of version ${versionInfo}: no such?key`,
      ),
    );
    workloads.serve({});
    await settle();
    expect(stream.responses.length).toBe(1);
    renewed('02');
    await stream.response(2);
  });

  it('may name others, which a late answer to an older response does not', async () => {
    const stream = open('default');
    const first = await stream.response(1);
    stream.acknowledge(['default', api]);
    expect((await stream.response(2)).resources.map(({ value }) => value.name)).toEqual(['default', api]);
    stream.send({ resourceNames: ['ROOTCA'], responseNonce: first.nonce });
    await settle();
    expect(stream.responses.length).toBe(2);
    stream.acknowledge(['ROOTCA']);
    expect((await stream.response(3)).resources.map(({ value }) => value.name)).toEqual(['ROOTCA']);
  });

  it('is looked at again when it names others and when an entry asks for other selectors', async () => {
    const stream = open(web, other);
    await stream.response(1);
    expect(attested).toBe(1);
    renewed('02');
    await stream.response(2);
    expect(attested).toBe(1);
    // An entry that is made later asks for what nobody had to look at before.
    selectors.push('unix:sha256:00');
    workloads.serve({
      svids: [...(workloads.now?.svids ?? []).slice(0, 2), svidOf(other, { selectors: ['unix:sha256:00'] })],
    });
    expect((await stream.response(3)).resources.map(({ value }) => value.name)).toEqual([web, other]);
    stream.acknowledge([web, other, api]);
    await stream.response(4);
    expect(attested).toBe(3);
  });

  it.each([
    ['its process has ended', () => peers.forEach((peer) => (peer.alive = false))],
    ['its identity is gone', () => workloads.serve({ svids: [] })],
  ])('ends, and is sent nothing more, when %s', async (_why, change) => {
    const stream = open('default');
    await stream.response(1);
    change();
    renewed('02');
    expect(await stream.ended()).toBe(7);
    expect(stream.message).toBe('no identity issued');
    expect(stream.responses.length).toBe(1);
  });

  it('that names nothing of its own at first is refused', async () => {
    expect(await open(other).ended()).toBe(3);
  });

  it('is refused for other things than secrets, and for what is no request', async () => {
    const stream = client.stream();
    stream.send({ typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' });
    expect(await stream.ended()).toBe(3);
    const many = client.stream();
    many.send({ resourceNames: Array.from({ length: 257 }, (_, index) => `n${index}`) });
    expect(await many.ended()).toBe(3);
    const long = client.stream();
    // The agent would keep them for as long as the stream lives, of thousands of streams.
    const names = Array.from({ length: 200 }, (_, index) => `${index}${'n'.repeat(250)}`);
    long.send({ resourceNames: ['default', ...names] });
    expect(await long.ended()).toBe(3);
  });

  it('that says no to each version as fast as it can has the agent do nothing', async () => {
    const stream = open('default');
    await stream.response(1);
    for (let at = 0; at < 150; at += 1) stream.acknowledge(['default'], 'no');
    await settle();
    expect([stream.responses.length, attested]).toEqual([1, 3]);
    renewed('02');
    await stream.response(2);
  });

  it('that asks again and again, for this and for that, is ended', async () => {
    const stream = open('default');
    await stream.response(1);
    let last = 1;
    const again = setInterval(() => {
      last = stream.responses.length;
      for (let at = 0; at < 50; at += 1) stream.acknowledge(at % 2 === 0 ? ['ROOTCA'] : ['default']);
    }, 1);
    onTestFinished(() => clearInterval(again));
    expect(await stream.ended()).toBe(8);
    expect(last).toBeLessThan(300);
    expect(attested).toBeLessThan(300);
    expect((await client.fetch({ resourceNames: [web] })).resources).toHaveLength(1);
  });

  it('that is one of many which ask for this and for that is ended when all of them do too much', async () => {
    const streams = Array.from({ length: 40 }, () => open('default'));
    await Promise.all(streams.map((stream) => stream.response(1)));
    // Each fewer than it might by itself.
    for (let at = 0; at < 280 && streams.every(({ status }) => status === undefined); at += 1)
      await Promise.all(
        streams.map(async (stream) => {
          stream.acknowledge(at % 2 === 0 ? ['ROOTCA'] : ['default']);
          await stream.response(at + 2).catch(() => undefined);
        }),
      );
    expect(streams.map(({ status }) => status)).toContain(8);
  });

  it('is of its own: what was sent on another acknowledges nothing', async () => {
    const [one, two] = [open('default'), open('ROOTCA')];
    const [{ nonce }] = await Promise.all([two.response(1), one.response(1)]);
    one.send({ resourceNames: ['ROOTCA'], responseNonce: nonce });
    one.send({ resourceNames: ['ROOTCA'] });
    await settle();
    expect(one.responses.length).toBe(1);
  });

  it('of deltas is not implemented', async () => {
    const stream = client.delta();
    stream.send({ resourceNames: ['default'] });
    expect(await stream.ended()).toBe(12);
  });

  it('is gone from the agent when it ends', async () => {
    const stream = open('default');
    await stream.response(1);
    stream.cancel();
    await vi.waitFor(() => expect(server.streams).toBe(0));
    renewed('02');
    await settle();
    expect(stream.responses.length).toBe(1);
  });
});
