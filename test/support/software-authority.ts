import { generateKeyPairSync, hash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Json } from '../../src/core/canonical-json.ts';
import { newSerial } from '../../src/core/serial.ts';
import { parseSpiffeId, parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { ClockGuard } from '../../src/issuance/clock-guard.ts';
import { Issuance, type IssueRequest } from '../../src/issuance/issue.ts';
import { caOf, type Issuer, issuerOf } from '../../src/issuance/issuer.ts';
import { soleIssuer, Takeover } from '../../src/issuance/issuers.ts';
import { defaultProfile } from '../../src/issuance/profile.ts';
import { openFileTiles } from '../../src/log/file-tiles.ts';
import type { LogKey } from '../../src/log/note.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import { Sequencer, type SequencerLimits } from '../../src/sequencer/sequencer.ts';
import { assembleStatement, statementSigningInput } from '../../src/log/statement.ts';
import { TileTree } from '../../src/log/tiles.ts';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import type { LeafDraft, Store } from '../../src/store/port.ts';
import { createSqliteStore } from '../../src/store/sqlite/store.ts';
import { signerGroup } from '../../src/signer/group.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { assembleSigned, buildCertificateTbs } from '../../src/x509/certificate-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import { importPublicKey, type PublicKeyInfo } from '../../src/x509/public-key.ts';
import { FakeClock } from '../fakes/clock.ts';
import { SoftwareSigner } from '../fakes/software-signer.ts';

export const trustDomain = parseTrustDomain('test.example');
export const publicationUrl = 'http://pki.test.example';

/** A whole authority with keys in memory and a real store in a temporary folder. */
export interface SoftwareAuthority {
  folder: string;
  clock: FakeClock;
  store: Store;
  signer: SoftwareSigner;
  tree: TileTree;
  logKeys: readonly LogKey[];
  sequencer: Sequencer;
  clockGuard: ClockGuard;
  issuance: Issuance;
  issuer: Issuer;
  issuerDer: Buffer;
  rootDer: Buffer;
  close(): Promise<void>;
}

/** One with a second issuer and log key, each with a signer of its own. */
export interface PairedAuthority extends SoftwareAuthority {
  standby: { signer: SoftwareSigner; issuer: Issuer };
  issuers: Takeover;
}

/** How long the first of a pair is away before the standby issues, by the fake clock. */
export const takeOverAfterMs = 10_000;

/** Opens one with a standby; its state lives and dies with the test. */
export async function pairedAuthority(): Promise<PairedAuthority> {
  const { standby, takeover: issuers, ...authority } = await openAuthority(true);
  if (!standby || !issuers) throw new Error('a standby was asked for');
  return { ...authority, standby, issuers };
}

interface Options {
  /** Its ceremony's leaves say no algorithm. */
  firstVersion?: boolean;
  limits?: Partial<SequencerLimits>;
  /** Where its temporary folder is made. */
  parent?: string;
}

/** Opens one; its state lives and dies with the test. */
export async function softwareAuthority(options: Options = {}): Promise<SoftwareAuthority> {
  return openAuthority(false, options);
}

/** Keys of one token. */
function tokenOf(root: KeyPair, rootDer: Buffer, name: string, clock: FakeClock) {
  const issuing = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const log = generateKeyPairSync('ed25519');
  const logKey: LogKey = {
    name: `${trustDomain}/vouch-log`,
    algorithm: 'ed25519',
    publicKeySpki: spkiOf(log.publicKey),
  };
  const signer = new SoftwareSigner({ issuerKey: issuing.privateKey, logPrivateKey: log.privateKey, logKey });
  const issuerDer = caCertificate(issuing.publicKey, root, name, rootDer, clock);
  signer.ocspIssuer = { nameDer: caOf(issuerDer).issuerName, spki: spkiOf(issuing.publicKey) };
  return { issuerDer, logKey, signer };
}

async function openAuthority(hasStandby: boolean, options: Options = {}) {
  const folder = mkdtempSync(path.join(options.parent ?? tmpdir(), 'vouch-software-'));
  const clock = new FakeClock(Math.floor(Date.now() / 1000) * 1000);
  const root = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const rootDer = caCertificate(root.publicKey, root, 'Test Root', undefined, clock);
  const first = tokenOf(root, rootDer, 'Test Issuer', clock);
  const second = hasStandby ? tokenOf(root, rootDer, 'Standby Issuer', clock) : undefined;
  const tokens = second ? [first, second] : [first];
  const { issuerDer, signer } = first;
  const logKeys = tokens.map(({ logKey }) => logKey);
  const identity = {
    stateId: randomBytes(16).toString('hex'),
    trustDomain,
    logOrigin: `${trustDomain}/vouch-log`,
    serialPrefix: 0x2a,
    shardCount: 16,
    createdAtMs: clock.now(),
  };
  const store = createSqliteStore(path.join(folder, 'vouch.db'), identity);
  const tree = new TileTree(openFileTiles(path.join(folder, 'log')), 0, (from, to) =>
    store.leafHashes(from, to),
  );
  const members = tokens.map((token) => ({
    issuerKeyIds: [caOf(token.issuerDer).keyId],
    signer: token.signer,
  }));
  const late: { sequencer?: Sequencer } = {};
  const group = signerGroup(members, { onIntegrityFailure: (error) => late.sequencer?.halt(error) });
  const sequencer = new Sequencer({
    store,
    signer: second ? group : signer,
    tree,
    logKeys,
    limits: options.limits ?? {},
  });
  late.sequencer = sequencer;
  const clockGuard = new ClockGuard(clock, store.clockMark(), 'boot');
  const issuer = issuerOf({ certificateDer: issuerDer, algorithm: 'ecdsa-sha256' });
  const ceremony = (event: string, body: { readonly [member: string]: Json }): LeafDraft =>
    recordLeaf('authority', clock.now(), { event, ...body });
  await sequencer.record({ kind: 'operator', leaf: ceremony('initialized', identity) });
  for (const [kind, der, algorithm] of [
    ['root', rootDer, 'ecdsa-sha384'],
    ...tokens.map((token) => ['issuer', token.issuerDer, 'ecdsa-sha256'] as const),
  ] as const) {
    const { keyId } = caOf(der);
    const tbsSha256 = hash('sha256', parseCertificate(der).tbs, 'hex');
    const certificateSha256 = hash('sha256', der, 'hex');
    await sequencer.record({ kind: 'operator', leaf: ceremony('to-be-signed', { kind, tbsSha256 }) });
    await sequencer.record({
      kind: 'authority',
      leaf: ceremony('created', {
        ...{ kind, keyId, ckaId: '01', state: 'active', certificateSha256 },
        ...(options.firstVersion ? {} : { algorithm }),
      }),
      authority: { keyId, kind, state: 'active', algorithm, certificateDer: der },
    });
  }
  await recordStatement(sequencer, root.privateKey, rootDer, logKeys, clock);
  const settings = { trustDomain, publicationUrl, shardCount: 16, serialPrefix: 0x2a, random: randomBytes };
  const standby = second && {
    signer: second.signer,
    issuer: issuerOf({ certificateDer: second.issuerDer, algorithm: 'ecdsa-sha256' }),
  };
  const takeover =
    standby &&
    new Takeover({
      ...{ first: issuer, standby: standby.issuer, clock, afterMs: takeOverAfterMs },
      life: (keyId) => (group.status(keyId).state === 'usable' ? 0 : undefined),
      changed: () => undefined,
    });
  const issuance = new Issuance({
    sequencer,
    clockGuard,
    issuers: takeover ?? soleIssuer(issuer),
    settings,
  });
  return {
    ...{ standby, takeover, logKeys },
    ...{ folder, clock, store, signer, tree, sequencer, clockGuard, issuance, issuer, issuerDer, rootDer },
    close: async () => {
      await sequencer.close();
      await store.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Registers an identity with a join token; returns both. */
export async function registered(
  authority: SoftwareAuthority,
  name = 'orders',
  options: { uses?: number; dnsNames?: string[] } = {},
): Promise<{ entry: RegistrationEntry; tokenId: string; secretSha256: Buffer }> {
  const id = randomBytes(6).toString('hex');
  const nowMs = authority.clock.now();
  const tokenId = `t_${id}`;
  const entry: RegistrationEntry = {
    entryId: `e_${id}`,
    spiffeId: parseSpiffeId(`spiffe://${trustDomain}/${name}`),
    parentId: undefined,
    hint: '',
    selectors: [{ type: 'join_token', value: tokenId }],
    dnsNames: options.dnsNames ?? [`${name}.test.example`],
    ipAddresses: [],
    allowedClients: [],
    profile: 'default',
    lifetimeSeconds: undefined,
    version: 1,
    suspendedAtMs: undefined,
    createdAtMs: nowMs,
  };
  const secretSha256 = randomBytes(32);
  const { entryId, spiffeId, profile } = entry;
  const selectors = [{ type: 'join_token', value: tokenId }];
  const lists = { selectors, dnsNames: [...entry.dnsNames], ipAddresses: [], allowedClients: [] };
  const names = { tokenId, entryId, spiffeId, profile, ...lists };
  await authority.sequencer.record({
    kind: 'token',
    leaf: recordLeaf('token', nowMs, {
      ...{ event: 'created', operator: 'uid:0', ...names, uses: options.uses ?? 1, cidrs: [] },
      ...{ expiresAtMs: nowMs + 600_000, secretSha256: secretSha256.toString('hex') },
    }),
    entry,
    secretSha256,
    token: {
      tokenId,
      entryId: entry.entryId,
      usesAllowed: options.uses ?? 1,
      cidrs: [],
      expiresAtMs: nowMs + 600_000,
      createdAtMs: nowMs,
      createdBy: 'uid:0',
    },
  });
  return { entry, tokenId, secretSha256 };
}

/** A request to issue for an entry, with a fresh key unless one is given. */
export function requestFor(
  entry: RegistrationEntry,
  tokenId: string | undefined,
  publicKey: PublicKeyInfo = freshKey(),
): IssueRequest {
  return {
    names: entry,
    publicKey,
    profile: defaultProfile,
    lifetimeSeconds: undefined,
    entry: { entryId: entry.entryId, version: entry.version },
    tokenId,
    predecessor: undefined,
    decision: { kind: 'enrollment', entry: entry.entryId, ...(tokenId ? { evidence: { tokenId } } : {}) },
  };
}

export function freshKey(): PublicKeyInfo {
  return importPublicKey(spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey));
}

async function recordStatement(
  sequencer: Sequencer,
  rootKey: KeyObject,
  rootDer: Buffer,
  logKeys: LogKey[],
  clock: FakeClock,
): Promise<void> {
  const content = {
    trustDomain,
    sequence: 1,
    notAfterMs: clock.now() + 86_400_000,
    logKeys,
    publicationUrls: [publicationUrl],
  };
  const input = statementSigningInput(content, caOf(rootDer).keyId, 'ES384');
  const signature = sign('sha384', Buffer.from(input), { key: rootKey, dsaEncoding: 'ieee-p1363' });
  const statement = assembleStatement(input, signature);
  const announced = { event: 'to-be-signed', kind: 'statement', tbsSha256: hash('sha256', input, 'hex') };
  const made = { event: 'statement', sequence: 1, sha256: hash('sha256', statement, 'hex') };
  await sequencer.record({ kind: 'operator', leaf: recordLeaf('authority', clock.now(), announced) });
  await sequencer.record({
    kind: 'statement',
    leaf: recordLeaf('authority', clock.now(), made),
    sequence: 1,
    statement,
  });
}

function spkiOf(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}

interface KeyPair {
  privateKey: KeyObject;
  publicKey: KeyObject;
}

function caCertificate(
  subject: KeyObject,
  signer: KeyPair,
  name: string,
  issuerDer: Buffer | undefined,
  clock: FakeClock,
): Buffer {
  const nowSeconds = Math.floor(clock.now() / 1000);
  const info = importPublicKey(spkiOf(subject));
  const signerKeyId = importPublicKey(spkiOf(signer.publicKey)).keyId;
  const subjectName = rdnName({ commonName: name });
  const tbs = buildCertificateTbs({
    serial: newSerial(0x2a, randomBytes),
    algorithm: 'ecdsa-sha384',
    issuerName: issuerDer ? caOf(issuerDer).issuerName : subjectName,
    subjectName,
    notBeforeSeconds: nowSeconds - 60,
    notAfterSeconds: nowSeconds + 90 * 24 * 3600,
    spki: info.spki,
    uris: [`spiffe://${trustDomain}`],
    dnsNames: [],
    ipAddresses: [],
    authorityKeyId: signerKeyId,
    subjectKeyId: info.keyId,
    ca: issuerDer ? { pathLength: 0 } : {},
    crlUrls: issuerDer ? [`${publicationUrl}/crl/${signerKeyId}.crl`] : [],
  });
  return assembleSigned(tbs, 'ecdsa-sha384', sign('sha384', tbs, signer.privateKey));
}
