import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { CertificateAnswerJson } from '../../src/wire/enrollment.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { FakeAuthority, newKey } from './support/fake-authority.ts';
import type { Draft, FakeServer } from './support/fake-server.ts';
import { run, startAuthority, workload } from './support/harness.ts';

const b64 = (der: Buffer): string => der.toString('base64');
const hash = 'ab'.repeat(32);

/** What a server that lies, or somebody who took it over, may answer to a first enrollment. */
type Bend = (
  answer: CertificateAnswerJson,
  authority: FakeAuthority,
  server: FakeServer,
) => CertificateAnswerJson;

/** The answer with another certificate, properly logged. */
function withCertificate(
  answer: CertificateAnswerJson,
  authority: FakeAuthority,
  der: Buffer,
): CertificateAnswerJson {
  const logged = authority.append(parseCertificate(der).tbs);
  const treeSize = authority.leafHashes.length;
  const proof = {
    ...logged,
    treeSize,
    path: authority.inclusion(logged.index),
    checkpoint: authority.checkpoint(),
  };
  return { ...answer, chain: [b64(der), ...answer.chain.slice(1)], proof };
}

function ownKeyOf(answer: CertificateAnswerJson): Buffer {
  return parseCertificate(Buffer.from(answer.chain[0] ?? '', 'base64')).spki;
}

const hour = 3600;
const now = Math.floor(Date.now() / 1000);

