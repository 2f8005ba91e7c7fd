// I3 verified: no signature leaves the server unverified.
import { generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import type { IssuedCertificate } from '../../src/issuance/issue.ts';
import { signedBy } from '../../src/issuance/issuer.ts';
import { assembleNote, checkpointBody, type LogKey } from '../../src/log/note.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { shardOf } from '../../src/core/publication.ts';
import { revocationLeaf } from '../../src/sequencer/record.ts';
import { runCeremony } from '../../src/signer/ceremony.ts';
import type { HsmConfig } from '../../src/signer/hsm.ts';
import type { CertificateRecord } from '../../src/store/records.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { newTestToken } from '../support/hsm.ts';
import {
  freshKey,
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';
import { readPublished } from '../support/crl-bytes.ts';
import { vouchEntry } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';
import { becomes, codeOf } from './support/refusal.ts';

let authority: SoftwareAuthority;
beforeEach(async () => {
  authority = await softwareAuthority();
});
afterEach(() => authority.close());

/** Issues; what comes out is either refused or a certificate whose signature holds. */
async function issued(name = 'orders'): Promise<IssuedCertificate> {
  const { entry, tokenId } = await registered(authority, name);
  return authority.issuance.issue(requestFor(entry, tokenId));
}

function lastLeaf(): Buffer[] {
  const size = authority.store.treeSize();
  return authority.store.leaves(size - 1, size);
}

function holds({ der }: { der: Buffer }): boolean {
  return new X509Certificate(der).verify(new X509Certificate(authority.issuerDer).publicKey);
}

const otherKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const wrong: [string, (signature: Buffer) => Buffer][] = [
  ['with a flipped bit', flipped],
  ['by another key', () => sign('sha256', Buffer.from('something'), otherKey)],
  ['that is empty', () => Buffer.alloc(0)],
  ['that is cut', (signature) => signature.subarray(0, -1)],
  ['followed by more bytes', (signature) => Buffer.concat([signature, Buffer.alloc(1)])],
  ['of zeros', (signature) => Buffer.alloc(signature.length)],
];

describe('a token that computes a signature', () => {
  test.each(wrong)('[guard] %s gets nothing released, and signing stops', async (_name, corrupt) => {
    const good = await issued('before');
    authority.signer.corrupt = corrupt;
    expect(await codeOf(() => issued('victim'))).toBe('integrity-signature');
    expect(authority.sequencer.haltedBy()?.code).toBe('integrity-signature');
    authority.signer.corrupt = undefined;
    expect(await codeOf(() => issued('later'))).toBe('unavailable-signer');
    await authority.sequencer.close();
    const signatures = authority.store.certificatesByLeaf(0, 10).map((one) => one.signature);
    expect(signatures.filter((signature) => signature !== undefined)).toHaveLength(1);
    expect(holds(good)).toBe(true);
  });

  test('wrong once is asked again; only the second, right one is released and stored', async () => {
    let calls = 0;
    authority.signer.corrupt = (signature) => (calls++ === 0 ? flipped(signature) : signature);
    expect(holds(await issued())).toBe(true);
    await authority.sequencer.close();
    const [stored] = authority.store.certificatesByLeaf(0, 10);
    expect(
      signedBy(authority.issuer, stored?.tbs ?? Buffer.alloc(0), stored?.signature ?? Buffer.alloc(0)),
    ).toBe(true);
  });

  test('[guard] for a certificate that a crash left unsigned releases it only where it verifies', async () => {
    const { entry, tokenId } = await registered(authority);
    const request = requestFor(entry, tokenId, freshKey());
    authority.signer.state = 'degraded';
    expect(await codeOf(() => authority.issuance.issue(request))).toBe('unavailable-signer');
    authority.signer.state = 'usable';
    authority.sequencer.adoptCheckpoint(authority.signer.resume(lastLeaf()));
    authority.signer.corrupt = flipped;
    expect(await codeOf(() => authority.issuance.issue(request))).toBe('integrity-signature');
  });

  test('[guard] for the neighbour in the batch is not taken for one of ours', async () => {
    swapSignatures();
    const pair = await Promise.all([issued('left'), issued('right')]);
    expect(pair.map(holds)).toEqual([true, true]);
  });

  test('that is missing or an error is no certificate', async () => {
    const append = authority.signer.append.bind(authority.signer);
    authority.signer.append = async (batch) => ({
      ...(await append(batch)),
      signatures: batch.items.map(() => undefined),
    });
    expect(await codeOf(() => issued())).toBe('integrity-signature');
    authority.signer.append = async (batch) => ({ ...(await append(batch)), signatures: [] });
    expect(await codeOf(() => issued('second'))).not.toBe('allowed');
  });
});

test('[guard] what nobody can verify is not released: a submission without its check is refused', async () => {
  const { entry, tokenId } = await registered(authority);
  const sign = authority.sequencer.sign.bind(authority.sequencer);
  authority.sequencer.sign = ({ verify: _verify, ...submission }) => sign(submission);
  expect(await codeOf(() => authority.issuance.issue(requestFor(entry, tokenId)))).toBe(
    'integrity-signature',
  );
});

test('a CRL with a wrong signature is not published; the one before stays', async () => {
  const published: PublishedCrl[] = [];
  const alarms: string[] = [];
  const publisher = await openPublisher(
    (crl) => published.push(crl),
    (scope) => alarms.push(scope),
  );
  expect(await becomes(() => published.length === 19)).toBe(true);
  const { record } = await issued();
  authority.signer.corrupt = flipped;
  // The revocation itself needs no signature: it is durable.
  const revocation = {
    ...{ issuerKeyId: record.issuerKeyId, serial: record.serial, shard: shardOf(record.serial, 16) },
    ...{ revokedAtMs: authority.clock.now(), reason: 'superseded' as const, operator: 'uid:0' },
    salt: Buffer.alloc(16),
    notAfterMs: record.notAfterMs,
  };
  const leaf = revocationLeaf(authority.clock.now(), record.issuerKeyId, revocation);
  const leafIndex = await authority.sequencer.record({
    kind: 'revocation',
    leaf,
    revocation,
    blockKeySha256: undefined,
  });
  publisher.add({
    ...revocation,
    ...{ leafIndex, crlDateSeconds: undefined, mayLeave: false },
    ...{ invalidityDateSeconds: undefined, followedBy: undefined },
  });
  expect(await becomes(() => alarms.length > 0)).toBe(true);
  expect(published).toHaveLength(19);
  for (const crl of publisher.current()) {
    const { tbs, signature } = readPublished(crl);
    expect(signedBy(authority.issuer, tbs, signature)).toBe(true);
  }
  await publisher.close();
});

describe('a checkpoint', () => {
  const bent: [string, (note: string) => string][] = [
    [
      'whose signature is another',
      (note) => note.replace(/(— \S+ .{12})./, (_all, head: string) => `${head}_`),
    ],
    ['without signature', (note) => note.slice(0, note.indexOf('\n\n') + 2)],
    ['of another size', (note) => note.replace(/\n\d+\n/, '\n1\n')],
    ['of another origin', (note) => note.replaceAll(`${trustDomain}/`, 'other.example/')],
  ];
  test.each(bent)('%s is not served, and signing stops', async (_name, bend) => {
    await issued('before');
    const { entry, tokenId } = await registered(authority, 'victim');
    const before = authority.sequencer.checkpoint()?.note;
    const append = authority.signer.append.bind(authority.signer);
    authority.signer.append = async (batch) => {
      const result = await append(batch);
      return { ...result, checkpoint: { ...result.checkpoint, note: bend(result.checkpoint.note) } };
    };
    expect(await codeOf(() => authority.issuance.issue(requestFor(entry, tokenId)))).toMatch(/^integrity-/);
    expect(authority.sequencer.haltedBy()?.code).toMatch(/^integrity-/);
    expect(authority.sequencer.checkpoint()?.note).toBe(before);
  });

  test('over another tree, though signed by the log key, is not served, and signing stops', async () => {
    const { entry, tokenId } = await registered(authority, 'victim');
    const append = authority.signer.append.bind(authority.signer);
    authority.signer.append = async (batch) => {
      // The signer that hashes something else than it was sent.
      const items = batch.items.map((item) => ({ ...item, leaf: flipped(item.leaf) }));
      return append({ ...batch, items });
    };
    expect(await codeOf(() => authority.issuance.issue(requestFor(entry, tokenId)))).toMatch(/^integrity-/);
    expect(authority.sequencer.haltedBy()?.code).toMatch(/^integrity-/);
  });

  test('with a signature by somebody else of the same name is none', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const origin = `${trustDomain}/vouch-log`;
    const body = checkpointBody({ origin, treeSize: authority.tree.size, rootHash: authority.tree.root() });
    const publicKeySpki = publicKey.export({ type: 'spki', format: 'der' });
    const key: LogKey = { name: origin, algorithm: 'ed25519', publicKeySpki };
    const note = assembleNote(body, [{ key, signature: sign(null, Buffer.from(body), privateKey) }]);
    expect(await codeOf(() => authority.sequencer.adoptCheckpoint(note))).toBe('integrity-log');
  });
});

describe('the root, in a ceremony', () => {
  let tokens: { hsm: HsmConfig; rootHsm: HsmConfig };
  beforeAll(() => {
    const folder = newFolder();
    tokens = { hsm: newTestToken('online', folder).hsm, rootHsm: newTestToken('root', folder).hsm };
  });

  // Root certificate, root CRL; then come issuer certificate and statement.
  test.each([1, 2])('[guard] a wrong signature number %i is noticed where it arrives', async (which) => {
    expect(await codeOf(() => ceremonyThrough(which, tokens))).toBe('integrity-signature');
  });

  test('a statement with a wrong signature is noticed too', async () => {
    expect(await codeOf(() => ceremonyThrough(4, tokens))).toMatch(/^(?:integrity-|request-)/);
  });
});

test('a stored signature that rotted on disk is not handed out again', async () => {
  const { entry, tokenId } = await registered(authority);
  const request = requestFor(entry, tokenId, freshKey());
  const first = await authority.issuance.issue(request);
  const rotten: CertificateRecord = {
    ...first.record,
    signature: flipped(parseCertificate(first.der).signature),
  };
  const recalled = await authority.issuance.recall(rotten).catch(() => undefined);
  expect(recalled === undefined || holds(recalled)).toBe(true);
});

test('a stored CRL that rotted on disk is not published at the next start', async () => {
  const first = await openPublisher(() => undefined);
  expect(await becomes(() => first.current().length === 18)).toBe(true);
  await first.close();
  await authority.sequencer.close();
  const { store } = authority;
  const rows = store.lastCrls(authority.issuer.keyId);
  store.lastCrls = () => rows.map((row) => ({ ...row, signature: row.signature && flipped(row.signature) }));
  const served: PublishedCrl[] = [];
  const second = await openPublisher((crl) => served.push(crl));
  await second.close();
  const broken = served
    .map(readPublished)
    .filter(({ tbs, signature }) => !signedBy(authority.issuer, tbs, signature));
  expect(broken).toHaveLength(0);
});

async function openPublisher(
  publish: (crl: PublishedCrl) => void,
  alarm: (scope: string) => void = () => undefined,
): Promise<CrlPublisher> {
  const timing = { ...defaultCrlTiming, batchMs: 0 };
  const publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing,
    publish,
    alarm,
  });
  await publisher.start();
  return publisher;
}

