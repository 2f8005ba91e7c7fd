// I1 log first: no issuer key signs a certificate or CRL whose leaf is not in the durable log.
import { hash, randomBytes } from 'node:crypto';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { crlBody, decodeCrlBody, decodeLeaf, type LeafType, leafTypes } from '../../src/log/leaf.ts';
import type { Purpose } from '../../src/signer/port.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import type { Mutation, Store } from '../../src/store/port.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { joinedCrl } from '../../src/x509/crl-tbs.ts';
import {
  freshKey,
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { HostileServer, type SignerTarget } from './support/hostile-server.ts';
import { becomes, codeOf, codesOf } from './support/refusal.ts';
import { softHsmSigner, softwareSigner } from './support/signer-targets.ts';

describe.each([
  ['the signer in process', softwareSigner],
  ['the signer process with SoftHSM', softHsmSigner],
] as const)('a server that was taken asks %s', (_name, open) => {
  let attacker: HostileServer;
  beforeAll(async () => {
    const target: SignerTarget = await open();
    attacker = new HostileServer(target);
    await attacker.begin();
  });
  afterAll(() => attacker.target.close());

  test('what is logged as it is signed is signed: the attacks below differ from this in one thing each', async () => {
    const tbs = attacker.certificateTbs();
    expect(await attacker.verdict(attacker.certificate(tbs), tbs)).toBe('signed');
    expect(await attacker.verdict(attacker.goodCrl())).toBe('signed');
    expect(await attacker.verdict(attacker.goodCrl({ scope: '3' }))).toBe('signed');
  });

  test('a CRL whose hash is not the one in its leaf is not signed', async () => {
    const crlNumber = attacker.nextCrlNumber();
    const hidden = attacker.crlTbs({ crlNumber });
    const body = crlBody({ scope: 'full', crlNumber, tbsSha256: hash('sha256', randomBytes(4), 'buffer') });
    const item = { purpose: 'crl', leaf: attacker.leaf({ type: 'crl', body }), tbs: hidden } as const;
    expect(await attacker.verdict(item)).toBe('unavailable-signer');
  });

  test('[guard] signing again takes only what the signer itself has hashed into its tree', async () => {
    const { target } = attacker;
    const tbs = attacker.certificateTbs();
    const item = attacker.certificate(tbs);
    const ask = (claim: { index: number; treeSize: number; path: Buffer[] }, what = item) =>
      codeOf(() => target.ask({ op: 'signLogged', request: { ...what, ...claim } }));
    // Of a leaf before what this signer was sent: it is known by its path alone, and by a root that is known.
    const early = attacker.certificate(attacker.certificateTbs());
    await attacker.append(early);
    const at = attacker.leaves.length - 1;
    await attacker.append(attacker.record(), attacker.record());
    await target.restart();
    await attacker.greet();
    await attacker.resume();
    const treeSize = attacker.leaves.length;
    const truth = { index: at, treeSize, path: attacker.pathTo(at) };
    expect(await ask(truth, early)).toBe('allowed');

    const mine = [...attacker.leaves.slice(0, -1), item.leaf];
    const grown = [...attacker.leaves, item.leaf];
    const claims: [string, Parameters<typeof ask>[0], typeof item?][] = [
      ['integrity-log', { index: treeSize - 1, treeSize, path: [] }],
      ['integrity-log', { index: treeSize, treeSize, path: [] }],
      // A true path in a tree of the attacker's own, of the size of the signer's.
      ['integrity-log', { index: treeSize - 1, treeSize, path: attacker.pathTo(treeSize - 1, mine) }],
      // A true path of another leaf, and of this one elsewhere, cut short or bent.
      ['integrity-log', truth],
      ['integrity-log', { ...truth, index: at + 1 }, early],
      ['integrity-log', { ...truth, path: truth.path.slice(1) }, early],
      ['integrity-log', { ...truth, path: truth.path.with(0, randomBytes(32)) }, early],
      ['integrity-log', { ...truth, path: [] }, early],
      ['integrity-log', { index: 0, treeSize: 1, path: [] }],
      ['integrity-log', { index: 0, treeSize: 0, path: [] }],
      ['integrity-log', { index: Number.MAX_SAFE_INTEGER, treeSize: Number.MAX_SAFE_INTEGER, path: [] }],
      // A tree that the signer does not know may be one that has grown meanwhile.
      [
        'unavailable-signer',
        { index: treeSize, treeSize: treeSize + 1, path: attacker.pathTo(treeSize, grown) },
      ],
    ];
    for (const [code, claim, what] of claims)
      expect(await ask(claim, what), JSON.stringify({ ...claim, path: claim.path.length })).toBe(code);
  });

  test('signing again gives the logged TBS, not another one that comes beside the leaf', async () => {
    const logged = attacker.certificateTbs();
    const item = attacker.certificate(logged);
    await attacker.append(item);
    const index = attacker.leaves.length - 1;
    const claim = { index, treeSize: attacker.leaves.length, path: attacker.pathTo(index) };
    const again = await attacker.target.ask({ op: 'signLogged', request: { ...item, ...claim } });
    expect(attacker.verdictOn(again, logged)).toBe('signed');
  });

  test('no purpose signs a leaf of another type', async () => {
    const ofWorkload = attacker.certificateTbs();
    const ofServer = attacker.certificateTbs({
      uris: [`spiffe://${attacker.target.trustDomain}/vouch/server`],
    });
    const server = attacker.certificate(ofServer, 'server-certificate');
    expect(await attacker.verdict(server, ofServer), 'the type alone is wrong below').toBe('signed');
    const crl = attacker.goodCrl();
    const purposes: (Purpose | undefined)[] = [
      'record',
      'certificate',
      'server-certificate',
      'crl',
      undefined,
    ];
    const fitting: Record<string, LeafType[]> = {
      record: ['revocation', 'release', 'token', 'entry', 'authority', 'operator'],
    };
    for (const purpose of purposes)
      for (const type of Object.keys(leafTypes) as LeafType[]) {
        if (purpose === type || (purpose === 'server-certificate' && type === 'certificate')) continue;
        const tbs = purpose === 'server-certificate' ? ofServer : ofWorkload;
        const leaf = attacker.leaf({ type, body: type === 'crl' ? Buffer.from(crl.leaf) : tbs });
        const item = { purpose, leaf };
        const expected = fitting[purpose ?? '']?.includes(type)
          ? /^recorded$/
          : /^(?:policy|request|integrity)-/;
        expect(await attacker.verdict(item, tbs), `${purpose} of ${type}`).toMatch(expected);
      }
  });

  test('there is no request that signs bytes: every other operation and every cut one is refused', async () => {
    const known = new Set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    const { decodeRequest } = await import('../../src/signer/protocol.ts');
    for (let kind = 0; kind < 256; kind += 1) {
      if (known.has(kind)) continue;
      expect(await codeOf(() => decodeRequest(kind, hash('sha256', 'digest', 'buffer')))).toBe(
        'request-unknown-type',
      );
    }
    for (const kind of [1, 2, 3, 5, 6, 9, 10, 11, 12])
      expect(await codeOf(() => decodeRequest(kind, randomBytes(7)))).toBe('request-malformed');
  });
});

describe('the server', () => {
  let authority: SoftwareAuthority;
  const opened = async () => {
    authority = await softwareAuthority();
    onTestFinished(() => authority.close());
  };

  test('hands the signer nothing that another process cannot read from the committed log', async () => {
    await opened();
    const good = await Promise.all(Array.from({ length: 12 }, (_, n) => registered(authority, `w${n}`)));
    let seen = 0;
    authority.signer.beforeAppend = async ({ firstIndex, items }) => {
      const reader = openSqliteStore(path.join(authority.folder, 'vouch.db'), { readonly: true });
      const durable = reader.leaves(firstIndex, firstIndex + items.length);
      await reader.close();
      expect(durable.map((leaf) => leaf.toString('hex'))).toEqual(
        items.map((item) => item.leaf.toString('hex')),
      );
      seen += items.length;
    };
    await Promise.all(good.map(({ entry, tokenId }) => authority.issuance.issue(requestFor(entry, tokenId))));
    const publisher = await openPublisher(authority);
    expect(await becomes(() => publisher.current().length === 18)).toBe(true);
    await publisher.close();
    expect(seen).toBe(12 + 18);
  });

  test('asks for no signature where the commit failed, and grows no tree', async () => {
    await opened();
    const { entry, tokenId } = await registered(authority);
    const size = authority.tree.size;
    const { signedLeaves } = authority.signer;
    let asked = 0;
    authority.signer.beforeAppend = () => {
      asked += 1;
    };
    failing(authority.store, 'commitBatch');
    expect(await codeOf(() => authority.issuance.issue(requestFor(entry, tokenId)))).not.toBe('allowed');
    expect({ asked, signed: signedLeaves.length, size: authority.tree.size }).toEqual({
      asked: 0,
      signed: 0,
      size,
    });
  });

  test('asks for no signature of what the transaction refused, whatever else is in the batch', async () => {
    await opened();
    const used = await registered(authority, 'used');
    await authority.issuance.issue(requestFor(used.entry, used.tokenId));
    const fresh = await registered(authority, 'fresh');
    const before = authority.signer.signedLeaves.length;
    const codes = await codesOf([
      () => authority.issuance.issue(requestFor(used.entry, used.tokenId)),
      () => authority.issuance.issue(requestFor(fresh.entry, fresh.tokenId)),
      () => authority.issuance.issue(requestFor({ ...fresh.entry, version: 9 }, fresh.tokenId, freshKey())),
    ]);
    expect(codes[0]).toBe('policy-key-conflict');
    expect(codes.filter((code) => code === 'allowed')).toHaveLength(1);
    expect(authority.signer.signedLeaves.length - before).toBe(1);
    const newest = authority.store.leaves(authority.store.treeSize() - 1, authority.store.treeSize())[0];
    expect(newest?.equals(authority.signer.signedLeaves.at(-1) ?? Buffer.alloc(0))).toBe(true);
  });

  test('completes what a crash left unsigned without a second leaf', async () => {
    await opened();
    const { entry, tokenId } = await registered(authority);
    const key = freshKey();
    authority.signer.state = 'degraded';
    expect(await codeOf(() => authority.issuance.issue(requestFor(entry, tokenId, key)))).toBe(
      'unavailable-signer',
    );
    const size = authority.store.treeSize();
    const [logged] = authority.store.leaves(size - 1, size);
    authority.signer.state = 'usable';
    authority.sequencer.adoptCheckpoint(authority.signer.resume(authority.store.leaves(size - 1, size)));
    const issued = await authority.issuance.issue(requestFor(entry, tokenId, key));
    expect(authority.store.treeSize()).toBe(size);
    expect(logged?.includes(parseCertificate(issued.der).tbs)).toBe(true);
  });

  test('every signature in the store has its leaf, byte for byte', async () => {
    await opened();
    for (const name of ['a', 'b', 'c']) {
      const { entry, tokenId } = await registered(authority, name);
      await authority.issuance.issue(requestFor(entry, tokenId));
    }
    const publisher = await openPublisher(authority);
    expect(await becomes(() => publisher.current().length === 18)).toBe(true);
    await publisher.close();
    await authority.sequencer.close();
    const leafAt = (index: number) =>
      decodeLeaf(authority.store.leaves(index, index + 1)[0] ?? Buffer.alloc(0));
    const certificates = authority.store.certificatesByLeaf(0, 100);
    expect(certificates.map((one) => one.signature !== undefined)).toEqual([true, true, true]);
    for (const { leafIndex, tbs } of certificates) expect(leafAt(leafIndex).body.equals(tbs)).toBe(true);
    const crls = authority.store.crls(authority.issuer.keyId);
    expect(crls.filter(({ signature }) => signature !== undefined)).toHaveLength(18);
    for (const { leafIndex, scope, crlNumber, tbs } of crls)
      expect(decodeCrlBody(leafAt(leafIndex).body)).toEqual({
        scope,
        crlNumber,
        tbsSha256: hash('sha256', joinedCrl(tbs), 'buffer'),
      });
  });
});

async function openPublisher(authority: SoftwareAuthority): Promise<CrlPublisher> {
  const timing = { ...defaultCrlTiming, batchMs: 0 };
  const sinks = { publish: () => undefined, alarm: () => undefined };
  const publisher = new CrlPublisher({ ...authority, publicationUrl, shardCount: 16, timing, ...sinks });
  await publisher.start();
  return publisher;
}

/** The next commits fail as a full disk makes them fail. */
function failing(store: Store, operation: 'commitBatch'): void {
  store[operation] = (_mutations: readonly Mutation[]) => Promise.reject(new Error('SQLITE_FULL'));
}