const attacks: [string, string, RegExp, Bend][] = [
  [
    'another key in the leaf',
    'denied-server',
    /another key/,
    (answer, authority) =>
      withCertificate(
        answer,
        authority,
        authority.issue(newKey().spki, { uris: ['spiffe://example.org/orders'] }),
      ),
  ],
  [
    'a reserved name',
    'denied-server',
    /reserved/,
    (answer, authority) =>
      withCertificate(
        answer,
        authority,
        authority.issue(ownKeyOf(answer), { uris: ['spiffe://example.org/vouch/server'] }),
      ),
  ],
  [
    'another trust domain',
    'denied-certificate',
    /trust domain/,
    (answer, authority) =>
      withCertificate(
        answer,
        authority,
        authority.issue(ownKeyOf(answer), { uris: ['spiffe://other.org/orders'] }),
      ),
  ],
  [
    'two SPIFFE IDs',
    'denied-certificate',
    /one URI/,
    (answer, authority) =>
      withCertificate(
        answer,
        authority,
        authority.issue(ownKeyOf(answer), {
          uris: ['spiffe://example.org/orders', 'spiffe://example.org/billing'],
        }),
      ),
  ],
  [
    'a CA certificate',
    'denied-certificate',
    /./,
    (answer, authority) =>
      withCertificate(
        answer,
        authority,
        authority.issue(ownKeyOf(answer), { uris: ['spiffe://example.org/orders'], ca: {} }),
      ),
  ],
  [
    'an expired certificate',
    'denied-certificate',
    /expired/,
    (answer, authority) =>
      withCertificate(
        answer,
        authority,
        authority.issue(ownKeyOf(answer), {
          uris: ['spiffe://example.org/orders'],
          notBeforeSeconds: now - 3 * hour,
          notAfterSeconds: now - 2 * hour,
        }),
      ),
  ],
  [
    'a chain of another authority',
    'denied-certificate',
    /root|issuer|chain/,
    (answer) => {
      const other = new FakeAuthority();
      const der = other.issue(ownKeyOf(answer), { uris: ['spiffe://example.org/orders'] });
      return { ...answer, chain: [der, other.issuer.der, other.root.der].map(b64) };
    },
  ],
  [
    'a certificate that is no certificate',
    'denied-certificate',
    /./,
    (answer) => ({
      ...answer,
      chain: ['AAAA', ...answer.chain.slice(1)],
    }),
  ],
  [
    'the leaf alone',
    'denied-server',
    /understands/,
    (answer) => ({ ...answer, chain: answer.chain.slice(0, 1) }),
  ],
  [
    'a bundle without the root',
    'denied-server',
    /does not hold the root/,
    (answer, authority) => ({
      ...answer,
      bundle: { ...authority.bundle(), keys: [] },
    }),
  ],
  [
    'a bundle with a workload as root',
    'denied-server',
    /no CA/,
    (answer, authority) => ({
      ...answer,
      bundle: {
        ...authority.bundle(),
        keys: [...authority.bundle().keys, { kty: 'EC', use: 'x509-svid', x5c: [answer.chain[0] ?? ''] }],
      },
    }),
  ],
  [
    'a statement by the issuer',
    'integrity-log',
    /./,
    (answer, authority) => ({
      ...answer,
      bundle: authority.bundle(authority.statement({}, authority.issuer)),
    }),
  ],
  [
    'a statement of another authority',
    'integrity-log',
    /./,
    (answer, authority) => ({
      ...answer,
      bundle: authority.bundle(new FakeAuthority().statement()),
    }),
  ],
  [
    'a statement for another trust domain',
    'denied-server',
    /speaks for other.org/,
    (answer, authority) => ({
      ...answer,
      bundle: authority.bundle(authority.statement({ trustDomain: 'other.org' as never })),
    }),
  ],
  [
    'an expired statement',
    'denied-server',
    /statement ended/,
    (answer, authority) => ({
      ...answer,
      bundle: authority.bundle(authority.statement({ notAfterMs: (now - hour) * 1000 })),
    }),
  ],
  [
    'a lower statement sequence than the join file',
    'integrity-rewind',
    /statement is older/,
    (answer, authority) => ({
      ...answer,
      bundle: authority.bundle(authority.statement({ sequence: 0 })),
    }),
  ],
  [
    'a lower bundle sequence than the join file',
    'integrity-rewind',
    /bundle is older/,
    (answer, authority) => ({
      ...answer,
      bundle: { ...authority.bundle(), spiffe_sequence: 0 },
    }),
  ],
  [
    'a tree smaller than the join file',
    'integrity-rewind',
    /set back or split/,
    (answer, authority) => ({
      ...answer,
      proof: {
        ...answer.proof,
        treeSize: 1,
        path: [],
        checkpoint: authority.checkpoint(1, authority.rangeHash(0, 1)),
      },
    }),
  ],
  [
    'no proof',
    'denied-server',
    /understands/,
    ({ proof: _gone, ...answer }) => answer as CertificateAnswerJson,
  ],
  [
    'an empty path',
    'integrity-log',
    /not in the log/,
    (answer) => ({ ...answer, proof: { ...answer.proof, path: [] } }),
  ],
  [
    'a wrong path',
    'integrity-log',
    /not in the log/,
    (answer) => ({
      ...answer,
      proof: { ...answer.proof, path: answer.proof.path.map(() => hash) },
    }),
  ],
  [
    'another index',
    'integrity-log',
    /not in the log/,
    (answer) => ({
      ...answer,
      proof: { ...answer.proof, index: answer.proof.index - 1 },
    }),
  ],
  [
    'another time',
    'integrity-log',
    /not in the log/,
    (answer) => ({
      ...answer,
      proof: { ...answer.proof, time: answer.proof.time + 1 },
    }),
  ],
  [
    'another context',
    'integrity-log',
    /not in the log/,
    (answer) => ({ ...answer, proof: { ...answer.proof, context: hash } }),
  ],
  [
    'the proof of another certificate',
    'integrity-log',
    /not in the log/,
    (answer, authority) => {
      const other = authority.issue(newKey().spki, { uris: ['spiffe://example.org/x'] });
      const logged = authority.append(parseCertificate(other).tbs);
      const treeSize = authority.leafHashes.length;
      return {
        ...answer,
        proof: {
          ...logged,
          treeSize,
          path: authority.inclusion(logged.index),
          checkpoint: authority.checkpoint(),
        },
      };
    },
  ],
  [
    'a proof for another tree than its checkpoint',
    'integrity-log',
    /another tree/,
    (answer) => ({
      ...answer,
      proof: { ...answer.proof, treeSize: answer.proof.treeSize + 1 },
    }),
  ],
  [
    'a checkpoint of another log',
    'integrity-log',
    /./,
    (answer, authority) => {
      const other = new FakeAuthority('example.org');
      other.leafHashes.push(...authority.leafHashes);
      return { ...answer, proof: { ...answer.proof, checkpoint: other.checkpoint() } };
    },
  ],
  [
    'a checkpoint of a log that the statement does not name',
    'integrity-log',
    /./,
    (answer, authority) => {
      const { treeSize } = answer.proof;
      const checkpoint = authority.checkpoint(
        treeSize,
        authority.rangeHash(0, treeSize),
        'example.org/other-log',
      );
      return { ...answer, proof: { ...answer.proof, checkpoint } };
    },
  ],
  [
    'a checkpoint that was changed',
    'integrity-log',
    /./,
    (answer) => ({
      ...answer,
      proof: { ...answer.proof, checkpoint: answer.proof.checkpoint.replace('\n', '\n1') },
    }),
  ],
  [
    'members nobody knows',
    'denied-server',
    /understands/,
    (answer) => ({ ...answer, more: 1 }) as CertificateAnswerJson,
  ],
  [
    'a CRL URL that is no http URL',
    'denied-server',
    /understands/,
    (answer) => ({
      ...answer,
      crlUrls: [{ keyId: '0'.repeat(40), url: 'file:///etc/passwd' }],
    }),
  ],
];