/** The signer answers a batch of two with the two signatures exchanged. */
function swapSignatures(): void {
  const append = authority.signer.append.bind(authority.signer);
  authority.signer.append = async (batch) => {
    const result = await append(batch);
    const certificates = batch.items.filter((item) => item.purpose === 'certificate').length;
    return { ...result, signatures: certificates === 2 ? result.signatures.toReversed() : result.signatures };
  };
}

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(copy.length - 1) ^ 1, copy.length - 1);
  return copy;
}

/** A real ceremony with two tokens, and somebody on the pipe to the child who bends one of the root's signatures. */
async function ceremonyThrough(which: number, tokens: { hsm: HsmConfig; rootHsm: HsmConfig }): Promise<void> {
  const entry = join(newFolder(), 'between.mjs');
  writeFileSync(entry, between(which));
  await runCeremony({
    entry,
    ...tokens,
    refusedPrefix: `${newFolder()}/`,
    trustDomain,
    logOrigin: `${trustDomain}/vouch-log`,
    publicationUrl,
    clock: systemClock,
    serialPrefix: 0x2a,
    keyTypes: { root: 'ec-p384', issuer: 'ec-p256', log: undefined },
    nameConstraints: undefined,
    log: () => undefined,
    logAhead: () => Promise.resolve(),
  });
}

