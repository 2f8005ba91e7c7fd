// I5 CRL truth: what is revoked and unexpired stands on one shard and on the full CRL; numbers and times only rise; an
// entry leaves after one scheduled CRL past its certificate's end; what breaks this is not published.
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { newSerial, type Serial } from '../../src/core/serial.ts';
import { type Candidate, publishGate } from '../../src/revocation/publish-gate.ts';
import { CrlPublisher, type CrlTiming, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { deltaScope, fullScope } from '../../src/revocation/revoked-lists.ts';
import { shardOf } from '../../src/core/publication.ts';
import { crlLeaf } from '../../src/sequencer/record.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { type ParsedCrl, splitCrl } from '../../src/x509/crl.ts';
import type { RevocationRecord } from '../../src/store/records.ts';
import {
  buildCrlTbs,
  type CrlBytes,
  type CrlTemplate,
  encodeRevoked,
  unsplitCrl,
} from '../../src/x509/crl-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import { readPublished } from '../support/crl-bytes.ts';
import { bendRevocations } from '../support/bent-revocations.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { becomes } from './support/refusal.ts';

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let revocation: Revocation;
let published: PublishedCrl[];
let alarms: string[];

async function open(timing: Partial<CrlTiming> = {}): Promise<void> {
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0, ...timing },
    publish: (crl) => published.push(crl),
    alarm: (scope, problems) => alarms.push(`${scope}: ${problems.join()}`),
  });
  await publisher.start();
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
}

async function begin(): Promise<void> {
  authority = await softwareAuthority();
  published = [];
  alarms = [];
}

async function end(): Promise<void> {
  await publisher.close();
  await authority.close();
}

async function issue(
  name = randomBytes(4).toString('hex'),
): Promise<{ serial: Serial; der: Buffer; notAfterMs: number }> {
  const { entry, tokenId } = await registered(authority, name);
  const { der, record } = await authority.issuance.issue(requestFor(entry, tokenId));
  return { der, serial: record.serial, notAfterMs: record.notAfterMs };
}

function revoke(serial: Serial, reason: 'superseded' | 'keyCompromise' = 'superseded') {
  return revocation.revoke({ by: 'serial', serial, only: false }, reason, 'uid:0');
}

function full() {
  const found = publisher.current().find((one) => one.scope === fullScope);
  if (!found) throw new Error('no full CRL');
  return readPublished(found);
}

/** Publishes everything by the schedule and waits for it. */
async function scheduled(): Promise<void> {
  const before = full().crlNumber;
  const count = published.length;
  publisher.publishAll(true);
  expect(await becomes(() => full().crlNumber !== before && published.length >= count + 18)).toBe(true);
}

/** True where a restart would find this CRL with its signature. */
function isStored({ scope, crlNumber }: PublishedCrl): boolean {
  const stored = authority.store.lastCrls(authority.issuer.keyId).find((row) => row.scope === scope);
  return stored !== undefined && stored.crlNumber >= crlNumber;
}

const started = () => becomes(() => publisher.current().length === 18);