describe('a first enrollment refuses', () => {
  test.each(attacks)('%s', async (_name, expected, words, bend) => {
    const { authority, server } = await startAuthority();
    authority.grow(6);
    const one = workload(server);
    server.bend = ({ answer }: Draft) => bend(answer, authority, server);
    const { code, stderr } = await one.enroll();
    expect(JSON.parse(stderr)).toMatchObject({
      code: expected,
      detail: expect.stringMatching(words) as string,
    });
    expect(code).toBe(1);
    expect(existsSync(join(one.dir, 'current'))).toBe(false);
    expect(existsSync(join(one.dir, 'agent.json'))).toBe(false);
    expect(server.requests.filter((path) => path.startsWith('/v1/'))).toHaveLength(1);
    server.bend = undefined;
    expect(await one.enroll(), 'the same key gets its certificate from an honest server').toMatchObject({
      code: 0,
    });
  });
});

const rewinds: [
  string,
  string,
  RegExp,
  (authority: FakeAuthority, server: FakeServer, sizeSeen: number) => void,
][] = [
  [
    'a smaller tree',
    'integrity-rewind',
    /set back or split/,
    (authority, server) => {
      server.bend = ({ answer }) => ({
        ...answer,
        proof: {
          ...answer.proof,
          treeSize: 2,
          path: authority.inclusion(1, 2),
          checkpoint: authority.checkpoint(2),
        },
      });
    },
  ],
  [
    'a tree that does not contain the old one',
    'integrity-log',
    /rewritten or shows two views/,
    (authority) => {
      authority.leafHashes[0] = Buffer.alloc(32, 9);
    },
  ],
  [
    'no consistency proof',
    'integrity-log',
    /only grew is missing/,
    (_authority, server) => {
      server.bend = ({ answer: { consistency: _gone, ...answer } }) => answer;
    },
  ],
  [
    'a consistency proof from another size',
    'integrity-log',
    /only grew is missing/,
    (authority, server, sizeSeen) => {
      server.bend = ({ answer }) => ({ ...answer, consistency: authority.consistency(sizeSeen - 1) });
    },
  ],
  [
    'another tree of the size seen',
    'integrity-log',
    /two views|not in the log/,
    (authority, server, sizeSeen) => {
      server.bend = ({ answer, kind }) => {
        if (kind === 'enroll') return answer;
        const fork = new FakeAuthority();
        fork.leafHashes.push(...authority.leafHashes.slice(-1));
        fork.grow(sizeSeen - 1);
        return {
          ...answer,
          proof: {
            ...answer.proof,
            index: 0,
            treeSize: sizeSeen,
            path: fork.inclusion(0),
            checkpoint: authority.checkpoint(sizeSeen, fork.rangeHash(0, sizeSeen)),
          },
        };
      };
    },
  ],
  [
    'a lower statement',
    'integrity-rewind',
    /statement is older/,
    (authority) => {
      authority.statementSequence = 4;
    },
  ],
  [
    'a lower bundle',
    'integrity-rewind',
    /bundle is older/,
    (authority) => {
      authority.bundleSequence = 4;
    },
  ],
  [
    'another identity',
    'denied-server',
    /is for spiffe:\/\/example.org\/billing, not for/,
    (authority, server) => {
      server.bend = ({ answer }) =>
        withCertificate(
          answer,
          authority,
          authority.issue(ownKeyOf(answer), { uris: ['spiffe://example.org/billing'] }),
        );
    },
  ],
  [
    'another log under the same statement',
    'integrity-log',
    /under the same statement/,
    (authority) => {
      (authority.logKey as { name: string }).name = 'example.org/other-log';
    },
  ],
];

