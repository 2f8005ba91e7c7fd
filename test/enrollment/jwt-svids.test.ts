// An agent has JWT-SVIDs signed for the entries that name it as their parent, and for no others.
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bundleOf } from '../../src/authority/bundle.ts';
import { recordJwtKeys } from '../../src/authority/jwt-keys.ts';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import { parseSpiffeId, type SpiffeId } from '../../src/core/spiffe-id.ts';
import { JwtSvids } from '../../src/enrollment/jwt-svids.ts';
import { soleIssuer } from '../../src/issuance/issuers.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import type { CertificateStanding } from '../../src/store/records.ts';
import {
  type PairedAuthority,
  pairedAuthority,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';

const id = (name: string): SpiffeId => parseSpiffeId(`spiffe://${trustDomain}/${name}`);
const standingOf = (name: string, over: Partial<CertificateStanding> = {}) =>
  Promise.resolve({ spiffeId: id(name), entryId: `e_${name}`, ...over } as CertificateStanding);
const agentOf = (name: string) => standingOf(name);
const audience = ['payments'];

async function entryOf(
  authority: SoftwareAuthority,
  parentId: SpiffeId | undefined,
): Promise<RegistrationEntry> {
  const entry: RegistrationEntry = {
    entryId: `e_${randomBytes(8).toString('hex')}`,
    ...{ spiffeId: id('web'), parentId, hint: '', selectors: [{ type: 'unix', value: 'uid:1' }] },
    ...{ dnsNames: [], ipAddresses: [], allowedClients: [], profile: 'default', lifetimeSeconds: undefined },
    ...{ version: 1, suspendedAtMs: undefined, createdAtMs: authority.clock.now() },
  };
  const leaf = recordLeaf('entry', entry.createdAtMs, { event: 'created', entryId: entry.entryId });
  await authority.sequencer.record({ kind: 'entry-created', leaf, entry });
  return entry;
}

function jwtSvidsOf(
  authority: SoftwareAuthority,
  issuers = soleIssuer(authority.issuer),
  signer = authority.signer,
) {
  const tokenIssuer = 'https://oidc.test.example';
  const bundle = () =>
    bundleOf({
      rootCertificates: [authority.rootDer],
      ...{ statement: 'jws', statementSequence: 1, jwtKeys: authority.store.jwtKeys(), tokenIssuer },
    });
  const parts = { ...authority, signer, issuance: { issuers }, bundle, tokenIssuer, lifetimeSeconds: 300 };
  return { svids: new JwtSvids(parts), record: () => recordJwtKeys(parts), bundle };
}

describe('JWT-SVIDs', () => {
  let authority: SoftwareAuthority;
  let entry: RegistrationEntry;
  let made: ReturnType<typeof jwtSvidsOf>;

  beforeEach(async () => {
    authority = await softwareAuthority();
    made = jwtSvidsOf(authority);
    await made.record();
    entry = await entryOf(authority, id('agent'));
  });
  afterEach(() => authority.close());

  it("are signed for an agent's own entry, with the key in the bundle", async () => {
    const { token, claims, keyId } = await made.svids.sign({ entryId: entry.entryId, audience }, () =>
      agentOf('agent'),
    );
    expect(made.bundle().json.keys.find(({ use }) => use === 'jwt-svid')).toMatchObject({
      ...{ kid: keyId, kty: 'EC', crv: 'P-256' },
    });
    const payload = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as object;
    const iat = Math.floor(authority.clock.now() / 1000);
    expect(payload).toEqual({
      ...{ iss: 'https://oidc.test.example', sub: entry.spiffeId, aud: audience, iat, exp: iat + 300 },
      jti: claims.tokenId,
    });
  });

  it.each([
    ['of another agent', () => Promise.resolve(entry.entryId), 'other'],
    ['of the workload itself', () => Promise.resolve(entry.entryId), 'web'],
    ["that is not an agent's", async () => (await entryOf(authority, undefined)).entryId, 'agent'],
    ['that there is not', () => Promise.resolve('e_0000000000000000'), 'agent'],
    [
      'that was deleted',
      async () => {
        const { entryId } = entry;
        const leaf = recordLeaf('entry', 1, { event: 'deleted', entryId });
        await authority.sequencer.record({
          kind: 'entry-deleted',
          leaf,
          entryId,
          parentId: entry.parentId,
          atMs: 1,
        });
        return entryId;
      },
      'agent',
    ],
  ])('are refused for an entry %s, all with the same words', async (_which, which, agent) => {
    const entryId = await which();
    await expect(made.svids.sign({ entryId, audience }, () => agentOf(agent))).rejects.toMatchObject({
      code: 'denied-no-entry',
      detail: 'no registration entry of this agent has that id',
    });
    expect(authority.signer.askedJwts).toEqual([]);
  });

  it.each([
    ['a certificate that an agent got for a workload of that name', { agent: id('host') }],
    ['one that has no entry', { entryId: undefined }],
  ])('are not signed for %s', async (_which, over) => {
    const asked = made.svids.sign({ entryId: entry.entryId, audience }, () => standingOf('agent', over));
    await expect(asked).rejects.toMatchObject({ code: 'denied-certificate' });
    expect(authority.signer.askedJwts).toEqual([]);
  });

  const suspend = async () => {
    const { entryId } = entry;
    const leaf = recordLeaf('entry', 1, { event: 'suspended', entryId });
    await authority.sequencer.record({ kind: 'entry-suspended', leaf, entryId, atMs: 1 });
  };

  it('are refused for an entry that is suspended, also where that came while the token signed', async () => {
    const signJwt = authority.signer.signJwt.bind(authority.signer);
    authority.signer.signJwt = async (...args) => {
      const signature = await signJwt(...args);
      await suspend();
      return signature;
    };
    for (const signed of [1, 1]) {
      const asked = made.svids.sign({ entryId: entry.entryId, audience }, () => agentOf('agent'));
      await expect(asked).rejects.toMatchObject({ code: 'denied-suspended' });
      expect(authority.signer.askedJwts).toHaveLength(signed);
    }
  });

  it('are not given out where the agent does not count any more when they are signed', async () => {
    let asked = 0;
    const agent = async () => {
      asked += 1;
      if (asked > 1) throw new Error('revoked meanwhile');
      return agentOf('agent');
    };
    await expect(made.svids.sign({ entryId: entry.entryId, audience }, agent)).rejects.toThrow(/meanwhile/);
  });

  it('do not leave where their signature does not verify (I3)', async () => {
    authority.signer.corrupt = (signature) => Buffer.from(signature).fill(1, 0, 8);
    const asked = made.svids.sign({ entryId: entry.entryId, audience }, () => agentOf('agent'));
    await expect(asked).rejects.toMatchObject({ code: 'integrity-signature' });
  });

  it('need a clock that is not in doubt (I12)', async () => {
    authority.clock.step(3_600_000);
    const asked = made.svids.sign({ entryId: entry.entryId, audience }, () => agentOf('agent'));
    await expect(asked).rejects.toMatchObject({ code: 'policy-clock' });
  });

  it('are not signed by a key that the bundle does not have yet, nor without any', async () => {
    authority.signer.jwtPair = undefined;
    const ask = () => made.svids.sign({ entryId: entry.entryId, audience }, () => agentOf('agent'));
    await expect(ask()).rejects.toMatchObject({ code: 'unavailable-signer', retryAfterSeconds: 1 });
    expect(await made.record()).toBe(false);
    expect(made.bundle().jwtKeys).toHaveLength(1);
  });

  it('of a replaced key: the bundle has the new one, not the old one, and a higher sequence', async () => {
    const before = made.bundle();
    const { jwtPair } = (await softwareKeys()).signer;
    authority.signer.jwtPair = jwtPair;
    expect([await made.record(), await made.record()]).toEqual([true, false]);
    const after = made.bundle();
    expect(after.sequence).toBe(before.sequence + 1);
    expect(after.jwtKeys).toHaveLength(1);
    expect(after.jwtKeys[0]?.keyId).toBe(authority.signer.jwtKey()?.keyId);
    const { token, keyId } = await made.svids.sign({ entryId: entry.entryId, audience }, () =>
      agentOf('agent'),
    );
    expect(keyId).toBe(after.jwtKeys[0]?.keyId);
    expect(token).not.toBe('');
  });

  async function softwareKeys() {
    const other = await softwareAuthority();
    await other.close();
    return other;
  }
});

describe('with two tokens', () => {
  let authority: PairedAuthority;
  beforeEach(async () => void (authority = await pairedAuthority()));
  afterEach(() => authority.close());

  it('both keys stand in the bundle, and whichever token is there signs', async () => {
    const both = {
      jwtKey: (keyId: string) => memberOf(keyId).jwtKey(),
      signJwt: (issuer: string, keyId: string, claims: Parameters<typeof authority.signer.signJwt>[2]) =>
        memberOf(issuer).signJwt(issuer, keyId, claims),
    };
    const away = new Set<string>();
    const memberOf = (keyId: string) => {
      const signer = keyId === authority.issuer.keyId ? authority.signer : authority.standby.signer;
      return away.has(keyId) ? { jwtKey: () => undefined, signJwt: signer.signJwt.bind(signer) } : signer;
    };
    const made = jwtSvidsOf(authority, authority.issuers, both as typeof authority.signer);
    expect(await made.record()).toBe(true);
    const keys = made.bundle().jwtKeys.map(({ keyId }) => keyId);
    expect(keys).toEqual([authority.signer.jwtKey()?.keyId, authority.standby.signer.jwtKey()?.keyId]);
    const { entryId } = await entryOf(authority, id('agent'));
    const sign = async () => (await made.svids.sign({ entryId, audience }, () => agentOf('agent'))).keyId;
    expect(await sign()).toBe(keys[0]);
    away.add(authority.issuer.keyId);
    expect(await sign()).toBe(keys[1]);
    away.add(authority.standby.issuer.keyId);
    await expect(sign()).rejects.toMatchObject({ code: 'unavailable-signer' });
    expect(made.bundle().jwtKeys).toHaveLength(2);
  });
});
