// I7 deny by default: an unknown type, a throwing check, a missing dependency is denied; a client certificate counts only
// where the store says so at each request; no session outlives that.
import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { NodeAttestor } from '../../src/attestation/port.ts';
import { VouchError } from '../../src/core/errors.ts';
import { newSerial } from '../../src/core/serial.ts';
import { standingOf } from '../../src/enrollment/client-certificate.ts';
import { peerCredentials } from '../../src/http/peer-credentials.ts';
import { signedBy } from '../../src/issuance/issuer.ts';
import { encodeLeaf } from '../../src/log/leaf.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { assembleSigned, buildCertificateTbs } from '../../src/x509/certificate-tbs.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { emptyName } from '../../src/x509/name.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import {
  publicationUrl,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';
import { enrollmentOver, Enrollee, newToken } from './support/enrollee.ts';
import { HostileServer } from './support/hostile-server.ts';
import {
  Client,
  type ClientIdentity,
  identityOf,
  listeningServer,
  type ListeningServer,
  publicKeyOf,
  stolenServerIdentity,
} from './support/listening-server.ts';
import { codeOf } from './support/refusal.ts';
import { softwareSigner } from './support/signer-targets.ts';

let authority: SoftwareAuthority;
let server: ListeningServer;
let revocation: Revocation;
beforeEach(async () => {
  authority = await softwareAuthority();
  server = await listeningServer(authority);
  const timing = { ...defaultCrlTiming, batchMs: 0 };
  const sinks = { publish: () => undefined, alarm: () => undefined };
  const publisher = new CrlPublisher({ ...authority, publicationUrl, shardCount: 16, timing, ...sinks });
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
});
afterEach(async () => {
  await server.close();
  await authority.close();
});

async function connected(identity?: ClientIdentity, to = server): Promise<Client> {
  const client = await Client.connect(to, identity);
  onTestFinished(() => client.close());
  return client;
}

async function enrolled(uses = 1): Promise<ClientIdentity> {
  const { token } = await newToken(authority, { uses });
  const { identity } = await (await connected()).enroll(token);
  if (!identity) throw new Error('enrolled');
  return identity;
}

const serialOf = ({ leaf }: ClientIdentity) => parseCertificate(leaf).serial;
const issuedCount = () => authority.store.certificates({ limit: 1000 }).length;

test('who holds a good certificate renews: the refusals below differ from this in one thing each', async () => {
  const identity = await enrolled();
  const client = await connected(identity);
  const renewed = await client.renew();
  expect([renewed.code, renewed.status]).toEqual(['allowed', 200]);
  expect(parseCertificate(renewed.identity?.leaf ?? Buffer.alloc(0)).uris).toEqual([
    `spiffe://${trustDomain}/orders`,
  ]);
});

describe('an unknown type', () => {
  test.each([
    'jwt',
    'join',
    'join_tokens',
    'constructor',
    'prototype',
    '__proto__',
    'tostring',
    'valueof',
    'has',
    '0',
  ])('of evidence is denied: %s', async (type) => {
    const { token } = await newToken(authority);
    const before = issuedCount();
    const evidence = { type, data: token };
    const { code, status } = await (await connected()).enroll(token, { evidence });
    expect([code, status]).toEqual(['request-unknown-type', 400]);
    expect(issuedCount()).toBe(before);
  });

  test.each([
    ['an array', []],
    ['no type', { data: 'x' }],
    ['a type that is a list', { type: ['join_token'], data: 'x' }],
    ['a key too many', { type: 'join_token', data: 'x', admin: true }],
    ['a prototype', JSON.parse('{"type":"join_token","data":"x","__proto__":{"admin":true}}') as object],
    ['nothing', null],
  ])('evidence that is %s is malformed', async (_name, evidence) => {
    const client = await connected();
    const csr = 'AAAA';
    const { code } = await client.post('/v1/enroll', { evidence, csr, binding: { signature: 'AAAA' } });
    expect(code).toBe('request-malformed');
  });

  test.each(['/v1/admin', '/v1/enroll/', '/V1/ENROLL/x', '/v1/renewal', '/v1/svids', '/v1/tokens', '/'])(
    'of request is not served: POST %s',
    async (route) => {
      const { status } = await (await connected()).post(route, {});
      expect(status).toBeGreaterThanOrEqual(400);
      expect(status).toBeLessThan(500);
    },
  );
});

