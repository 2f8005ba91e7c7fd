// Whoever asks, for whichever entry, with whatever CSR, while operators change what they like: a certificate has the names
// of a living entry of the agent that asked, and no other. What may be issued is decided here a second time, by a model.
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { verifyState } from '../../src/audit/verify-state.ts';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import { Svids } from '../../src/enrollment/svids.ts';
import type { IssuedCertificate } from '../../src/issuance/issue.ts';
import { RevocationEvents } from '../../src/revocation/events.ts';
import { WorkloadEntries } from '../../src/registration/workload-entries.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import { assembleSigned } from '../../src/x509/certificate-tbs.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { buildCsr, caCsrInfo } from '../../src/x509/csr.ts';
import { explicit, integer, sequence } from '../../src/x509/der.ts';
import { emptyName } from '../../src/x509/name.ts';
import { spkiOf } from '../invariants/support/enrollee.ts';
import { type SoftwareAuthority, softwareAuthority, trustDomain } from '../support/software-authority.ts';
import { Agent } from './agent.ts';

let authority: SoftwareAuthority;
let events: RevocationEvents;
/** Happens after a request was checked, before it is committed. */
let meanwhile: (() => Promise<unknown>) | undefined;

beforeAll(async () => {
  authority = await softwareAuthority();
  events = new RevocationEvents({ ...authority, publisher: { add: () => undefined }, shardCount: 16 });
  const submit = authority.sequencer.sign.bind(authority.sequencer);
  authority.sequencer.sign = async (submission) => {
    const happens = meanwhile;
    meanwhile = undefined;
    await happens?.();
    return submit(submission);
  };
});
afterAll(() => authority.close());

const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve }).privateKey;
const rsa = (modulusLength: number) => generateKeyPairSync('rsa', { modulusLength }).privateKey;
const always = (key: KeyObject) => () => key;
/** Those that may have a certificate, once, and those that may not. */
const keys: readonly { make: () => KeyObject; isGood: boolean }[] = [
  ...[() => ec('P-256'), () => ec('P-384'), () => generateKeyPairSync('ed25519').privateKey],
  ...Array.from({ length: 5 }, () => () => ec('P-256')),
  ...[always(ec('P-256')), always(rsa(2048))],
].map((make) => ({ make, isGood: true }));
const badKeys = [ec('secp256k1'), ec('P-521'), rsa(1024)].map((key) => ({
  make: always(key),
  isGood: false,
}));
const bad = new Set(badKeys.map(({ make }) => make()));
const allKeys = [...keys, ...badKeys];
/** Keys that were certified, and those that perhaps were: what came of it was refused. */
const [certified, perhaps] = [new Set<string>(), new Set<string>()];

/** Makes a CSR; true where an honest client may send it for this entry. */
type CsrMaker = (
  key: KeyObject,
  entry: RegistrationEntry,
  others: RegistrationEntry,
) => { csr: Buffer; isHonest: boolean };

const bare = (key: KeyObject): Buffer => {
  const info = sequence(integer(0n), emptyName, spkiOf(key), explicit(0));
  const isEd = key.asymmetricKeyType === 'ed25519';
  const algorithm = isEd ? 'ed25519' : key.asymmetricKeyType === 'rsa' ? 'rsa-pkcs1-sha256' : 'ecdsa-sha256';
  return assembleSigned(info, algorithm, sign(isEd ? null : 'sha256', info, key));
};

const csrMakers: Readonly<Record<string, CsrMaker>> = {
  'asks for nothing': (key) => ({ csr: bare(key), isHonest: true }),
  'asks for its own names': (key, { spiffeId, dnsNames }) => {
    return { csr: buildable(key, { uris: [spiffeId], dnsNames }), isHonest: true };
  },
  'asks for the SPIFFE ID of another': (key, entry, { spiffeId }) => {
    return { csr: buildable(key, { uris: [spiffeId] }), isHonest: spiffeId === entry.spiffeId };
  },
  'asks for a DNS name of another': (key, entry, { dnsNames }) => {
    return {
      csr: buildable(key, { dnsNames }),
      isHonest: dnsNames.every((name) => entry.dnsNames.includes(name)),
    };
  },
  'asks for an address': (key) => ({ csr: buildable(key, { ipAddresses: ['192.0.2.9'] }), isHonest: false }),
  'asks for two URIs': (key, { spiffeId }) => {
    return { csr: buildable(key, { uris: [spiffeId, spiffeId] }), isHonest: false };
  },
  'asks for a reserved name': (key) => {
    return { csr: buildable(key, { uris: [`spiffe://${trustDomain}/vouch/server`] }), isHonest: false };
  },
  'asks for a common name': (key, _entry, { dnsNames: [commonName] }) => {
    // A subject is never looked at: it gives nothing.
    return { csr: buildable(key, { commonName }), isHonest: true };
  },
  'asks for CA rights': (key, { spiffeId }) => {
    const info = caCsrInfo({
      spki: spkiOf(key),
      subjectName: emptyName,
      uri: spiffeId,
      pathLength: undefined,
    });
    const [algorithm, digest] =
      key.asymmetricKeyType === 'ed25519'
        ? (['ed25519', null] as const)
        : (['ecdsa-sha256', 'sha256'] as const);
    return { csr: assembleSigned(info, algorithm, sign(digest, info, key)), isHonest: false };
  },
  "is signed with another's key": (key) => {
    const info = sequence(integer(0n), emptyName, spkiOf(key), explicit(0));
    return { csr: assembleSigned(info, 'ecdsa-sha256', sign('sha256', info, ec('P-256'))), isHonest: false };
  },
  'is no CSR': () => ({ csr: Buffer.from('3003020100', 'hex'), isHonest: false }),
};