describe('whatever happens', () => {
  type Op = { kind: 'issue' | 'revoke' | 'schedule' | 'restart' } | { kind: 'pass'; seconds: number };
  const op: fc.Arbitrary<Op> = fc.oneof(
    { weight: 3, arbitrary: fc.constant<Op>({ kind: 'issue' }) },
    { weight: 4, arbitrary: fc.constant<Op>({ kind: 'revoke' }) },
    {
      weight: 3,
      arbitrary: fc.integer({ min: 1, max: 2500 }).map((seconds): Op => ({ kind: 'pass', seconds })),
    },
    { weight: 2, arbitrary: fc.constant<Op>({ kind: 'schedule' }) },
    { weight: 1, arbitrary: fc.constant<Op>({ kind: 'restart' }) },
  );

  test('every CRL follows from the one before, and together they tell all that is revoked', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(op, { minLength: 10, maxLength: 16 }), async (ops) => {
        await begin();
        const history = new History();
        await open();
        await started();
        const live: { serial: Serial; der: Buffer; notAfterMs: number }[] = [];
        for (const step of ops) {
          if (step.kind === 'issue') live.push(await issue());
          else if (step.kind === 'pass') authority.clock.pass(step.seconds * 1000);
          else if (step.kind === 'schedule') await scheduled();
          else if (step.kind === 'restart') {
            expect(await becomes(() => publisher.current().every(isStored))).toBe(true);
            await publisher.close();
            await open();
          } else await revokeNext(live, history);
          history.check(published.splice(0));
          history.checkCoverage(publisher.current());
        }
        expect(alarms).toEqual([]);
        await end();
      }),
      { numRuns: 4, endOnFailure: true },
    );
  }, 60_000);

  async function revokeNext(live: { serial: Serial; der: Buffer; notAfterMs: number }[], history: History) {
    const next = live.shift();
    if (!next || next.notAfterMs < authority.clock.now()) return;
    const atMs = authority.clock.now();
    history.revoked.set(next.serial, { ...next, atMs });
    expect(await revoke(next.serial)).toMatchObject({ published: true, revoked: [{ serial: next.serial }] });
  }

  /** All that was ever published and revoked, and what must hold between any two. */
  class History {
    readonly revoked = new Map<Serial, { atMs: number; notAfterMs: number; der: Buffer }>();
    readonly #last = new Map<string, ParsedCrl>();
    readonly #numbers = new Set<bigint>();
    readonly #dates = new Map<Serial, number>();
    readonly #mayLeave = new Set<Serial>();

    check(crls: readonly PublishedCrl[]): void {
      for (const one of crls) {
        const { scope, url } = one;
        const crl = readPublished(one);
        const before = this.#last.get(scope);
        const number = crl.crlNumber ?? -1n;
        // What a restart serves again is the very same CRL; the base of deltas was the full one.
        if (before?.der.equals(crl.der) || scope === 'base') continue;
        if (scope === deltaScope) {
          this.#delta(crl, before);
          this.#last.set(scope, crl);
          continue;
        }
        expect(this.#numbers.has(number), 'one counter for the issuer').toBe(false);
        this.#numbers.add(number);
        expect(number >= BigInt(crl.thisUpdateSeconds) * 1000n, 'not below Unix milliseconds').toBe(true);
        expect(crl.thisUpdateSeconds * 1000).toBeLessThanOrEqual(authority.clock.now());
        expect(crl.idp?.urls ?? []).toEqual(scope === fullScope ? [] : [url]);
        if (before) this.#succeeds(crl, before);
        this.#entries(crl);
        this.#last.set(scope, crl);
        const row = authority.store.crls().find((one) => one.crlNumber === number);
        if (row?.scheduled) this.#stood(crl);
      }
    }

    /** Every unexpired revocation is on the full CRL and on its own shard's, and on no other. */
    checkCoverage(current: readonly PublishedCrl[]): void {
      const whole = current.filter(({ scope }) => scope !== deltaScope);
      const lists = whole.map((one) => ({ url: one.url, crl: readPublished(one) }));
      for (const [serial, { der, notAfterMs }] of this.revoked) {
        const on = lists.filter(({ crl }) => crl.has(serial)).map(({ url }) => url);
        const [shardUrl = ''] = parseCertificate(der).crlUrls;
        const fullUrl = `${publicationUrl}/crl/${authority.issuer.keyId}.crl`;
        if (notAfterMs >= authority.clock.now()) expect(on.sort()).toEqual([fullUrl, shardUrl].sort());
        else for (const url of on) expect([fullUrl, shardUrl]).toContain(url);
      }
    }

    /** Base and delta say what the full CRL of that moment did, or would have. */
    #delta(crl: ParsedCrl, before: ParsedCrl | undefined): void {
      expect((crl.crlNumber ?? -1n) > (before?.crlNumber ?? -1n), 'numbers rise').toBe(true);
      expect((crl.deltaBase ?? -1n) <= (crl.crlNumber ?? -1n)).toBe(true);
      expect(crl.idp).toBeUndefined();
      this.#entries(crl);
      const full = this.#last.get(fullScope);
      if (full?.crlNumber !== crl.crlNumber) return;
      const base = published.concat(publisher.current()).find((one) => one.crlNumber === crl.deltaBase);
      if (!base) return;
      const told = new Map(
        [...readPublished(base).revoked(), ...crl.revoked()].map((one) => [one.serial, one]),
      );
      const standing = [...told.values()].filter(({ reason }) => reason !== 'removeFromCRL');
      expect(standing.map(({ serial }) => serial).sort()).toEqual(
        [...full!.revoked()].map(({ serial }) => serial),
      );
    }

    #succeeds(crl: ParsedCrl, before: ParsedCrl): void {
      expect((crl.crlNumber ?? -1n) > (before.crlNumber ?? -1n), 'numbers rise').toBe(true);
      expect(crl.thisUpdateSeconds).toBeGreaterThan(before.thisUpdateSeconds);
      expect(crl.nextUpdateSeconds).toBeGreaterThanOrEqual(before.nextUpdateSeconds);
      for (const { serial } of before.revoked())
        if (!crl.has(serial)) expect(this.#mayLeave.has(serial), `${serial} leaves`).toBe(true);
    }

    #entries(crl: ParsedCrl): void {
      for (const { serial, dateSeconds } of crl.revoked()) {
        const known = this.#dates.get(serial);
        const atSeconds = Math.floor((this.revoked.get(serial)?.atMs ?? 0) / 1000);
        if (known === undefined) expect(dateSeconds).toBe(Math.min(atSeconds, crl.thisUpdateSeconds));
        else expect(dateSeconds, 'a revocation date is fixed').toBe(known);
        this.#dates.set(serial, dateSeconds);
      }
    }

    #stood(crl: ParsedCrl): void {
      for (const { serial } of crl.revoked())
        if (crl.thisUpdateSeconds * 1000 > (this.revoked.get(serial)?.notAfterMs ?? Infinity))
          this.#mayLeave.add(serial);
    }
  }
});