describe('a check that throws', () => {
  const attestor = (attest: NodeAttestor['attest']): NodeAttestor => ({ type: 'join_token', attest });
  const failures: [string, NodeAttestor['attest']][] = [
    ['an error', () => Promise.reject(new Error('secret detail of the inside'))],
    [
      'at once',
      () => {
        throw new TypeError('secret detail of the inside');
      },
    ],
    ['something that is no error', () => thrown('secret detail of the inside')],
    ['nothing at all', () => thrown(undefined)],
    ['a refusal', () => Promise.reject(new VouchError('denied-evidence', 'no'))],
  ];
  test.each(failures)('%s denies', async (_name, attest) => {
    const { token } = await newToken(authority);
    const strict = await listeningServer(authority, [attestor(attest)]);
    onTestFinished(() => strict.close());
    const before = issuedCount();
    const { status, body } = await (await connected(undefined, strict)).enroll(token);
    expect([401, 500]).toContain(status);
    expect(JSON.stringify(body)).not.toContain('inside');
    expect(issuedCount()).toBe(before);
  });

  const attested = { tokenId: undefined, audit: {} };
  test.each([
    ['no selector', { ...attested, selectors: [] }],
    ['a selector that no entry has', { ...attested, selectors: [{ type: 'unix', value: 'uid:0' }] }],
    ['part of the selectors of an entry', { ...attested, selectors: [{ type: 'join_token', value: 't_' }] }],
  ])('an attestor that finds %s yields nobody', async (_name, found) => {
    await newToken(authority);
    const strict = enrollmentOver(authority, [attestor(() => Promise.resolve(found))]);
    expect(await codeOf(() => new Enrollee().enroll(strict, 'x'))).toBe('denied-no-entry');
  });

  test('in the signer refuses, whatever it throws', async () => {
    const target = await softwareSigner();
    onTestFinished(() => target.close());
    const attacker = new HostileServer(target);
    await attacker.begin();
    const tbs = attacker.certificateTbs();
    const item = attacker.certificate(tbs);
    target.clock.now = () => {
      throw new TypeError('no clock');
    };
    expect(await codeOf(() => attacker.append(item))).not.toBe('allowed');
    expect(target.hsm.signed.every(({ ckaId }) => ckaId !== '01')).toBe(true);
  });
});

describe('a missing dependency', () => {
  test('the store: nothing is issued, nobody is believed', async () => {
    const identity = await enrolled();
    const { token } = await newToken(authority);
    const client = await connected(identity);
    authority.store.certificate = () => {
      throw new Error('disk');
    };
    authority.store.tokenBySecret = () => {
      throw new Error('disk');
    };
    const signed = authority.signer.signedLeaves.length;
    expect((await client.renew()).status).toBe(500);
    expect((await (await connected()).enroll(token)).status).toBe(500);
    expect(authority.signer.signedLeaves.length).toBe(signed);
  });

  test('the signer: an answer that says to try again, and no certificate', async () => {
    const { token } = await newToken(authority);
    authority.signer.state = 'unusable';
    const answered = await (await connected()).enroll(token);
    expect([answered.status, answered.code]).toEqual([503, 'unavailable-signer']);
    expect(answered.headers['retry-after']).toMatch(/^\d+$/);
  });

  test('the kernel’s word on who connects: every socket that is not a live unix socket is nobody', async () => {
    const tcp = net.createServer().listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    const socket = net.connect((tcp.address() as net.AddressInfo).port, '127.0.0.1');
    await once(socket, 'connect');
    expect(await codeOf(() => peerCredentials(socket))).toBe('denied-operator');
    socket.destroy();
    expect(await codeOf(() => peerCredentials(socket))).toBe('denied-operator');
    expect(await codeOf(() => peerCredentials(new net.Socket()))).toBe('denied-operator');
    tcp.close();
  });
});

