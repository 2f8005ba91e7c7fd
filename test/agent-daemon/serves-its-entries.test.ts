import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readStatus } from '../../src/agent/daemon/status.ts';
import { parseSerial } from '../../src/core/serial.ts';
import { crlEvent } from '../agent/support/fake-watch.ts';
import { startHost } from './support/daemon.ts';
import { limitMs } from '../support/limits.ts';

describe('an agent', () => {
  test('holds a certificate for each of its entries, in one call, and whom to trust', async () => {
    const { authority, entries, start } = await startHost();
    entries.create('web', { dnsNames: ['web.example'], ipAddresses: ['10.0.0.1'], hint: 'w' });
    entries.create('db', {
      selectors: ['unix:uid:2000', 'unix:gid:3'],
      allowedClients: ['spiffe://example.org/web'],
    });
    const agent = start();
    const { svids, trust } = await agent.serves('web', 'db');
    expect(entries.calls).toHaveLength(1);
    const [web, db] = svids;
    expect(web).toMatchObject({
      entryVersion: 1,
      hint: 'w',
      selectors: ['unix:uid:1000'],
      allowedClients: [],
    });
    expect(db).toMatchObject({
      selectors: ['unix:uid:2000', 'unix:gid:3'],
      allowedClients: ['spiffe://example.org/web'],
    });
    const leaf = new X509Certificate(web!.chain[0]!);
    expect(leaf.subjectAltName).toBe('URI:spiffe://example.org/web, DNS:web.example, IP Address:10.0.0.1');
    expect(web!.chain[1]!.equals(authority.issuer.der)).toBe(true);
    expect(web!.keyPkcs8.equals(db!.keyPkcs8)).toBe(false);
    expect(trust).toMatchObject({ trustDomain: 'example.org', sequence: 1, jwtKeys: [] });
    expect(trust.roots[0]!.equals(authority.root.der)).toBe(true);
    expect(trust.issuers.map((der) => der.equals(authority.issuer.der))).toEqual([true]);
    expect(trust.crls).toHaveLength(2);
  });

  test('asks anew where the log is another one: its sequence says nothing of the one before', async () => {
    const { authority, entries, start } = await startHost();
    const web = entries.create('web');
    const agent = start();
    await agent.serves('web');
    await agent.until(() => entries.streams.open.size > 0);
    // A state that was put back, in which as much happened since.
    entries.entries[0] = { ...web, entryId: 'e_00000000000000ff', spiffeId: `${web.spiffeId}-2` };
    Object.assign(authority, { statementSequence: 5, bundleSequence: 5 });
    entries.streams.tell('bundle', { sequence: 5 });
    await agent.until(() => agent.now?.trust.sequence === 5);
    // As a stream begins.
    entries.streams.tell('entries', { sequence: entries.sequence });
    await agent.serves('web-2');
  });

  test('without entries serves whom to trust', async () => {
    const { start } = await startHost();
    const { trust } = await start().serves();
    expect(trust.roots).toHaveLength(1);
  });

  test('is told of a new entry, a changed one and a deleted one, each in less than a second', async () => {
    const { entries, start } = await startHost();
    const web = entries.create('web');
    const agent = start();
    await agent.serves('web');
    await agent.until(() => entries.streams.open.size > 0);
    const within = async (change: () => void, look: () => unknown): Promise<void> => {
      const started = performance.now();
      change();
      await agent.until(() => Boolean(look()));
      expect(performance.now() - started).toBeLessThan(limitMs(1000));
    };
    await within(
      () => void entries.create('db'),
      () => agent.names.length === 2,
    );
    const before = agent.now?.svids[0]?.serial;
    const other = { selectors: ['unix:uid:7'], dnsNames: ['w.example'] };
    let changed = web;
    await within(
      () => void (changed = entries.change(web, other)),
      () => agent.now?.svids[0]?.entryVersion === 2,
    );
    expect(agent.now?.svids[0]).toMatchObject({ selectors: ['unix:uid:7'] });
    expect(agent.now?.svids[0]?.serial).not.toBe(before);
    // The same lineage.
    expect(entries.calls.at(-1)?.[0]?.predecessor).toBe(before);
    await within(
      () => entries.delete(changed),
      () => agent.names.join() === 'db',
    );
    // Not one object was told of twice.
    expect(new Set(agent.changes).size).toBe(agent.changes.length);
  });

  test('a suspended entry is no longer served; resumed it gets a fresh certificate in a lineage of its own', async () => {
    const { entries, start } = await startHost();
    const web = entries.create('web');
    const agent = start();
    await agent.serves('web');
    const suspended = entries.change(web, { suspended: true });
    await agent.serves();
    const { workloads } = agent.daemon;
    expect(workloads.withheld()).toMatchObject([
      { entryId: web.entryId, selectors: web.selectors, why: expect.stringContaining('suspended') as string },
    ]);
    const resumed = entries.change(suspended, { suspended: false });
    await agent.serves('web');
    expect(workloads.withheld()).toEqual([]);
    expect(entries.calls.at(-1)?.[0]?.predecessor).toBeUndefined();
    entries.delete(resumed);
    await agent.serves();
    expect(agent.notices).toEqual([
      `suspended, not served: ${web.spiffeId} (entry ${web.entryId})`,
      `resumed, served with its next certificate: ${web.spiffeId} (entry ${web.entryId})`,
      `no longer an entry of this agent, not served: ${web.spiffeId} (entry ${web.entryId})`,
    ]);
  });

  test('of many that are suspended at once its log has one line', async () => {
    const { entries, start } = await startHost();
    for (let number = 0; number < 12; number += 1) entries.create(`w${number}`, { suspended: true });
    const agent = start();
    await agent.serves();
    expect(agent.notices).toHaveLength(1);
    expect(agent.notices[0]).toMatch(/^suspended, not served: (\S+ \(entry \S+\)(, | and )){3}9 more$/);
  });

  test('one that is refused takes nobody down, and is tried again by itself', async () => {
    const { entries, start } = await startHost();
    const bad = entries.create('bad');
    entries.create('web');
    let refusals = 0;
    entries.refuse = ({ entryId }) => {
      if (entryId !== bad.entryId || refusals >= 2) return undefined;
      refusals += 1;
      return { code: 'unavailable-signer', detail: 'the signer is away' };
    };
    const agent = start();
    await agent.serves('web');
    await agent.serves('bad', 'web');
    expect(refusals).toBe(2);
    expect(entries.calls.flat().filter(({ entryId }) => entryId !== bad.entryId)).toHaveLength(1);
    expect(agent.notices.filter((line) => line.includes('the signer is away'))).toHaveLength(1);
  });

  test('what is revoked is no longer served, and a fresh one in a new lineage is', async () => {
    const { authority, entries, start } = await startHost();
    entries.create('web');
    const agent = start();
    const [before] = (await agent.serves('web')).svids;
    authority.revoke(parseSerial(before!.serial));
    const url = `${authority.publicationUrl}/crl/${authority.issuer.keyId}.crl`;
    await agent.until(() => entries.streams.open.size > 0);
    entries.streams.tell('crl', await crlEvent(authority.crl(), url));
    await agent.until(() => agent.now?.svids[0] && agent.now.svids[0].serial !== before!.serial);
    const [asked] = entries.calls.at(-1)!;
    expect(asked?.predecessor).toBeUndefined();
    expect(
      agent.changes.flatMap(({ svids }) => svids).filter(({ serial }) => serial === before!.serial),
    ).not.toHaveLength(0);
    expect(agent.notices.join('\n')).toContain('REVOKED: spiffe://example.org/web');
  });

  test('of many that are revoked at once its log has one line, and each is withheld as revoked', async () => {
    const { authority, entries, start } = await startHost();
    for (let number = 0; number < 7; number += 1) entries.create(`w${number}`);
    const agent = start();
    await agent.until(() => agent.now?.svids.length === 7);
    const before = agent.now!.svids;
    await agent.until(() => entries.streams.open.size > 0);
    entries.refuse = () => ({ code: 'denied-revoked', detail: 'the certificate to renew is revoked' });
    const whys = new Set<string>();
    const end = agent.daemon.workloads.subscribe(() => {
      for (const { why } of agent.daemon.workloads.withheld()) whys.add(why);
    });
    for (const { serial } of before) authority.revoke(parseSerial(serial));
    const url = `${authority.publicationUrl}/crl/${authority.issuer.keyId}.crl`;
    entries.streams.tell('crl', await crlEvent(authority.crl(), url));
    await agent.until(() => agent.notices.some((line) => line.startsWith('no certificate')));
    end();
    const told = agent.notices.filter((line) => line.startsWith('REVOKED'));
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(
      /^REVOKED: (spiffe:\S+ \(entry \S+, serial [0-9a-f]+\)(, | and )){3}4 more; no longer served$/,
    );
    expect([...whys].join('\n')).toMatch(/^its certificate, serial [0-9a-f]+, is revoked/m);
    expect(agent.notices.filter((line) => line.startsWith('no certificate'))).toEqual([
      expect.stringMatching(/^no certificate for (\S+ \(entry [^)]*\)(, | and )){3}4 more: .* is revoked$/),
    ]);
    expect(agent.daemon.workloads.withheld()[0]?.why).toMatch(
      /^the certificate to renew is revoked \[denied-revoked, /,
    );
  });

  test('its status says what is held and why something is not', async () => {
    const { dir, entries, start } = await startHost();
    const bad = entries.create('bad');
    entries.create('web');
    entries.refuse = ({ entryId }) =>
      entryId === bad.entryId ? { code: 'policy-names', detail: 'no such name' } : undefined;
    const agent = start();
    const { svids } = await agent.serves('web');
    expect(agent.daemon.workloads.withheld()[0]?.why).toMatch(/^no such name \[policy-names, /);
    const status = await agent.until(() => {
      const read = readStatus(dir, Date.now());
      return read.stream && read.cache.savedAt !== null && read;
    });
    expect(status).toMatchObject({
      pid: process.pid,
      identity: { spiffeId: 'spiffe://example.org/agent/one', isExpired: false },
      server: { reachable: true },
      entries: [
        {
          spiffeId: 'spiffe://example.org/bad',
          served: false,
          failure: { code: 'policy-names', detail: 'no such name' },
        },
        { spiffeId: 'spiffe://example.org/web', served: true, serial: svids[0]!.serial, failure: null },
      ],
    });
    expect(readFileSync(join(dir, 'status.json'), 'utf8')).not.toContain('PRIVATE');
  });
});
