// I11 the signer decides too: whoever owns the server gets no CA certificate, no longer validity, no other issuer's name,
// no reserved name, no tree but the signer's own, no lower CRL number, and no way back behind floor and guard.
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodeLeaf, encodeLeaf } from '../../src/log/leaf.ts';
import { consistencyPath, rangeHasher } from '../../src/log/merkle.ts';
import { openCheckpoint } from '../../src/log/note.ts';
import { assembleStatement, statementSigningInput } from '../../src/log/statement.ts';
import { bitString, boolean, octetString, oid, sequence } from '../../src/x509/der.ts';
import type { CertificateTemplate } from '../../src/x509/certificate-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { newLogKey, signedCheckpoint } from '../log/log-keys.ts';
import { spkiOf } from '../signer/fixture.ts';
import { withCrlExtension, withExtension } from '../signer/raw-tbs.ts';
import { publicationUrl } from '../support/software-authority.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import { protocolVersion, type Request } from '../../src/signer/protocol.ts';
import { frontierOf, HostileServer, type SignerTarget } from './support/hostile-server.ts';
import { codeOf } from './support/refusal.ts';
import { softHsmSigner, softwareSigner } from './support/signer-targets.ts';

const refused = /^(?:policy-lint|policy-names|request-malformed|request-unknown-type)$/;
const hour = 3600;