describe('a client certificate', () => {
  test('[guard] that was revoked does not count, on a connection made before', async () => {
    const identity = await enrolled();
    const client = await connected(identity);
    expect((await client.renew()).code).toBe('allowed');
    await revocation.revoke(
      { by: 'serial', serial: serialOf(identity), only: true },
      'keyCompromise',
      'uid:0',
    );
    expect((await client.renew()).code).toBe('denied-revoked');
    expect((await (await connected(identity)).renew()).code).toBe('denied-revoked');
  });

  test('[guard] that has expired does not count, on a connection made before', async () => {
    const identity = await enrolled();
    const client = await connected(identity);
    authority.clock.pass(parseCertificate(identity.leaf).notAfterMs - authority.clock.now() + 999);
    expect((await client.renew()).code).toBe('allowed');
    authority.clock.pass(1);
    expect((await client.renew()).code).toBe('denied-certificate');
  });

  test('[guard] of a suspended identity does not count, and counts again when it is resumed', async () => {
    const identity = await enrolled();
    const client = await connected(identity);
    const { entryId } = authority.store.certificatesBySerial(serialOf(identity))[0] ?? {};
    const { recordLeaf } = await import('../../src/sequencer/record.ts');
    const at = { entryId: entryId ?? '', atMs: authority.clock.now() };
    const leaf = (event: string) =>
      recordLeaf('entry', authority.clock.now(), { event, entryId: entryId ?? '' });
    await authority.sequencer.record({ kind: 'entry-suspended', ...at, leaf: leaf('suspended') });
    expect((await client.renew()).code).toBe('denied-suspended');
    await authority.sequencer.record({ kind: 'entry-resumed', entryId: at.entryId, leaf: leaf('resumed') });
    expect((await client.renew()).code).toBe('allowed');
  });

  test('[guard] that is revoked between the request and its transaction does not get a successor', async () => {
    const identity = await enrolled();
    const standing = authority.store.certificatesBySerial(serialOf(identity))[0];
    if (!standing) throw new Error('in the store');
    await revocation.revoke({ by: 'serial', serial: standing.serial, only: true }, 'superseded', 'uid:0');
    // The request had looked before: it comes with the standing of then.
    const late = new Enrollee();
    expect(await codeOf(() => late.renew(enrollmentOver(authority), standing, identity.leaf))).toBe(
      'denied-revoked',
    );
  });

  test('[guard] whose entry is suspended between the request and its transaction does not either', async () => {
    const identity = await enrolled();
    const standing = authority.store.certificatesBySerial(serialOf(identity))[0];
    if (!standing?.entryId) throw new Error('in the store');
    const stale = authority.store.entry(standing.entryId);
    const { recordLeaf } = await import('../../src/sequencer/record.ts');
    const entryId = standing.entryId;
    const leaf = recordLeaf('entry', authority.clock.now(), { event: 'suspended', entryId });
    await authority.sequencer.record({ kind: 'entry-suspended', entryId, atMs: authority.clock.now(), leaf });
    const now = authority.store.entry(entryId);
    // Suspending raises the entry's version; the suspension itself must count, too.
    authority.store.entry = () => stale && now && { ...stale, version: now.version };
    const late = new Enrollee();
    expect(await codeOf(() => late.renew(enrollmentOver(authority), standing, identity.leaf))).toBe(
      'denied-suspended',
    );
  });

  test('[guard] counts by its serial: another encoding of the signature of a revoked one does not help', async () => {
    const identity = await enrolled();
    await revocation.revoke({ by: 'serial', serial: serialOf(identity), only: true }, 'superseded', 'uid:0');
    const twin = malleated(identity.leaf);
    expect(twin.equals(identity.leaf)).toBe(false);
    const { tbs, signature } = parseCertificate(twin);
    expect(signedBy(authority.issuer, tbs, signature)).toBe(true);
    const client = await connected(identityOf(twin, [authority.issuerDer], identity.key));
    expect((await client.renew()).code).toBe('denied-revoked');
  });

  test('that our issuer signed but the store does not know does not count', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const rogue = await signedByIssuer(publicKeyOf(privateKey), newSerial(0x2a, randomBytes));
    const client = await connected(identityOf(rogue, [authority.issuerDer], privateKey));
    expect(client.socket.authorized).toBe(true);
    expect((await client.renew()).code).toBe('denied-certificate');
  });

  test('with the serial of a known one and another TBS does not count', async () => {
    const identity = await enrolled();
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const twin = await signedByIssuer(publicKeyOf(privateKey), serialOf(identity));
    const client = await connected(identityOf(twin, [authority.issuerDer], privateKey));
    expect((await client.renew()).code).toBe('denied-certificate');
  });

  test('of another authority with the same names and serial does not count, nor one that signs itself, nor none', async () => {
    const identity = await enrolled();
    const other = await softwareAuthority();
    onTestFinished(() => other.close());
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const foreign = await signedByIssuer(publicKeyOf(privateKey), serialOf(identity), other);
    for (const chain of [[other.issuerDer], [other.issuerDer, other.rootDer], [authority.issuerDer], []]) {
      const client = await connected(identityOf(foreign, chain, privateKey));
      expect((await client.renew(undefined, foreign)).code).toBe('denied-certificate');
    }
    expect((await (await connected()).renew(undefined, identity.leaf)).code).toBe('denied-certificate');
  });

  test('of the server itself gets nothing, though it is good', async () => {
    const read = (name: string) => readFileSync(path.join(authority.folder, name), 'utf8');
    const client = await connected(
      stolenServerIdentity(createPrivateKey(read('svid.key')), read('svid.pem')),
    );
    expect((await client.renew()).code).toBe('denied-certificate');
  });

  test('that renews needs a fresh key, and a binding to this connection and to itself', async () => {
    const identity = await enrolled();
    const client = await connected(identity);
    expect((await client.renew(identity.key)).code).toBe('request-key');
    const stranger = await enrolled();
    expect((await client.renew(undefined, stranger.leaf)).code).toBe('request-binding');
    const another = await connected(identity);
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    client.binding = another.binding.bind(another);
    expect((await client.renew(privateKey)).code).toBe('request-binding');
  });

  test('is asked for in the store at each request, not at the handshake', async () => {
    const identity = await enrolled();
    const client = await connected(identity);
    let asked = 0;
    const look = authority.store.certificate.bind(authority.store);
    authority.store.certificate = (issuerKeyId, serial) => {
      asked += 1;
      return look(issuerKeyId, serial);
    };
    for (let round = 0; round < 3; round += 1) {
      const before = asked;
      await client.renew();
      expect(asked).toBeGreaterThan(before);
    }
  });

  test('that TLS did not verify is not looked at, whatever the store says', async () => {
    const { leaf } = await enrolled();
    const standing = (peer: Parameters<typeof standingOf>[1], isRevoked = false) =>
      standingOf(authority.store, peer, authority.clock.now(), { isRevoked: () => isRevoked });
    expect(await codeOf(() => standing({ der: leaf, verified: false }))).toBe('denied-certificate');
    expect(await codeOf(() => standing({ der: undefined, verified: true }))).toBe('denied-certificate');
    expect(await codeOf(() => standing({ der: leaf, verified: true }))).toBe('allowed');
    const ofRevoked = () => standing({ der: leaf, verified: true }, true);
    expect(await codeOf(ofRevoked), 'of an issuer that the root has revoked').toBe('denied-revoked');
  });
});