describe('the publish gate', () => {
  let base: Candidate;
  let before: ParsedCrl;
  let entries: { serial: Serial; dateSeconds: number; reason: 'superseded' }[];
  let stranger: Serial;

  beforeAll(async () => {
    await begin();
    await open();
    await started();
    const [a, b, c] = await Promise.all([issue(), issue(), issue()]);
    if (!a || !b || !c) throw new Error('three certificates');
    stranger = c.serial;
    await revoke(a.serial);
    await revoke(b.serial);
    const previous = publisher.current().find((one) => one.scope === fullScope);
    if (!previous) throw new Error('a full CRL');
    before = readPublished(previous);
    entries = [...before.revoked()].map((one) => ({ ...one, reason: 'superseded' as const }));
    base = {
      tbs: unsplitCrl(Buffer.alloc(0)),
      scope: fullScope,
      issuer: authority.issuer,
      shardCount: 16,
      url: previous.url,
      deltaUrl: `${publicationUrl}/crl/${authority.issuer.keyId}/delta.crl`,
      previous: { ...previous, list: previous.der.list, deltaBase: undefined },
      base: undefined,
      store: authority.store,
      coversTreeSize: authority.store.treeSize(),
      nowMs: authority.clock.now(),
    };
  });
  afterAll(end);

  type Bend = Partial<CrlTemplate> & { entries?: typeof entries };

  /** A CRL that follows the previous one, but for what is bent. */
  function bent({ entries: listed = entries, ...template }: Bend): Buffer {
    return buildCrlTbs({
      algorithm: authority.issuer.algorithm,
      issuerName: authority.issuer.issuerName,
      thisUpdateSeconds: before.thisUpdateSeconds + 1,
      nextUpdateSeconds: before.nextUpdateSeconds + 1,
      authorityKeyId: authority.issuer.keyId,
      crlNumber: (before.crlNumber ?? 0n) + 100n,
      freshestUrl: 'idpUrl' in template || 'deltaBase' in template ? undefined : base.deltaUrl,
      revoked: listed.toSorted((a, b) => (a.serial < b.serial ? -1 : 1)).map(encodeRevoked),
      ...template,
    });
  }

  async function problemsOf(tbs: Buffer, of: Partial<Candidate> = {}): Promise<string> {
    return (await publishGate([{ ...base, tbs: inPieces(tbs), ...of }])).join();
  }

  function inPieces(tbs: Buffer): CrlBytes {
    try {
      return splitCrl(tbs);
    } catch {
      return unsplitCrl(tbs);
    }
  }

  /** The store's answers, bent. */
  function storeWith(bend: (record: RevocationRecord) => RevocationRecord): Candidate['store'] {
    const { store } = authority;
    return {
      revocation: (...args) => {
        const record = store.revocation(...args);
        return record && bend(record);
      },
      revocationEvents: (...args) => store.revocationEvents(...args).map(bend),
      revocationsAfter: (...args) => store.revocationsAfter(...args).map(bend),
    };
  }

  test('lets out what is true', async () => {
    expect(await problemsOf(bent({}))).toBe('');
    expect(await problemsOf(bent({}), { previous: undefined })).toBe('');
  });

  const lies: [string, () => Bend, RegExp][] = [
    ['a list without a revoked one', () => ({ entries: entries.slice(1) }), /missing|too early/],
    ['an empty list', () => ({ entries: [] }), /missing|too early/],
    [
      'one that nobody revoked',
      () => ({ entries: [...entries, { ...entries[0]!, serial: stranger }] }),
      /does not belong/,
    ],
    ['one twice', () => ({ entries: [...entries, entries[0]!] }), /twice/],
    [
      'a later date',
      () => ({ entries: entries.map((one) => ({ ...one, dateSeconds: one.dateSeconds + 1 })) }),
      /date/,
    ],
    [
      'an earlier date than before',
      () => ({ entries: entries.map((one) => ({ ...one, dateSeconds: one.dateSeconds - 1 })) }),
      /date/,
    ],
    [
      'another reason',
      () => ({ entries: entries.map((one) => ({ ...one, reason: 'keyCompromise' as 'superseded' })) }),
      /reason/,
    ],
    ['the same number again', () => ({ crlNumber: before.crlNumber ?? 0n }), /number/],
    ['a lower number', () => ({ crlNumber: (before.crlNumber ?? 0n) - 1n }), /number/],
    ['the same thisUpdate again', () => ({ thisUpdateSeconds: before.thisUpdateSeconds }), /thisUpdate/],
    [
      'a thisUpdate in the future',
      () => ({ thisUpdateSeconds: Math.floor(base.nowMs / 1000) + 1 }),
      /future/,
    ],
    ['a nextUpdate that falls', () => ({ nextUpdateSeconds: before.nextUpdateSeconds - 1 }), /nextUpdate/],
    ['a nextUpdate before thisUpdate', () => ({ nextUpdateSeconds: before.thisUpdateSeconds }), /nextUpdate/],
    ['another issuer', () => ({ issuerName: rdnName({ commonName: 'Evil' }) }), /issuer/],
    ['another authority key id', () => ({ authorityKeyId: 'ab'.repeat(20) }), /key id/],
    ['a shard as if it were the full one', () => ({ idpUrl: base.url }), /distribution point/],
  ];
  test.each(lies)('[guard] holds back %s', async (_name, bend, why) => {
    expect(await problemsOf(bent(bend()))).toMatch(why);
  });

  test('holds back a cut CRL, and bytes that are none', async () => {
    expect(await problemsOf(bent({}).subarray(0, -1))).toMatch(/parse/);
    expect(await problemsOf(Buffer.from('3000', 'hex'))).toMatch(/parse/);
  });

  test('[guard] holds back what no predecessor tells of: a revocation that is missing, another date or reason', async () => {
    const first = { previous: undefined };
    expect(await problemsOf(bent({ entries: entries.slice(1) }), first)).toMatch(/is missing/);
    const bend = (change: object) => bent({ entries: entries.map((one) => ({ ...one, ...change })) });
    expect(await problemsOf(bend({ dateSeconds: 1_600_000_000 }), first)).toMatch(/another date/);
    expect(await problemsOf(bend({ reason: 'keyCompromise' }), first)).toMatch(/another date or reason/);
  });

  test('[guard] holds back a list without an unexpired one, though the store says that it may leave', async () => {
    const store = { ...storeWith((record) => ({ ...record, mayLeave: true })), revocationsAfter: () => [] };
    const less = bent({ entries: entries.slice(1) });
    expect(await problemsOf(less, { store })).toMatch(/too early/);
    const end = authority.store.revocation(authority.issuer.keyId, entries[0]!.serial)!.notAfterMs;
    expect(await problemsOf(less, { store, nowMs: end + 1 })).toBe('');
  });

  test('[guard] holds back what the lint rules for CRLs forbid', async () => {
    const late = entries.map((one) => ({ ...one, dateSeconds: before.thisUpdateSeconds + 2 }));
    expect(await problemsOf(bent({ entries: late }))).toMatch(/dated after thisUpdate/);
    const down = entries.map(encodeRevoked).toReversed();
    expect(await problemsOf(bent({ revoked: down }))).toMatch(/do not rise/);
  });

  test('[guard] holds back a shard with the entries of another, or under the address of another', async () => {
    const shard = String((shardOf(entries[0]!.serial, 16) + 1) % 16);
    const url = `${publicationUrl}/crl/${authority.issuer.keyId}/${shard}.crl`;
    const own = entries.filter(({ serial }) => String(shardOf(serial, 16)) === shard);
    const problems = (bend: Bend, more: Partial<Candidate> = {}) =>
      problemsOf(bent(bend), { scope: shard, url, previous: undefined, ...more });
    expect(await problems({ idpUrl: url, entries: own })).toBe('');
    expect(await problems({ idpUrl: url })).toMatch(/does not belong/);
    expect(await problems({ entries: own })).toMatch(/distribution point/);
    expect(await problems({ idpUrl: `${url}x`, entries: own })).toMatch(/distribution point/);
    // Where a serial belongs follows from the serial: no column of the store says otherwise.
    const moved = storeWith((record) => ({ ...record, shard: Number(shard) }));
    expect(await problems({ idpUrl: url }, { store: moved })).toMatch(/does not belong/);
  });

  test('[guard] holds back one whose serial nobody ever issued', async () => {
    const invented = newSerial(0x2a, randomBytes);
    const tbs = bent({ entries: [...entries, { ...entries[0]!, serial: invented }] });
    expect(await problemsOf(tbs)).toMatch(/does not belong/);
  });
});