/** Frames are u32 length, u32 request id, u8 kind, payload; `sign` is kind 5, and its answer ends with the signature. */
function between(which: number): string {
  return `import { spawn } from 'node:child_process';
    import { Socket } from 'node:net';
    import { deserialize, serialize } from 'node:v8';
    const parent = new Socket({ fd: 3 });
    const child = spawn(process.execPath, [${JSON.stringify(vouchEntry)}, ...process.argv.slice(2)], { stdio: ['ignore', 'inherit', 'inherit', 'pipe'] });
    const pipe = child.stdio[3];
    const asked = new Set();
    let signatures = 0;
    const relay = (from, to, change) => {
      let held = Buffer.alloc(0);
      from.on('data', (chunk) => {
        held = Buffer.concat([held, chunk]);
        while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
          const size = 4 + held.readUInt32BE(0);
          to.write(change(held.subarray(0, size)));
          held = held.subarray(size);
        }
      });
      from.on('close', () => to.destroy());
      from.on('error', () => to.destroy());
    };
    relay(parent, pipe, (frame) => { if (frame[8] === 5) asked.add(frame.readUInt32BE(4)); return frame; });
    relay(pipe, parent, (frame) => {
      if (!asked.delete(frame.readUInt32BE(4)) || ++signatures !== ${which}) return frame;
      const value = Buffer.from(deserialize(frame.subarray(9)));
      const at = value.length - 4;
      value[at] = value[at] === 0x41 ? 0x42 : 0x41;
      const payload = serialize(value);
      const head = Buffer.from(frame.subarray(0, 9));
      head.writeUInt32BE(5 + payload.length, 0);
      return Buffer.concat([head, payload]);
    });
    child.on('exit', (code) => process.exit(code ?? 1));
    process.on('exit', () => child.kill('SIGKILL'));`;
}