describe.each([
  ['the signer in process', () => softwareSigner()],
  ['the signer process with SoftHSM', softHsmSigner],
] as const)('%s', (_name, open) => {
  let attacker: HostileServer;
  let target: SignerTarget;
  beforeAll(async () => {
    target = await open();
    attacker = new HostileServer(target);
    await attacker.begin();
  });
  afterAll(() => target.close());

  const id = (path: string): string => `spiffe://${target.trustDomain}${path}`;
  const extension = (type: string, value: Buffer, critical = false): Buffer =>
    sequence(oid(type), ...(critical ? [boolean(true)] : []), octetString(value));

  async function verdictOn(
    tbs: Buffer,
    purpose: 'certificate' | 'server-certificate' = 'certificate',
  ): Promise<string> {
    return attacker.verdict(attacker.certificate(tbs, purpose), tbs);
  }

  test('signs what a workload, a server and a CRL are: the attacks below differ from these in one thing each', async () => {
    expect(await verdictOn(attacker.certificateTbs())).toBe('signed');
    expect(
      await verdictOn(attacker.certificateTbs({ uris: [id('/vouch/server')] }), 'server-certificate'),
    ).toBe('signed');
    expect(await attacker.verdict(attacker.goodCrl())).toBe('signed');
    expect(await attacker.verdict(attacker.goodCrl({ scope: '7' }))).toBe('signed');
  });

  const templates: [string, () => Partial<CertificateTemplate>][] = [
    ['a CA certificate', () => ({ ca: {} })],
    ['a CA certificate that ends a path', () => ({ ca: { pathLength: 0 } })],
    ['the name of another issuer', () => ({ issuerName: rdnName({ commonName: 'Other CA' }) })],
    ['the key id of another issuer', () => ({ authorityKeyId: 'ab'.repeat(20) })],
    ["the issuer's own name as subject", () => ({ subjectName: target.issuer.issuerName })],
    ["the issuer's own key", () => ({ spki: parseCertificate(target.issuer.certificateDer).spki })],
    ['a key id that is not its key’s', () => ({ subjectKeyId: 'cd'.repeat(20) })],
    ['another algorithm', () => ({ algorithm: 'ecdsa-sha384' })],
    ['two days', () => ({ notAfterSeconds: target.nowSeconds() + 48 * hour })],
    ['a minute more than the longest', () => ({ notAfterSeconds: target.nowSeconds() + 24 * hour + 121 })],
    [
      'a life beyond its issuer',
      () => ({ notAfterSeconds: Math.floor(target.issuer.notAfterMs / 1000) + 1 }),
    ],
    ['a long life that began a day ago', () => ({ notBeforeSeconds: target.nowSeconds() - 24 * hour })],
    [
      'a life that begins tomorrow',
      () => ({
        notBeforeSeconds: target.nowSeconds() + 24 * hour,
        notAfterSeconds: target.nowSeconds() + 25 * hour,
      }),
    ],
    [
      'a life that is over',
      () => ({ notBeforeSeconds: target.nowSeconds() - 90, notAfterSeconds: target.nowSeconds() - 30 }),
    ],
    [
      'an end before its beginning',
      () => ({ notBeforeSeconds: target.nowSeconds() + 30, notAfterSeconds: target.nowSeconds() }),
    ],
    ['the server’s name', () => ({ uris: [id('/vouch/server')] })],
    ['another reserved name', () => ({ uris: [id('/vouch/agent/1')] })],
    ['the root of the reserved names', () => ({ uris: [id('/vouch')] })],
    ['another trust domain', () => ({ uris: ['spiffe://evil.example/orders'] })],
    ['no name', () => ({ uris: [] })],
    ['two names', () => ({ uris: [id('/orders'), id('/admin')] })],
    ['a name that is no SPIFFE ID', () => ({ uris: ['https://test.example/orders'] })],
    ['a name with a dot segment', () => ({ uris: [id('/x/../vouch/server')] })],
    ['the trust domain’s own name', () => ({ uris: [`spiffe://${target.trustDomain}`] })],
  ];
  test.each(templates)('[guard] signs no certificate with %s', async (_what, over) => {
    expect(await verdictOn(attacker.certificateTbs(over()))).toMatch(refused);
  });

  const extensions: [string, Buffer, string?][] = [
    [
      'keyCertSign without being a CA',
      extension('2.5.29.15', bitString(Buffer.from([0x04]), 2), true),
      '2.5.29.15',
    ],
    [
      'cRLSign beside digitalSignature',
      extension('2.5.29.15', bitString(Buffer.from([0x82]), 1), true),
      '2.5.29.15',
    ],
    ['anyExtendedKeyUsage', extension('2.5.29.37', sequence(oid('2.5.29.37.0'))), '2.5.29.37'],
    ['OCSPSigning', extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.9'))), '2.5.29.37'],
    ['code signing', extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.3'))), '2.5.29.37'],
    ['a critical extension that nobody knows', extension('1.2.3.4', Buffer.from('0500', 'hex'), true)],
    ['an extension that Vouch does not write', extension('1.3.6.1.4.1.311.20.2', Buffer.from('0c00', 'hex'))],
  ];
  test.each(extensions)('[guard] signs no certificate with %s', async (_what, added, instead) => {
    expect(await verdictOn(withExtension(attacker.certificateTbs(), added, instead))).toMatch(refused);
  });

  test.each(['/orders', '/vouch/agent', '/vouch', '/vouch/server/2'])(
    "[guard] signs no server's certificate for %s",
    async (path) => {
      expect(await verdictOn(attacker.certificateTbs({ uris: [id(path)] }), 'server-certificate')).toMatch(
        refused,
      );
    },
  );

  test('signs nothing for an issuer it does not have, whatever the leaf says', async () => {
    const tbs = attacker.certificateTbs();
    expect(
      await attacker.verdict(attacker.certificate(tbs, 'certificate', { issuerKeyId: 'ab'.repeat(20) }), tbs),
    ).toMatch(refused);
  });

  test('[guard] signs no certificate later that it refused when it was logged for being backdated', async () => {
    const timeMs = (target.nowSeconds() - 20 * hour) * 1000;
    const notBeforeSeconds = target.nowSeconds() - 20 * hour;
    const tbs = attacker.certificateTbs({
      notBeforeSeconds,
      notAfterSeconds: target.nowSeconds() + 3 * hour,
    });
    for (const over of [{}, { timeMs }]) {
      const item = attacker.certificate(tbs, 'certificate', over);
      expect(await attacker.verdict(item, tbs)).toMatch(refused);
      const place = { index: attacker.leaves.length - 1, treeSize: attacker.leaves.length, path: [] };
      const again = codeOf(() => target.ask({ op: 'signLogged', request: { ...item, ...place } }));
      expect(await again).toMatch(refused);
    }
  });

  describe('of CRLs', () => {
    test('[guard] signs no lower number of a scope, no number twice, none far below that of any scope', async () => {
      const first = attacker.goodCrl();
      expect(await attacker.verdict(first)).toBe('signed');
      const crlNumber = attacker.nextCrlNumber();
      expect(await attacker.verdict(attacker.goodCrl({ crlNumber, scope: '5' }))).toBe('signed');
      const verdict = (scope: string, number: bigint) =>
        attacker.verdict(attacker.goodCrl({ crlNumber: number, scope }));
      for (const number of [crlNumber - 1n, crlNumber - 1000n, 0n, 1n])
        expect(await verdict('5', number), `${number}`).toMatch(refused);
      for (const number of [crlNumber - 600_001n, 0n, 1n])
        for (const scope of ['full', '6', 'delta'])
          expect(await verdict(scope, number), `${scope} ${number}`).toMatch(refused);
      const again = attacker.goodCrl({ crlNumber, scope: '5', nextUpdateSeconds: target.nowSeconds() + 99 });
      expect(await attacker.verdict(again)).toMatch(refused);
    });

    test.each([
      ['a restart', () => target.restart()],
      ['a kill', () => target.crash()],
    ])('[guard] remembers the numbers over %s', async (_what, again) => {
      const crlNumber = attacker.nextCrlNumber() + 1000n;
      expect(await attacker.verdict(attacker.goodCrl({ crlNumber }))).toBe('signed');
      await again();
      await attacker.greet();
      await attacker.resume();
      for (const number of [crlNumber - 1n, crlNumber])
        expect(await attacker.verdict(attacker.goodCrl({ crlNumber: number }))).toMatch(refused);
      expect(await attacker.verdict(attacker.goodCrl({ crlNumber: crlNumber + 1n }))).toBe('signed');
      for (let skipped = 0; skipped < 1002; skipped += 1) attacker.nextCrlNumber();
    });

    test('[guard] signs none far ahead, and one in the log does not end those that follow', async () => {
      const before = attacker.leaves.length;
      const crlNumber = 2n ** 159n - 1n;
      expect(await attacker.verdict(attacker.goodCrl({ crlNumber }))).toMatch(refused);
      expect(await attacker.verdict(attacker.goodCrl())).toBe('signed');
      for (const size of attacker.notes.keys()) if (size > before) attacker.notes.delete(size);
      await target.restart();
      await attacker.greet();
      await attacker.resume();
      expect(await attacker.verdict(attacker.goodCrl())).toBe('signed');
    });

    test('[guard] signs none whose number is not the one in its leaf', async () => {
      const crlNumber = attacker.nextCrlNumber();
      const tbs = attacker.crlTbs({ crlNumber: crlNumber + 5n });
      expect(await attacker.verdict(attacker.crl(tbs, { crlNumber }))).toMatch(refused);
      for (let skipped = 0; skipped < 6; skipped += 1) attacker.nextCrlNumber();
    });

    const bent: [string, () => Parameters<HostileServer['goodCrl']>[0]][] = [
      ['a thisUpdate to come', () => ({ thisUpdateSeconds: target.nowSeconds() + 30 })],
      ['a nextUpdate before its thisUpdate', () => ({ nextUpdateSeconds: target.nowSeconds() - 120 })],
      ['a nextUpdate in a year', () => ({ nextUpdateSeconds: target.nowSeconds() + 365 * 24 * hour })],
      ['the name of another issuer', () => ({ issuerName: rdnName({ commonName: 'Other CA' }) })],
      ['the key id of another issuer', () => ({ authorityKeyId: 'ab'.repeat(20) })],
      [
        'a distribution point though it is the full one',
        () => ({ idpUrl: `${publicationUrl}/crl/${target.issuer.keyId}/1.crl` }),
      ],
      ['no distribution point though it is a shard', () => ({ scope: '1', idpUrl: undefined })],
      [
        'the distribution point of another shard',
        () => ({ scope: '1', idpUrl: `${publicationUrl}/crl/${target.issuer.keyId}/2.crl` }),
      ],
      ['a scope that is none', () => ({ scope: 'everything' })],
      ['no base though it is a delta', () => ({ scope: 'delta', idpUrl: undefined })],
    ];
    test.each(bent)('[guard] signs none with %s', async (_what, over) => {
      expect(await attacker.verdict(attacker.goodCrl(over()))).toMatch(refused);
    });

    test('[guard] signs no delta, and nothing with a critical extension that Vouch does not write', async () => {
      for (const added of [
        extension('2.5.29.27', Buffer.from('020101', 'hex'), true),
        extension('1.2.3.4', Buffer.from('0500', 'hex'), true),
      ]) {
        const crlNumber = attacker.nextCrlNumber();
        const tbs = withCrlExtension(attacker.crlTbs({ crlNumber }), added);
        expect(await attacker.verdict(attacker.crl(tbs, { crlNumber }))).toMatch(refused);
      }
    });
  });

  describe('of trees', () => {
    test('signs its own only, whatever was appended; and says so in the checkpoint', async () => {
      await attacker.append(
        attacker.record(),
        attacker.certificate(attacker.certificateTbs()),
        attacker.record(),
      );
      const size = attacker.leaves.length;
      const { treeSize, rootHash } = openCheckpoint(attacker.notes.get(size) ?? '', [target.logKey]);
      expect([treeSize, rootHash.toString('hex')]).toEqual([size, attacker.root().toString('hex')]);
    });

    test('[guard] takes no leaf at another place than the end', async () => {
      const size = attacker.leaves.length;
      const codes: string[] = [];
      for (const firstIndex of [size - 1, size + 1, 0, size + 1000])
        codes.push(await codeOf(() => target.ask({ op: 'append', firstIndex, items: [attacker.record()] })));
      await attacker.append(attacker.record()).catch(() => undefined);
      const own = attacker.root();
      // Whatever came of it: the next tests begin with a tree that both know.
      await target.restart();
      await attacker.greet();
      await attacker.resume();
      expect(codes).toEqual(Array(4).fill('integrity-log'));
      expect(attacker.leaves.length).toBe(size + 1);
      expect(openCheckpoint(attacker.notes.get(size + 1) ?? '', [target.logKey]).rootHash.equals(own)).toBe(
        true,
      );
    });

    test('signs no leaf with the key of an issuer: a leaf is hashed, never signed', async () => {
      const { leaf } = attacker.record();
      const { signatures } = await attacker.append({ purpose: 'record', leaf });
      expect(signatures).toEqual([undefined]);
    });
  });

  describe('asked for more before it has answered', () => {
    /** Takes up the true tree and sends what follows at once. */
    async function takingUp(...next: Request[]): Promise<void> {
      await target.restart();
      await attacker.greet();
      const requests = [attacker.resumeRequest(), { op: 'resumed' } as const, ...next];
      await Promise.allSettled(requests.map((request) => target.ask(request)));
    }

    test('signs one tree, though it is told to take up two at once', async () => {
      await takingUp(attacker.resumeRequest());
      const [hidden, shown] = [attacker.certificate(attacker.certificateTbs()), attacker.record()];
      const inFirst = await codeOf(() => attacker.append(hidden));
      await target.ask({ op: 'leaves', leaves: [shown.leaf] });
      await attacker.finishResume().catch(() => undefined);
      expect(attacker.forks()).toEqual([]);
      expect(inFirst).toBe('unavailable-signer');
      attacker.leaves.push(shown.leaf);
      expect(await verdictOn(attacker.certificateTbs())).toBe('signed');
    });

    test('signs nothing after it was told to stop', async () => {
      await takingUp({ op: 'stop' });
      expect(await codeOf(() => attacker.append(attacker.record()))).not.toBe('allowed');
    });

    test('[guard] goes on from what it has signed, though that is not on disk yet', async () => {
      await target.restart();
      await attacker.greet();
      await attacker.resume();
      const size = attacker.leaves.length;
      const before = { size, note: attacker.notes.get(size) ?? '' };
      await attacker.append(attacker.record());
      const others = [attacker.record().leaf, attacker.record().leaf];
      for (const leaves of [[], others.slice(1), others])
        expect(await codeOf(() => attacker.resume({ ...before, leaves }))).toBe('integrity-rewind');
      expect(attacker.forks()).toEqual([]);
    });
  });

  describe('started again', () => {
    /** What a new signer says to a lie about the tree; then it is started again and told the truth. */
    async function toldALie(lie: () => Parameters<HostileServer['resume']>[0]): Promise<string> {
      await target.restart();
      await attacker.greet();
      const notes = new Map(attacker.notes);
      const code = await codeOf(() => attacker.resume(lie()));
      attacker.notes.clear();
      for (const [size, note] of notes) attacker.notes.set(size, note);
      return code;
    }

    /** A size well below the end for which the log key has signed a checkpoint. */
    function earlier(): { size: number; note: string } {
      const sizes = [...attacker.notes.keys()].sort((a, b) => a - b);
      const size = sizes[Math.floor(sizes.length / 2)] ?? 0;
      return { size, note: attacker.notes.get(size) ?? '' };
    }

    async function honestly(): Promise<string> {
      await target.restart();
      await attacker.greet();
      const code = await codeOf(() => attacker.resume());
      if (code === 'allowed') expect(await verdictOn(attacker.certificateTbs())).toBe('signed');
      return code;
    }

    test('takes up the true tree, from the newest checkpoint or from an earlier one with all leaves since', async () => {
      expect(await honestly()).toBe('allowed');
      expect(await toldALie(() => ({ ...earlier() }))).toBe('allowed');
      expect(await verdictOn(attacker.certificateTbs())).toBe('signed');
    });

    test('takes up the true tree after a kill, too, from before its last signature', async () => {
      await target.crash();
      expect(await honestly()).toBe('allowed');
      const old = earlier();
      await attacker.append(attacker.record());
      await target.crash();
      await attacker.greet();
      expect(await codeOf(() => attacker.resume({ ...old }))).toBe('allowed');
      expect(attacker.forks()).toEqual([]);
    });

    test('[guard] goes on from nothing behind its floor, though the log key signed it once', async () => {
      expect(await toldALie(() => ({ ...earlier(), leaves: [] }))).toBe('integrity-rewind');
      const cut = () => attacker.leaves.slice(earlier().size, -1);
      expect(await toldALie(() => ({ ...earlier(), leaves: cut() }))).toBe('integrity-rewind');
      expect(await codeOf(() => target.ask({ op: 'append', firstIndex: 0, items: [] }))).toBe(
        'unavailable-signer',
      );
      expect(await honestly()).toBe('allowed');
    });

    test('[guard] takes no other leaves on the way to its floor', async () => {
      const other = () =>
        attacker.leaves.slice(earlier().size).map((leaf, n) => (n === 0 ? attacker.record().leaf : leaf));
      expect(await toldALie(() => ({ ...earlier(), leaves: other() }))).toBe('integrity-rewind');
      const longer = () => [...other(), attacker.record().leaf, attacker.record().leaf];
      expect(await toldALie(() => ({ ...earlier(), leaves: longer() }))).toBe('integrity-rewind');
    });

    test('[guard] takes no peaks but those of the checkpoint', async () => {
      const { size, note } = earlier();
      const forged = attacker.leaves
        .slice(0, size)
        .map((leaf, n) => (n === size - 1 ? attacker.record().leaf : leaf));
      expect(await toldALie(() => ({ size, note, peaks: frontierOf(forged).peaks() }))).toMatch(
        /^integrity-/,
      );
    });

    test('takes no checkpoint that its own log key did not sign', async () => {
      const { size, note } = earlier();
      const bend = (change: (text: string) => string) => toldALie(() => ({ size, note: change(note) }));
      expect(await bend(() => '')).toMatch(/^integrity-/);
      expect(await bend((text) => text.replace(/\n\d+\n/, `\n${size + 1}\n`))).toMatch(/^integrity-/);
      expect(
        await bend((text) => text.replace(/\n[^\n]{44}\n/, `\n${createHash('sha256').digest('base64')}\n`)),
      ).toMatch(/^integrity-/);
      expect(await bend((text) => text.slice(0, text.indexOf('\n\n') + 2))).toMatch(/^integrity-/);
    });

    test('[guard] begins no second log: from nothing, too, it comes to the one that it has signed', async () => {
      const nothing = { genesis: true, size: 0, note: '', peaks: [] };
      const other = () => [attacker.record().leaf, ...attacker.leaves.slice(1), attacker.record().leaf];
      for (const leaves of [() => [], () => attacker.leaves.slice(0, -1), other])
        expect(await toldALie(() => ({ ...nothing, leaves: leaves() }))).toBe('integrity-rewind');
      expect(await toldALie(() => nothing)).toBe('allowed');
      expect(await honestly()).toBe('allowed');
    });

    test('[guard] is not led astray by a floor that was put back: the guard in the token knows better', async () => {
      const old = earlier();
      await target.restart();
      await attacker.greet();
      await attacker.resume();
      await attacker.append(attacker.record());
      const oldFloor = await target.readFloor();
      await attacker.append(attacker.record(), attacker.record());
      // An orderly stop writes both marks; then the attacker puts back what lies in the state directory.
      await target.restart();
      const newFloor = await target.readFloor();
      expect(newFloor).not.toBe(oldFloor);
      await target.writeFloor(oldFloor);
      await target.restart();
      await attacker.greet();
      const short = attacker.leaves.slice(old.size, -2);
      expect(await codeOf(() => attacker.resume({ ...old, leaves: short }))).toBe('integrity-rewind');
      attacker.notes.delete(attacker.leaves.length - 2);
      await target.writeFloor(newFloor);
      expect(await honestly()).toBe('allowed');
    });

    test('[guard] does not go on without its floor', async () => {
      await target.restart();
      const floor = await target.readFloor();
      await target.writeFloor(undefined);
      expect(await toldALie(() => ({}))).toMatch(/^integrity-/);
      await target.restart();
      await target.writeFloor(floor);
      expect(await honestly()).toBe('allowed');
    });

    test('[guard] begins no new log by the word of another root than that of its issuers', async () => {
      const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const rootSpki = spkiOf(publicKey);
      const name = `${target.logKey.name}-4000000000`;
      const input = statementSigningInput(
        {
          trustDomain: target.trustDomain,
          sequence: 4_000_000_000,
          notAfterMs: (target.nowSeconds() + hour) * 1000,
          logKeys: [{ ...target.logKey, name }],
          publicationUrls: [],
        },
        keyIdOf(rootSpki),
        'ES256',
      );
      const how = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const;
      const statement = assembleStatement(input, sign('sha256', Buffer.from(input), how));
      await target.restart();
      await attacker.greet();
      const code = await codeOf(() => target.ask({ op: 'openLog', statement, rootSpki }));
      expect(code).toBe('integrity-state');
      expect(await honestly()).toBe('allowed');
    });

    test('answers nothing before it was greeted and has taken up a tree', async () => {
      await target.restart();
      expect(await codeOf(() => attacker.append(attacker.record()))).toBe('request-malformed');
      await attacker.greet();
      expect(await codeOf(() => attacker.append(attacker.record()))).toBe('unavailable-signer');
      expect(await codeOf(() => target.ask({ op: 'leaves', leaves: [] }))).toBe('request-malformed');
      expect(await codeOf(() => target.ask({ op: 'resumed' }))).toBe('request-malformed');
      expect(await codeOf(() => target.ask({ op: 'hello', version: protocolVersion + 1 }))).toBe(
        'config-state',
      );
    });
  });
});

describe('told of the tree by the log key of another token', () => {
  const other = newLogKey('test.example/vouch-log');
  let attacker: HostileServer;
  let target: SignerTarget;

  /** A signer that has signed 20 leaves, and of which 20 more were signed by the other while it was away. */
  beforeEach(async () => {
    target = await softwareSigner({ otherLogKeys: [other.key] });
    attacker = new HostileServer(target);
    await attacker.begin();
    for (let leaf = 0; leaf < 20; leaf += 1) await attacker.append(attacker.record());
    await target.restart();
    await attacker.greet();
  });
  afterEach(() => target.close());

  /** A tree of these leaves as the other log key signs it, with the proof from the own floor that its holder can make. */
  function toldOf(leaves: readonly Buffer[], by = [other], floorSize = 20) {
    const size = leaves.length;
    const frontier = frontierOf(leaves);
    const hash = rangeHasher({
      node: (level, at) => frontierOf(leaves.slice(at << level, (at + 1) << level)).root(),
    });
    return {
      ...{ size, peaks: frontier.peaks(), leaves: [] },
      note: signedCheckpoint(by, size, frontier.root()),
      consistency: size > floorSize ? consistencyPath(floorSize, size, hash) : [],
    };
  }
  const more = (count: number) => Array.from({ length: count }, () => attacker.record().leaf);

  test('goes on from there where it leads on from its own floor, and signs', async () => {
    const longer = [...attacker.leaves, ...more(21)];
    expect(await codeOf(() => attacker.resume(toldOf(longer)))).toBe('allowed');
    attacker.leaves.splice(0, attacker.leaves.length, ...longer);
    const tbs = attacker.certificateTbs();
    expect(await attacker.verdict(attacker.certificate(tbs), tbs)).toBe('signed');
  });

  test('goes on from there below its floor, by way of the floor', async () => {
    const told = toldOf(attacker.leaves.slice(0, 7));
    const leaves = attacker.leaves.slice(7);
    expect(await codeOf(() => attacker.resume({ ...told, leaves: leaves.slice(0, -1) }))).toBe(
      'integrity-rewind',
    );
    expect(await codeOf(() => attacker.resume({ ...told, leaves }))).toBe('allowed');
  });

  test('[guard] takes no tree past its floor that does not contain what it has signed itself', async () => {
    const forked = [...attacker.leaves.slice(0, 12), ...more(30)];
    const { consistency: _, ...unproven } = toldOf([...attacker.leaves, ...more(5)]);
    const lies = {
      fork: toldOf(forked),
      'without proof': unproven,
      'proof from elsewhere': { ...toldOf(forked), consistency: toldOf(forked, [other], 19).consistency },
    };
    for (const [what, lie] of Object.entries(lies))
      expect(await codeOf(() => attacker.resume(lie)), what).toBe('integrity-rewind');
    expect(await codeOf(() => attacker.resume())).toBe('allowed');
  });

  test('takes no word of a key that is not one of the log', async () => {
    const stranger = newLogKey('test.example/vouch-log');
    const foreign = newLogKey('test.example/other-log');
    for (const by of [[stranger], [foreign], [foreign, other]])
      expect(await codeOf(() => attacker.resume(toldOf([...attacker.leaves, ...more(3)], by)))).toBe(
        'integrity-log',
      );
  });

  test('hashes what is for another token to sign, and signs none of it', async () => {
    await attacker.resume();
    const { leaf } = attacker.certificate(attacker.certificateTbs());
    // Of its own issuer it is not foreign, and to sign it is what it is asked then.
    expect(await attacker.verdict({ purpose: 'foreign', leaf })).toBe('policy-lint');
    const ofOther = encodeLeaf({ ...decodeLeaf(leaf), issuerKeyId: '3c'.repeat(20) });
    expect(await attacker.verdict({ purpose: 'foreign', leaf: ofOther })).toBe('recorded');
    expect(await attacker.verdict({ purpose: 'foreign', leaf: attacker.record().leaf })).toBe('policy-lint');
    const { checkpoint } = await attacker.append(attacker.record());
    expect(checkpoint.rootHash).toEqual(attacker.root());
  });
});

describe('a start that was refused', () => {
  // An attacker who may start the signer, as whoever owns the server may, and who owns the state directory.
  async function attackBy(
    prepare: (target: SignerTarget, oldFloor: string) => Promise<void>,
  ): Promise<string[]> {
    const target = await softwareSigner();
    const attacker = new HostileServer(target);
    await attacker.begin();
    await attacker.append(attacker.record(), attacker.record());
    await target.restart();
    const oldFloor = await target.readFloor();
    await attacker.greet();
    await attacker.resume();
    const size = attacker.leaves.length;
    const old = { size, note: attacker.notes.get(size) ?? '' };
    await attacker.append(attacker.certificate(attacker.certificateTbs()), attacker.record());
    await target.restart();
    await prepare(target, oldFloor);
    const codes: string[] = [];
    for (let start = 0; start < 4; start += 1) {
      await target.restart();
      await attacker.greet();
      // A leaf that raises a CRL number makes the signer write other marks than the last time.
      const { leaf } = attacker.goodCrl();
      codes.push(await codeOf(() => attacker.resume({ ...old, leaves: start === 3 ? [] : [leaf] })));
    }
    await target.close();
    return codes;
  }

  test('[guard] opens no way back, however often it is repeated: without a floor', async () => {
    const codes = await attackBy((target) => target.writeFloor(undefined));
    for (const code of codes) expect(code, codes.join()).toMatch(/^integrity-/);
  });

  test('[guard] opens no way back, however often it is repeated: with an old floor', async () => {
    const codes = await attackBy((target, oldFloor) => target.writeFloor(oldFloor));
    for (const code of codes) expect(code, codes.join()).toMatch(/^integrity-/);
  });
});