/** Of a key that no CSR of ours is built for, the same without names. */
function buildable(key: KeyObject, names: Parameters<typeof buildCsr>[1]): Buffer {
  return bad.has(key) ? bare(key) : buildCsr(key, names);
}

/** What an operator changes; indices wrap around. */
const change = fc.record({
  kind: fc.constantFrom(
    'suspend',
    'suspend',
    'resume',
    'resume',
    'resume',
    'delete',
    'suspend-agent',
    'resume-agent',
    'resume-agent',
    'resume-agent',
    'revoke',
    'revoke-agent',
  ),
  index: fc.nat(1000),
});
type Change = { kind: string; index: number };

const question = fc.record({
  agent: fc.nat(1000),
  /** Mostly one of the agent's own. */
  entry: fc.nat(1000),
  isOwn: fc.integer({ min: 0, max: 3 }).map((value) => value > 0),
  other: fc.nat(1000),
  key: fc.nat(allKeys.length - 1),
  csr: fc.oneof(
    { weight: 3, arbitrary: fc.constant('asks for nothing') },
    { weight: 3, arbitrary: fc.constantFrom(...Object.keys(csrMakers)) },
  ),
  /** Mostly one that fits. */
  predecessor: fc.option(
    fc.record({ index: fc.nat(1000), isOwn: fc.integer({ min: 0, max: 3 }).map((value) => value > 0) }),
    { freq: 2 },
  ),
  meanwhile: fc.oneof({ weight: 3, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: change }),
});

type Question = typeof question extends fc.Arbitrary<infer Value> ? Value : never;

interface Registered {
  entry: RegistrationEntry;
  state: 'live' | 'suspended' | 'deleted';
}
interface Got {
  issued: IssuedCertificate;
  entryId: string;
  agent: string;
  isEnded: boolean;
}

/** Agents with entries, and what an operator would say of them. */
class World {
  readonly agents: { agent: Agent; state: 'live' | 'suspended' | 'ended' }[] = [];
  readonly registered: Registered[] = [];
  readonly got: Got[] = [];

  static async made(): Promise<World> {
    const world = new World();
    worlds += 1;
    for (const name of ['a', 'b', 'c']) {
      const agent = await Agent.enrolled(authority, `agent-${name}-${worlds}`);
      world.agents.push({ agent, state: 'live' });
      // One identity may be on many hosts.
      for (const workload of [`everywhere-${worlds}`, `web-${name}-${worlds}`])
        world.registered.push({ entry: await agent.workload(workload), state: 'live' });
    }
    return world;
  }

  async happens({ kind, index }: Change): Promise<void> {
    const one = at(this.registered, index);
    const host = at(this.agents, index);
    const leaf = (event: string, entryId: string) =>
      recordLeaf('entry', authority.clock.now(), { event, entryId, operator: 'uid:0' });
    if (kind === 'suspend' && one.state === 'live') {
      await events.suspend(one.entry.entryId, 'uid:0');
      one.state = 'suspended';
    } else if (kind === 'resume' && one.state === 'suspended') {
      const { entryId } = one.entry;
      await authority.sequencer.record({ kind: 'entry-resumed', entryId, leaf: leaf('resumed', entryId) });
      one.state = 'live';
    } else if (kind === 'delete' && one.state !== 'deleted') {
      await new WorkloadEntries(authority, trustDomain).delete(one.entry.entryId, 'uid:0');
      one.state = 'deleted';
    } else if (kind === 'suspend-agent' && host.state === 'live') {
      await events.suspend(host.agent.entry.entryId, 'uid:0');
      host.state = 'suspended';
    } else if (kind === 'resume-agent' && host.state === 'suspended') {
      const { entryId } = host.agent.entry;
      await authority.sequencer.record({ kind: 'entry-resumed', entryId, leaf: leaf('resumed', entryId) });
      host.state = 'live';
    } else if (kind === 'revoke' && this.got.length > 0) {
      const got = at(this.got, index);
      await events.record(
        { ...got.issued.record, signature: undefined },
        { reason: 'superseded', operator: 'uid:0' },
      );
      got.isEnded = true;
    } else if (kind === 'revoke-agent' && index % 5 === 0 && host.state === 'live') {
      await events.record(host.agent.standing, { reason: 'superseded', operator: 'uid:0' });
      host.state = 'ended';
    }
  }

