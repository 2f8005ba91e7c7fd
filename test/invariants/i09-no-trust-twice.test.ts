// I9 the agent trusts no one twice: the server is known by the pin and by exactly its SPIFFE ID, over two connections;
// names under /vouch/ are reserved; nothing older than one seen is accepted, no inconsistent tree, no certificate without
// proof.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseSpiffeId, serverSpiffeId } from '../../src/core/spiffe-id.ts';
import { lintCertificate } from '../../src/lint/certificate.ts';
import { parseJoinFile } from '../../src/wire/join-file.ts';
import type { CertificateAnswerJson } from '../../src/wire/enrollment.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { chainPem, FakeAuthority, newKey } from '../agent/support/fake-authority.ts';
import { type Draft, FakeServer, serverChain } from '../agent/support/fake-server.ts';
import { run, startAuthority, temporaryFolder, workload, writeJoinFile } from '../agent/support/harness.ts';
import {
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';
import { Enrollee, enrollmentOver, newToken } from './support/enrollee.ts';
import { HostileServer } from './support/hostile-server.ts';
import { codeOf } from './support/refusal.ts';
import { softwareSigner } from './support/signer-targets.ts';

/** A server that shows what it is told to, to whoever comes. */
async function impostor(authority: FakeAuthority, chain: { cert: string; key: string }): Promise<FakeServer> {
  const server = await FakeServer.start(authority, chain);
  onTestFinished(() => server.stop());
  return server;
}

/** Enrolls; where it is refused not a byte of a request has left, and nothing was delivered. */
async function expectNoSecretFor(
  server: FakeServer,
  over: Parameters<FakeServer['joinLine']>[0] = {},
): Promise<string> {
  const one = workload(server, over);
  const { code, stderr, stdout } = await one.enroll();
  expect(server.bodies, 'bodies that reached an impostor').toEqual([]);
  expect(server.requests, 'requests that reached an impostor').toEqual([]);
  expect([code, stdout, existsSync(join(one.dir, 'current'))]).toEqual([1, '', false]);
  const { code: problem, detail } = JSON.parse(stderr) as { code: string; detail: string };
  expect(problem).toBe('denied-server');
  return detail;
}

const workloadId = 'spiffe://example.org/orders';

describe('a server', () => {
  test('that is the one gets the token, and the workload its certificate', async () => {
    const { server } = await startAuthority();
    const one = workload(server);
    expect(await one.enroll()).toMatchObject({ code: 0, stderr: '' });
    const { token } = parseJoinFile(readFileSync(one.joinFile, 'utf8'));
    expect([server.connections, server.bodies.length]).toEqual([2, 1]);
    expect(server.bodies[0]).toContain(token);
  });

  test("[guard] that poses with a workload's certificate of the right host gets nothing", async () => {
    const authority = new FakeAuthority();
    // Issued in good faith to a workload that runs where the CA is reached: same host, same address, same root.
    const server = await impostor(authority, serverChain(authority, workloadId));
    expect(await expectNoSecretFor(server)).toContain(workloadId);
  });

  test.each([
    '/vouch/server/x',
    '/vouch',
    '/vouch/servers',
    '/Vouch/server',
    '/vouch/agent',
    '/vouch/Server',
    '/server',
  ])('[guard] that is %s is not the server', async (path) => {
    const authority = new FakeAuthority();
    const server = await impostor(authority, serverChain(authority, `spiffe://example.org${path}`));
    await expectNoSecretFor(server);
  });

  test('[guard] that poses as such gets no renewal either: the client certificate proves nothing to it', async () => {
    const { authority, server } = await startAuthority();
    const one = workload(server);
    await one.enroll();
    const fake = await impostor(authority, serverChain(authority, workloadId));
    const state = join(one.dir, 'agent.json');
    const moved = readFileSync(state, 'utf8').replaceAll(server.url, fake.url);
    writeFileSync(state, moved);
    const before = one.read('svid.pem');
    expect((await one.renew()).code).toBe(1);
    expect([fake.requests, one.read('svid.pem')]).toEqual([[], before]);
  });

  test('[guard] that poses as such serves no trust bundle', async () => {
    const authority = new FakeAuthority();
    const server = await impostor(authority, serverChain(authority, workloadId));
    const out = join(temporaryFolder(), 'bundle.pem');
    const fetched = await run(
      'bundle',
      'fetch',
      '--url',
      server.url,
      '--pin',
      authority.pin,
      '--out',
      out,
      '--timeout',
      '2',
    );
    expect([fetched.code, existsSync(out), server.requests]).toEqual([1, false, []]);
  });

  test('of another root is refused at the first connection: no second one is made', async () => {
    const other = new FakeAuthority();
    const server = await impostor(other, serverChain(other));
    await expectNoSecretFor(server, { pin: new FakeAuthority().pin });
    expect(server.connections).toBe(1);
  });

  test('of another root does not pass by showing the pinned one beside its own', async () => {
    const real = new FakeAuthority();
    const other = new FakeAuthority();
    const key = newKey();
    const leaf = other.issue(key.spki, {
      uris: ['spiffe://example.org/vouch/server'],
      ipAddresses: ['127.0.0.1'],
      dnsNames: ['localhost'],
    });
    for (const cas of [
      [other.issuer.der, other.root.der, real.root.der],
      [real.root.der, other.issuer.der, other.root.der],
      [other.issuer.der, real.root.der],
      [real.issuer.der, real.root.der],
    ]) {
      const server = await impostor(other, { cert: chainPem(leaf, ...cas), key: key.pem });
      await expectNoSecretFor(server, { pin: real.pin });
    }
  });

  test('that lets the first connection through to the real one and takes the second gets nothing', async () => {
    const { authority, server: real } = await startAuthority();
    const other = new FakeAuthority();
    const fake = await impostor(other, serverChain(other));
    let connections = 0;
    const between = net.createServer((socket) => {
      connections += 1;
      const onward = net.connect(connections === 1 ? real.port : fake.port, '127.0.0.1');
      socket.pipe(onward).pipe(socket);
      for (const end of [socket, onward]) end.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => void between.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void between.close());
    const url = `https://127.0.0.1:${(between.address() as net.AddressInfo).port}`;
    const one = workload(real, { server: url, pin: authority.pin });
    expect((await one.enroll('--timeout', '1')).code).toBe(1);
    expect([fake.bodies, real.bodies, connections]).toEqual([[], [], 2]);
  });

  test('that passes everything on learns the token from nobody: it is sealed to the real one', async () => {
    const { server: real } = await startAuthority();
    const heard: Buffer[] = [];
    const between = net.createServer((socket) => {
      const onward = net.connect(real.port, '127.0.0.1');
      socket.on('data', (chunk: Buffer) => heard.push(chunk));
      socket.pipe(onward).pipe(socket);
      for (const end of [socket, onward]) end.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => void between.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void between.close());
    const one = workload(real, {
      server: `https://127.0.0.1:${(between.address() as net.AddressInfo).port}`,
    });
    expect((await one.enroll()).code).toBe(0);
    const { token } = parseJoinFile(readFileSync(one.joinFile, 'utf8'));
    expect(heard.length).toBeGreaterThan(1);
    expect(Buffer.concat(heard).includes(token.slice(4, 20))).toBe(false);
  });
});

describe('a name under /vouch/', () => {
  const names = ['/vouch', '/vouch/server', '/vouch/agent', '/vouch/x/y'];

  test.each(names)('is not given to a token: %s', async (path) => {
    const authority = await opened();
    const before = authority.store.treeSize();
    expect(await codeOf(() => newToken(authority, { spiffeId: `spiffe://${trustDomain}${path}` }))).toBe(
      'request-malformed',
    );
    expect(authority.store.treeSize()).toBe(before);
  });

  test.each([
    '/x/../vouch/server',
    '/./vouch/server',
    '//vouch/server',
    '/%76ouch/server',
    '/vouch%2fserver',
    '/vouch\\server',
    '/vouch/',
    '/orders/../vouch/server',
    '/ⅴouch/server',
  ])('is not reached by another spelling: %s', async (path) => {
    const authority = await opened();
    expect(await codeOf(() => newToken(authority, { spiffeId: `spiffe://${trustDomain}${path}` }))).toBe(
      'request-malformed',
    );
    expect(await codeOf(() => parseSpiffeId(`spiffe://${trustDomain}${path}`))).toBe('request-malformed');
  });

  test.each(names)(
    '[guard] is not issued, even where an entry of that name got into the store: %s',
    async (path) => {
      const authority = await opened();
      const { entry, tokenId } = await registered(authority, path.slice(1), { dnsNames: ['x.test.example'] });
      expect(await codeOf(() => authority.issuance.issue(requestFor(entry, tokenId)))).toBe('policy-lint');
      expect(authority.signer.signedLeaves).toHaveLength(0);
    },
  );

  test('[guard] but the one is not issued to the server itself', async () => {
    const authority = await opened();
    const asServer = (spiffeId: string) => {
      const request = requestFor({ entryId: '', version: 0 } as never, undefined);
      const names = { spiffeId: parseSpiffeId(spiffeId), dnsNames: ['ca.test.example'], ipAddresses: [] };
      return codeOf(() => authority.issuance.issue({ ...request, entry: undefined, names }));
    };
    expect(await asServer(serverSpiffeId(trustDomain))).toBe('allowed');
    for (const path of ['/vouch/agent', '/vouch', '/orders', '/vouch/server/2'])
      expect(await asServer(`spiffe://${trustDomain}${path}`), path).toBe('policy-lint');
  });

  test('is not had by asking for it in a CSR', async () => {
    const authority = await opened();
    const { token } = await newToken(authority);
    const who = new Enrollee();
    const csr = buildCsr(who.key, { uris: [serverSpiffeId(trustDomain)] });
    expect(await codeOf(() => who.enroll(enrollmentOver(authority), token, csr))).toBe('policy-names');
  });

  test('is not signed by the signer, save in the request for the own certificate', async () => {
    const target = await softwareSigner();
    onTestFinished(() => target.close());
    const attacker = new HostileServer(target);
    await attacker.begin();
    for (const path of names) {
      const tbs = attacker.certificateTbs({ uris: [`spiffe://${target.trustDomain}${path}`] });
      expect(await attacker.verdict(attacker.certificate(tbs), tbs), path).toBe('policy-names');
    }
  });

  test('[guard] is a finding of the lint', async () => {
    const { issuer } = await opened();
    const target = await softwareSigner();
    onTestFinished(() => target.close());
    const attacker = new HostileServer(target);
    for (const path of names) {
      const spiffeId = `spiffe://${target.trustDomain}${path}`;
      const tbs = attacker.certificateTbs({ uris: [spiffeId] });
      const context = { spiffeId, trustDomain: target.trustDomain, isServer: false };
      const about = { nameDer: issuer.issuerName, notAfterMs: issuer.notAfterMs, keyId: issuer.keyId };
      const findings = lintCertificate(tbs, { ...context, issuer: about }).map(({ rule }) => rule);
      expect(findings, path).toContain('reserved-names');
    }
  });

  test('is not taken by an agent, though the right server answers with it', async () => {
    const { server } = await startAuthority();
    server.spiffeId = 'spiffe://example.org/vouch/server';
    const one = workload(server);
    expect(await one.enroll()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('reserved') as unknown,
    });
    expect(existsSync(join(one.dir, 'current'))).toBe(false);
  });
});

describe('what is older than one seen', () => {
  const setBack: [string, (authority: FakeAuthority) => void, (authority: FakeAuthority) => void][] = [
    ['statement', (of) => (of.statementSequence = 5), (of) => (of.statementSequence = 4)],
    ['trust bundle', (of) => (of.bundleSequence = 5), (of) => (of.bundleSequence = 4)],
    ['CRL', (of) => (of.crlNumber = 5n), (of) => (of.crlNumber = 4n)],
    ['tree', (of) => of.grow(9), (of) => of.leafHashes.splice(0, 5)],
  ];

  test.each(setBack)('is refused in a renewal: a %s', async (_what, before, after) => {
    const { authority, server } = await startAuthority();
    before(authority);
    const one = workload(server);
    expect((await one.enroll()).code).toBe(0);
    const files = ['svid.pem', 'svid.key', 'bundle.pem', 'crl.pem'].map((file) => one.read(file));
    after(authority);
    const { code, stderr } = await one.renew('--timeout', '1');
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/integrity-|set back|older/);
    expect(['svid.pem', 'svid.key', 'bundle.pem', 'crl.pem'].map((file) => one.read(file))).toEqual(files);
  });

  test.each([
    ['statement', { statement: 2, bundle: 1, treeSize: 0 }],
    ['trust bundle', { statement: 1, bundle: 2, treeSize: 0 }],
    ['tree', { statement: 1, bundle: 1, treeSize: 100 }],
  ])('is refused by a fresh container, too: its join file knows the %s', async (_what, floor) => {
    const { server } = await startAuthority();
    const one = workload(server, { floor });
    const { code, stderr } = await one.enroll('--timeout', '1');
    expect([code, existsSync(join(one.dir, 'current'))]).toEqual([1, false]);
    expect(JSON.parse(stderr)).toMatchObject({ code: 'integrity-rewind' });
  });

  test('stays refused: what was seen is remembered though nothing was delivered', async () => {
    const { authority, server } = await startAuthority();
    const one = workload(server);
    await one.enroll();
    authority.bundleSequence = 7;
    expect((await one.renew()).code).toBe(0);
    authority.bundleSequence = 6;
    expect((await one.renew('--timeout', '1')).code).toBe(1);
    const again = writeJoinFile(one.folder, server.joinLine());
    // A new join file of the same authority brings no amnesia.
    const { code } = await run('enroll', '--join-file', again, '--out', one.dir, '--timeout', '1', '--json');
    expect(code).toBe(1);
  });
});

describe('a log', () => {
  const lies: [string, (draft: Draft, authority: FakeAuthority) => Partial<CertificateAnswerJson>][] = [
    ['another leaf', ({ answer }) => ({ proof: { ...answer.proof, context: '00'.repeat(32) } })],
    ['another time', ({ answer }) => ({ proof: { ...answer.proof, time: answer.proof.time + 1 } })],
    ['another place', ({ answer }) => ({ proof: { ...answer.proof, index: answer.proof.index + 1 } })],
    [
      'a path with one bit changed',
      ({ answer }) => ({
        proof: { ...answer.proof, path: ['ab'.repeat(32), ...answer.proof.path.slice(1)] },
      }),
    ],
    ['a path too short', ({ answer }) => ({ proof: { ...answer.proof, path: answer.proof.path.slice(1) } })],
    [
      'a checkpoint of another log key',
      ({ answer }, authority) => {
        const other = new FakeAuthority();
        other.leafHashes.push(...authority.leafHashes);
        return { proof: { ...answer.proof, checkpoint: other.checkpoint() } };
      },
    ],
    [
      'a checkpoint over another root',
      ({ answer }, authority) => ({
        proof: {
          ...answer.proof,
          checkpoint: authority.checkpoint(answer.proof.treeSize, Buffer.alloc(32, 1)),
        },
      }),
    ],
    [
      'a statement of another root',
      ({ answer }) => {
        const other = new FakeAuthority();
        return { bundle: { ...answer.bundle, vouch_statement: other.statement() } };
      },
    ],
  ];
  test.each(lies)('with %s proves nothing: the certificate is not taken', async (_name, lie) => {
    const { authority, server } = await startAuthority();
    authority.grow(5);
    server.bend = (draft) => ({ ...draft.answer, ...lie(draft, authority) });
    const one = workload(server);
    const { code, stderr } = await one.enroll('--timeout', '1');
    expect([code, existsSync(join(one.dir, 'current'))]).toEqual([1, false]);
    expect(JSON.parse(stderr)).toMatchObject({
      code: expect.stringMatching(/^(?:integrity-log|denied-server)$/) as unknown,
    });
  });

  test('that has no proof at all is no log: the certificate is not taken', async () => {
    const { server } = await startAuthority();
    server.bend = ({ answer }) => {
      const { proof: _proof, ...rest } = answer;
      return rest as CertificateAnswerJson;
    };
    const one = workload(server);
    expect((await one.enroll('--timeout', '1')).code).toBe(1);
    expect(existsSync(join(one.dir, 'current'))).toBe(false);
  });

  const views: [string, (authority: FakeAuthority, server: FakeServer) => void][] = [
    [
      'rewrites what was seen',
      (authority) => {
        authority.leafHashes[0] = Buffer.alloc(32, 9);
        authority.grow(4);
      },
    ],
    [
      'shows another tree of the same size',
      (authority) => {
        // One leaf less, the next certificate's instead: the size is as before.
        authority.leafHashes.splice(0, 1);
      },
    ],
    [
      'keeps the proof that it only grew',
      (authority, server) => {
        authority.grow(3);
        server.bend = ({ answer: { consistency: _kept, ...rest } }) => rest;
      },
    ],
    [
      'gives a false proof that it only grew',
      (authority, server) => {
        authority.grow(3);
        server.bend = ({ answer }) =>
          answer.consistency
            ? {
                ...answer,
                consistency: {
                  ...answer.consistency,
                  path: answer.consistency.path.map(() => 'cd'.repeat(32)),
                },
              }
            : answer;
      },
    ],
    [
      'proves its growth from another size',
      (authority, server) => {
        authority.grow(3);
        server.bend = ({ answer }) => ({ ...answer, consistency: authority.consistency(2) });
      },
    ],
  ];
  test.each(views)('that %s is refused, and what was delivered stays', async (_name, bend) => {
    const { authority, server } = await startAuthority();
    authority.grow(6);
    const one = workload(server);
    expect((await one.enroll()).code).toBe(0);
    const before = one.read('svid.pem');
    bend(authority, server);
    const { code, stderr } = await one.renew('--timeout', '1');
    expect(code).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({ code: expect.stringMatching(/^integrity-/) as unknown });
    expect(one.read('svid.pem')).toBe(before);
  });
});

async function opened(): Promise<SoftwareAuthority> {
  const authority = await softwareAuthority();
  onTestFinished(() => authority.close());
  return authority;
}