describe('a renewal refuses', () => {
  test.each(rewinds)('%s', async (_name, expected, words, prepare) => {
    const { authority, server } = await startAuthority();
    authority.grow(6);
    authority.statementSequence = 5;
    authority.bundleSequence = 5;
    const one = workload(server);
    expect((await one.enroll()).code).toBe(0);
    const before = one.read('svid.pem');
    const stateBefore = readFileSync(join(one.dir, 'agent.json'), 'utf8');
    const sizeSeen = authority.leafHashes.length;
    authority.grow(3);
    prepare(authority, server, sizeSeen);
    const { code, stderr } = await one.renew();
    expect(JSON.parse(stderr)).toMatchObject({
      code: expected,
      detail: expect.stringMatching(words) as string,
    });
    expect(code).toBe(1);
    expect(one.read('svid.pem')).toBe(before);
    expect(readFileSync(join(one.dir, 'agent.json'), 'utf8')).toBe(stateBefore);
  });

  test('what an earlier life of the folder saw, with a new join file that knows less', async () => {
    const { authority, server } = await startAuthority();
    authority.statementSequence = 5;
    const one = workload(server);
    expect((await one.enroll()).code).toBe(0);
    authority.statementSequence = 4;
    const second = workload(server, { floor: { statement: 0, bundle: 0, treeSize: 0 } });
    const again = await run(
      'enroll',
      '--join-file',
      second.joinFile,
      '--out',
      one.dir,
      '--json',
      '--timeout',
      '2',
    );
    expect(JSON.parse(again.stderr)).toMatchObject({ code: 'integrity-rewind' });
    const fresh = workload(server, { floor: { statement: 0, bundle: 0, treeSize: 0 } });
    expect((await fresh.enroll()).code).toBe(0);
  });
});

test('a renewal shows the checkpoint it has seen, so that a server that was set back learns of it', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  await one.enroll();
  const { checkpoint } = JSON.parse(one.read('proof.json')) as { checkpoint: string };
  await one.renew();
  expect(JSON.parse(server.bodies[0] ?? '')).not.toHaveProperty('checkpoint');
  expect(JSON.parse(server.bodies[1] ?? '')).toMatchObject({ treeSize: 1, checkpoint });
});

test('a new log under a statement of higher sequence is taken: a restore was made', async () => {
  const { authority, server } = await startAuthority();
  authority.grow(20);
  const one = workload(server);
  expect((await one.enroll()).code).toBe(0);
  (authority.logKey as { name: string }).name = 'example.org/vouch-log-2';
  authority.statementSequence += 1;
  authority.leafHashes.splice(0);
  expect(await one.renew()).toMatchObject({ code: 0 });
  const state = JSON.parse(readFileSync(join(one.dir, 'agent.json'), 'utf8')) as {
    seen: { head: unknown; treeSize: number };
  };
  expect(state.seen).toMatchObject({ treeSize: 1, head: { origin: 'example.org/vouch-log-2', treeSize: 1 } });
});
