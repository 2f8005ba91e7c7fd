import { createHash, randomBytes } from 'node:crypto';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import type { Serial } from '../../src/core/serial.ts';
import { newSerial } from '../../src/core/serial.ts';
import { parseSpiffeId, parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { unsplitCrl } from '../../src/x509/crl-tbs.ts';
import type { LeafDraft, Mutation, MutationOutcome, Store } from '../../src/store/port.ts';
import type { StateIdentity } from '../../src/store/records.ts';

/** One kind of the port's mutations. */
export type Kind<K extends Mutation['kind']> = Extract<Mutation, { kind: K }>;

/** Where the tests' time starts: 2026-12-01T00:00:00Z. */
export const startMs = 1_796_083_200_000;
export const hourMs = 3_600_000;
export const issuerKeyId = '1a'.repeat(20);
export const otherIssuerKeyId = '2b'.repeat(20);
export const nothingSigned = { signatures: [], checkpointNote: undefined };

export const identity: StateIdentity = {
  stateId: 'state-1',
  trustDomain: parseTrustDomain('example.test'),
  logOrigin: 'example.test/vouch-log',
  serialPrefix: 0x2a,
  shardCount: 16,
  createdAtMs: startMs,
};

export function freshSerial(): Serial {
  return newSerial(identity.serialPrefix, randomBytes);
}

export function keyHash(): string {
  return randomBytes(32).toString('hex');
}

export function leafHash(bytes: Buffer): Buffer {
  return createHash('sha256').update(Buffer.of(0)).update(bytes).digest();
}

export function leaf(content: string | Buffer = randomBytes(20)): LeafDraft {
  const bytes = Buffer.from(content);
  return { bytes, hash: leafHash(bytes) };
}

export function entry(over: Partial<RegistrationEntry> = {}): RegistrationEntry {
  const entryId = over.entryId ?? `e_${randomBytes(8).toString('hex')}`;
  return {
    entryId,
    spiffeId: parseSpiffeId('spiffe://example.test/orders'),
    parentId: undefined,
    hint: '',
    selectors: [{ type: 'join_token', value: entryId }],
    dnsNames: ['orders.example.test'],
    ipAddresses: ['192.0.2.7'],
    allowedClients: ['spiffe://example.test/billing/*'],
    profile: 'default',
    lifetimeSeconds: undefined,
    version: 1,
    suspendedAtMs: undefined,
    createdAtMs: startMs,
    ...over,
  };
}

type TokenParts = { entry?: RegistrationEntry; token?: Partial<Kind<'token'>['token']> };

export function tokenMutation(over: TokenParts = {}): Kind<'token'> {
  const of = over.entry ?? entry();
  const tokenId = over.token?.tokenId ?? `t_${randomBytes(8).toString('hex')}`;
  return {
    kind: 'token',
    leaf: leaf(`token ${tokenId}`),
    token: {
      tokenId,
      entryId: of.entryId,
      usesAllowed: 1,
      cidrs: ['192.0.2.0/24', '2001:db8::/32'],
      expiresAtMs: startMs + hourMs,
      createdAtMs: startMs,
      createdBy: 'uid:0',
      ...over.token,
    },
    secretSha256: createHash('sha256').update(tokenId).digest(),
    entry: of,
  };
}

type CertificateParts = Partial<Kind<'certificate'>['certificate']>;

/** A certificate of no entry, as the server's own. */
export function certificateMutation(over: CertificateParts = {}): Kind<'certificate'> {
  const serial = over.serial ?? freshSerial();
  const tbs = Buffer.from(`tbs ${serial}`);
  return {
    kind: 'certificate',
    leaf: leaf(tbs),
    certificate: {
      issuerKeyId,
      serial,
      spiffeId: parseSpiffeId('spiffe://example.test/orders'),
      entryId: undefined,
      tokenId: undefined,
      predecessor: undefined,
      lineage: serial,
      spkiSha256: keyHash(),
      notBeforeMs: startMs - 60_000,
      notAfterMs: startMs + hourMs - 1_000,
      tbs,
      issuedAtMs: startMs,
      decision: '{"profile":"default"}',
      salt: randomBytes(16),
      ...over,
    },
    entryVersion: undefined,
    askedBy: undefined,
    tokenUse: undefined,
  };
}

/** A redemption of a join token, as enrollment commits it. */
export function redemption(
  token: Kind<'token'>,
  over: CertificateParts & { atMs?: number; entryVersion?: number } = {},
): Kind<'certificate'> {
  const { atMs, entryVersion, ...certificate } = over;
  const { tokenId, entryId } = token.token;
  return {
    ...certificateMutation({ entryId, tokenId, spiffeId: token.entry.spiffeId, ...certificate }),
    entryVersion: entryVersion ?? token.entry.version,
    tokenUse: { tokenId, atMs: atMs ?? startMs },
  };
}

/** A renewal of `of` under the same entry, with a fresh key. */
export function renewal(of: Kind<'certificate'>, over: CertificateParts = {}): Kind<'certificate'> {
  const { entryId, tokenId, spiffeId, serial, lineage } = of.certificate;
  return {
    ...certificateMutation({ entryId, tokenId, spiffeId, predecessor: serial, lineage, ...over }),
    entryVersion: of.entryVersion,
  };
}

export function revocationMutation(
  of: { issuerKeyId: string; serial: Serial; notAfterMs: number },
  over: Partial<Kind<'revocation'>['revocation']> & { blockKeySha256?: string } = {},
): Kind<'revocation'> {
  const { blockKeySha256, ...revocation } = over;
  return {
    kind: 'revocation',
    leaf: leaf(`revocation ${of.serial}`),
    revocation: {
      issuerKeyId: of.issuerKeyId,
      serial: of.serial,
      shard: 3,
      revokedAtMs: startMs + 1_000,
      reason: 'superseded',
      operator: 'uid:0',
      salt: randomBytes(16),
      notAfterMs: of.notAfterMs,
      ...revocation,
    },
    blockKeySha256,
  };
}

export function crlMutation(
  over: Partial<Kind<'crl'>['crl']> & { datesFixed?: Kind<'crl'>['datesFixed'] } = {},
): Kind<'crl'> {
  const { datesFixed, ...crl } = over;
  const bytes = randomBytes(24);
  return {
    kind: 'crl',
    leaf: leaf(bytes),
    crl: {
      issuerKeyId,
      scope: 'full',
      crlNumber: BigInt(startMs),
      thisUpdateSeconds: startMs / 1000,
      nextUpdateSeconds: startMs / 1000 + 86_400,
      scheduled: false,
      base: false,
      coversTreeSize: 0,
      tbs: unsplitCrl(bytes),
      ...crl,
    },
    datesFixed: datesFixed ?? [],
  };
}

export function operatorMutation(): Kind<'operator'> {
  return { kind: 'operator', leaf: leaf() };
}

/** Commits one mutation and expects it to stand; its leaf's index. */
export async function committed(store: Store, mutation: Mutation): Promise<number> {
  const outcome = await outcomeOf(store, mutation);
  if (outcome.status !== 'committed') throw new Error(`not committed: ${JSON.stringify(outcome)}`);
  return outcome.leafIndex;
}

/** Commits a CRL and keeps a signature of it; its leaf index. */
export async function signed(store: Store, mutation: Kind<'crl'>): Promise<number> {
  const leafIndex = await committed(store, mutation);
  const signatures = [{ kind: 'crl' as const, leafIndex, signature: randomBytes(8) }];
  await store.storeSigned({ signatures, checkpointNote: undefined });
  return leafIndex;
}

/** Commits one mutation and expects a refusal; its code. */
export async function refused(store: Store, mutation: Mutation): Promise<string> {
  const before = store.treeSize();
  const outcome = await outcomeOf(store, mutation);
  if (outcome.status !== 'refused') throw new Error(`not refused: ${outcome.status}`);
  if (store.treeSize() !== before) throw new Error('a refused mutation left a leaf');
  return outcome.code;
}

export async function outcomeOf(store: Store, mutation: Mutation): Promise<MutationOutcome> {
  const [outcome] = await store.commitBatch([mutation], nothingSigned);
  if (outcome === undefined) throw new Error('no outcome');
  return outcome;
}