describe('a session', () => {
  test('cannot be resumed: whatever the server gave for that, the next handshake is a full one', async () => {
    const identity = await enrolled();
    const first = await connected(identity);
    const sessions: Buffer[] = [];
    first.socket.on('session', (session) => sessions.push(session));
    // What TLS 1.3 gives for resumption comes before the first answer does.
    expect((await first.renew()).code).toBe('allowed');
    for (const session of sessions)
      for (const shown of [identity, undefined]) {
        const next = await Client.connect(server, shown, { session });
        onTestFinished(() => next.close());
        expect(next.socket.isSessionReused()).toBe(false);
        expect((await next.renew(undefined, identity.leaf)).code).toBe(
          shown ? 'allowed' : 'denied-certificate',
        );
      }
  });

  test('of TLS 1.2 is not made', async () => {
    await expect(
      Client.connect(server, undefined, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }),
    ).rejects.toBeInstanceOf(Error);
  });
});

/** A rejection with something that is no error, as wrong code makes one. */
async function thrown(what: unknown): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  reject(what);
  return promise;
}

/** A leaf that the issuer's key signed without anybody logging it. */
async function signedByIssuer(
  spki: Buffer,
  serial: ReturnType<typeof newSerial>,
  by = authority,
): Promise<Buffer> {
  const nowSeconds = Math.floor(authority.clock.now() / 1000);
  const tbs = buildCertificateTbs({
    serial,
    algorithm: by.issuer.algorithm,
    issuerName: by.issuer.issuerName,
    subjectName: emptyName,
    notBeforeSeconds: nowSeconds - 60,
    notAfterSeconds: nowSeconds + 3000,
    spki,
    uris: [`spiffe://${trustDomain}/orders`],
    dnsNames: [],
    ipAddresses: [],
    authorityKeyId: by.issuer.keyId,
    subjectKeyId: keyIdOf(spki),
    crlUrls: [],
  });
  const leaf = encodeLeaf({
    ...{ type: 'certificate', timeMs: nowSeconds * 1000, issuerKeyId: by.issuer.keyId },
    ...{ body: tbs, context: Buffer.alloc(32) },
  });
  const asked = { purpose: 'certificate', leaf, index: 0, path: [], treeSize: 0 } as const;
  return assembleSigned(tbs, by.issuer.algorithm, await by.signer.signLogged(asked));
}

/** The same certificate with the other of the two ECDSA signatures (r, n − s). */
function malleated(der: Buffer): Buffer {
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
  const { tbs, signature, algorithm } = parseCertificate(der);
  const rLength = signature.readUInt8(3);
  const r = signature.subarray(2, 4 + rLength);
  const s = BigInt(`0x${signature.subarray(6 + rLength).toString('hex')}`);
  const hex = (order - s).toString(16);
  const magnitude = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  const padded = (magnitude[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.alloc(1), magnitude]) : magnitude;
  const other = Buffer.concat([Buffer.from([0x02, padded.length]), padded]);
  const body = Buffer.concat([r, other]);
  return assembleSigned(tbs, algorithm, Buffer.concat([Buffer.from([0x30, body.length]), body]));
}