describe('the publisher', () => {
  beforeEach(begin);
  afterEach(end);

  test('a burst does not run into the future: past its budget a publication waits for the next second', async () => {
    await open({ backdateSeconds: 2 });
    await started();
    const serials = await Promise.all(Array.from({ length: 5 }, () => issue()));
    const nowSeconds = Math.floor(authority.clock.now() / 1000);
    for (const { serial } of serials.slice(0, 2)) await revoke(serial);
    expect(full().thisUpdateSeconds).toBe(nowSeconds);
    const waiting = revoke(serials[2]?.serial ?? serials[0]!.serial);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(full().thisUpdateSeconds).toBe(nowSeconds);
    authority.clock.pass(1000);
    expect(await waiting).toMatchObject({ published: true });
    expect(full().thisUpdateSeconds).toBe(nowSeconds + 1);
    for (const crl of published)
      expect(readPublished(crl).thisUpdateSeconds * 1000).toBeLessThanOrEqual(authority.clock.now());
  });

  test('[guard] an entry does not leave by being asked to: the store knows what it stood on', async () => {
    await open();
    await started();
    const { serial, notAfterMs } = await issue();
    await revoke(serial);
    const { issuer, store } = authority;
    const leaves = async () => {
      await store.releaseExpired(issuer.keyId, [serial]);
      return store.revocation(issuer.keyId, serial)?.mayLeave;
    };
    expect(await leaves(), 'unexpired').toBe(false);
    authority.clock.pass(notAfterMs - authority.clock.now() + 1000);
    await revoke((await issue()).serial);
    expect(await leaves(), 'expired, but no scheduled CRL since').toBe(false);
    await scheduled();
    expect(await leaves(), 'on a scheduled CRL, whose thisUpdate is before its end').toBe(false);
  });

  test('[guard] a CRL number that does not rise is not even recorded', async () => {
    await open();
    await started();
    expect(await becomes(() => publisher.current().every(isStored))).toBe(true);
    await publisher.close();
    const { issuer, sequencer, store } = authority;
    const last = store.lastCrlNumber(issuer.keyId);
    const record = (scope: string, crlNumber: bigint) => {
      const tbs = unsplitCrl(randomBytes(40));
      const crl = {
        ...{ issuerKeyId: issuer.keyId, scope, crlNumber, thisUpdateSeconds: 1, nextUpdateSeconds: 2 },
        ...{ scheduled: false, base: false, coversTreeSize: 0, tbs },
      };
      const leaf = crlLeaf(authority.clock.now(), issuer.keyId, {
        scope,
        crlNumber,
        tbsSha256: randomBytes(32),
      });
      return sequencer.record({ kind: 'crl', leaf, crl, datesFixed: [] }).then(
        () => 'recorded',
        (error: unknown) => (error instanceof VouchError ? error.code : String(error)),
      );
    };
    const ofScope = store.lastCrls(issuer.keyId).find((row) => row.scope === '3')?.crlNumber ?? 0n;
    for (const number of [0n, 1n, ofScope - 1n, ofScope])
      expect(await record('3', number), `${number}`).toBe('integrity-crl');
    expect(await record('full', 5n)).toBe('integrity-crl');
    expect(store.lastCrlNumber(issuer.keyId)).toBe(last);
  });

  /** The store's answers with another reason for one serial, until the returned function is called. */
  function misrecorded(serial: Serial): () => void {
    return bendRevocations(authority.store, (record) =>
      record.serial === serial ? { ...record, reason: 'affiliationChanged' } : record,
    );
  }

  test('[guard] what the gate holds back leaves the one before served, alarms, and is tried again', async () => {
    await open();
    await started();
    const { serial } = await issue();
    const other = await issue();
    await revoke(serial);
    const before = full().der;
    const truth = misrecorded(other.serial);
    const waiting = revoke(other.serial);
    expect(await becomes(() => alarms.some((alarm) => alarm.includes('not published')), 3000)).toBe(true);
    expect(full().der.equals(before)).toBe(true);
    truth();
    expect(await waiting).toMatchObject({ published: true });
    expect([full().has(serial), full().has(other.serial)]).toEqual([true, true]);
  });

  test('[guard] what the gate holds back is neither logged nor signed, and what was served outlives restarts', async () => {
    await open();
    await started();
    const { serial } = await issue();
    await revoke(serial);
    const before = full().der;
    const rows = () => authority.store.crls().filter(({ scope }) => scope === fullScope);
    const stored = rows().map(({ crlNumber }) => crlNumber);
    await publisher.close();
    const truth = misrecorded(serial);
    for (let restart = 0; restart < 2; restart += 1) {
      alarms = [];
      await open();
      expect(full().der.equals(before), 'served at once').toBe(true);
      expect(await becomes(() => alarms.some((alarm) => alarm.includes(serial)), 3000)).toBe(true);
      expect(full().der.equals(before)).toBe(true);
      await publisher.close();
    }
    expect(rows().map(({ crlNumber }) => crlNumber)).toEqual(stored);
    truth();
    await open();
  });

  test('a CRL that was fetchable is what a restart serves, whenever the crash comes', async () => {
    await open();
    await started();
    expect(await becomes(() => publisher.current().every(isStored))).toBe(true);
    const { serial } = await issue();
    published = [];
    const onCrash: boolean[] = [];
    const push = published.push.bind(published);
    published.push = (...crls) => {
      onCrash.push(...crls.map(isStored));
      return push(...crls);
    };
    await revoke(serial);
    expect(onCrash).toEqual([true, true, true]);
  });

  test('a revocation date stays fixed when the commit that carries it fails once and the server restarts', async () => {
    await open();
    await started();
    const { serial } = await issue();
    const commit = authority.store.commitBatch.bind(authority.store);
    let failures = 0;
    authority.store.commitBatch = (mutations, signed) => {
      if (failures > 0 || !mutations.some((one) => one.kind === 'crl')) return commit(mutations, signed);
      failures += 1;
      return Promise.reject(new VouchError('unavailable-store', 'the disk is full'));
    };
    expect(await revoke(serial)).toMatchObject({ published: true });
    expect(failures).toBe(1);
    const date = [...full().revoked()][0]?.dateSeconds;
    expect(await becomes(() => publisher.current().every(isStored))).toBe(true);
    await publisher.close();
    authority.clock.pass(600_000);
    await open();
    onTestFinished(() => publisher.close());
    alarms = [];
    publisher.publishAll(true);
    const number = full().crlNumber;
    expect(await becomes(() => full().crlNumber !== number || alarms.length > 0)).toBe(true);
    expect(alarms).toEqual([]);
    expect([...full().revoked()][0]?.dateSeconds).toBe(date);
  });
});