  #predecessor({ predecessor }: Question, { entry }: Registered): Got | undefined {
    if (predecessor === null) return undefined;
    const fitting = predecessor.isOwn ? this.got.filter((one) => one.entryId === entry.entryId) : this.got;
    return fitting.length > 0 ? at(fitting, predecessor.index) : undefined;
  }

  /** Asks, and holds what comes against what the model says. */
  async ask(asked: Question): Promise<void> {
    const host = at(this.agents, asked.agent);
    const own = this.registered.filter(({ entry }) => entry.parentId === host.agent.entry.spiffeId);
    const one = at(asked.isOwn ? own : this.registered, asked.entry);
    const { make, isGood } = at(allKeys, asked.key);
    const key = make();
    const spkiHex = spkiOf(key).toString('hex');
    const { csr, isHonest } = (csrMakers[asked.csr] ?? noMaker)(
      key,
      one.entry,
      at(this.registered, asked.other).entry,
    );
    const before = this.#predecessor(asked, one);
    const { meanwhile: changing } = asked;
    meanwhile = changing === null ? undefined : () => this.happens(changing);
    const predecessor = before?.issued.record.serial;
    // Who is not live any more is refused before this road: `standingOf`, asked at each request. Here only what changes meanwhile.
    const issued =
      host.state === 'live' &&
      (await host.agent.ask(svids, one.entry, { csr, predecessor }).catch(() => undefined));
    const fits =
      before === undefined ||
      (before.entryId === one.entry.entryId && before.agent === host.agent.entry.spiffeId && !before.isEnded);
    const isOwn = host.state === 'live' && own.includes(one) && one.state === 'live';
    const mayBe = isOwn && isGood && isHonest && fits && !certified.has(spkiHex);
    if (!issued) {
      if (changing !== null) perhaps.add(spkiHex);
      else if (!perhaps.has(spkiHex)) expect({ asked, mayBe }).toEqual({ asked, mayBe: false });
      meanwhile = undefined;
      return;
    }
    expect({ asked, mayBe }).toEqual({ asked, mayBe: true });
    certified.add(spkiHex);
    const { entryId } = one.entry;
    this.got.push({ issued, entryId, agent: host.agent.entry.spiffeId, isEnded: false });
    const { uris, dnsNames, ipAddresses, otherNames, subjectName, basicConstraints, spki } = parseCertificate(
      issued.der,
    );
    expect({ uris, dnsNames, ipAddresses, otherNames, isCa: basicConstraints?.isCa }).toEqual({
      ...{
        uris: [one.entry.spiffeId],
        dnsNames: one.entry.dnsNames,
        ipAddresses: [],
        otherNames: 0,
        isCa: false,
      },
    });
    expect(subjectName.equals(emptyName) && spki.equals(spkiOf(key))).toBe(true);
  }
}

let svids: Svids;
let worlds = 0;
const noMaker: CsrMaker = () => {
  throw new Error('no such CSR');
};

function at<Item>(items: readonly Item[], index: number): Item {
  const item = items[index % items.length];
  if (item === undefined) throw new Error('nothing to choose from');
  return item;
}

test('whatever is asked by whomever, for whichever entry, whatever changes meanwhile', async () => {
  svids = new Svids({ ...authority, limits: { atOnce: 10_000, perLifetime: 4 } });
  let issued = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof({ weight: 5, arbitrary: question }, { weight: 1, arbitrary: change }), {
        minLength: 20,
        maxLength: 40,
      }),
      async (steps) => {
        const world = await World.made();
        for (const step of steps) await ('kind' in step ? world.happens(step) : world.ask(step));
        issued += world.got.length;
      },
    ),
    { numRuns: 40 },
  );
  // It would hold of nothing, too.
  expect(issued).toBeGreaterThan(200);
  await authority.sequencer.storeSigned();
  expect(verifyState(authority.store, undefined, () => undefined).problems).toEqual([]);
}, 120_000);
