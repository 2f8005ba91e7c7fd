import { crlEvent } from '../../agent/support/fake-watch.ts';
import { FakeAuthority, seconds } from '../../agent/support/fake-authority.ts';
import { FakeServer, problem } from '../../agent/support/fake-server.ts';
import { FakeEntries } from '../../agent-daemon/support/fake-entries.ts';
import type { Serial } from '../../../src/core/serial.ts';
import type { AgentEntryJson, SvidsAnswerJson } from '../../../src/wire/agent.ts';
import type { Random } from '../../kills/random.ts';
import type { Checker } from './checker.ts';

/** Of certificates, the agent's own among them. */
export const lifetimeMs = 3_600_000;
/** From publication to nextUpdate: longer than any outage here. */
const crlLifeMs = 8 * lifetimeMs;

/** The server of the simulation: the fake one's rules, with what operators do to entries, certificates and CRLs. */
export class SimulatedServer {
  readonly fake: FakeServer;
  readonly entries: FakeEntries;
  readonly #random: Random;
  readonly #checker: Checker;
  readonly #crls = new Map<string, Buffer>();
  #lastEntry = 0;
  #greeting = '';

  constructor(fake: FakeServer, random: Random, checker: Checker) {
    this.fake = fake;
    this.#random = random;
    this.#checker = checker;
    this.entries = new FakeEntries(fake);
    fake.spiffeId = `spiffe://${fake.authority.trustDomain}/agent/one`;
    fake.crlInstead = (keyId) => ({ der: this.#crls.get(keyId) ?? Buffer.alloc(0) });
  }

  static async start(
    random: Random,
    checkerOf: (server: () => SimulatedServer) => Checker,
  ): Promise<SimulatedServer> {
    const fake = await FakeServer.start(new FakeAuthority());
    const server: SimulatedServer = new SimulatedServer(
      fake,
      random,
      checkerOf(() => server),
    );
    await server.publish();
    return server;
  }

  /** What grows with each call and is not looked at. */
  forget(): void {
    for (const list of [this.fake.requests, this.fake.bodies, this.entries.calls, this.entries.streams.asked])
      list.splice(0);
  }

  heartbeat(): void {
    for (const response of this.entries.streams.open) response.write(':\n\n');
  }

  /** New CRLs, of which the streams are told. */
  async publish(): Promise<void> {
    const { authority } = this.fake;
    authority.crlNumber += 1n;
    const nextUpdateSeconds = seconds(Date.now() + crlLifeMs);
    const events = [authority.issuer, authority.root].map(async (ca) => {
      const der = authority.crl(ca, { nextUpdateSeconds, ...(ca === authority.root && { revoked: [] }) });
      this.#crls.set(ca.keyId, der);
      return crlEvent(der, `${authority.publicationUrl}/crl/${ca.keyId}.crl`);
    });
    const all = await Promise.all(events);
    this.#greeting = all.map((event) => `event: crl\ndata: ${JSON.stringify(event)}\n\n`).join('');
    for (const event of all) this.entries.streams.tell('crl', event);
    this.#greet();
  }

  #greet(): void {
    const { streams, sequence } = this.entries;
    streams.greeting = `:\n\nevent: entries\ndata: {"sequence":${sequence}}\n\n${this.#greeting}`;
  }

  /** Creates, changes, suspends, resumes or deletes an entry. */
  changeEntry(shapes: { uids: readonly number[]; paths: readonly string[] }): void {
    const one = this.#random.pick(this.entries.entries);
    const { length } = this.entries.entries;
    if (one === undefined || length < 3 || (length < 10 && this.#random.chance(0.3))) this.#create(shapes);
    else if (one.suspended) this.#change(one, { suspended: false });
    else {
      const what = this.#random.unit();
      if (what < 0.3) this.#change(one, { suspended: true });
      else if (what < 0.55) this.#change(one, { selectors: this.#selectors(shapes) });
      else if (what < 0.7) this.#change(one, { hint: `h${this.#random.unit()}` });
      else this.#delete(one);
    }
    this.#greet();
  }

  #create(shapes: { uids: readonly number[]; paths: readonly string[] }): void {
    this.#lastEntry += 1;
    const entryId = `e_${String(this.#lastEntry).padStart(16, '0')}`;
    // Some have the name of another.
    const other = this.#random.chance(0.3) ? this.#random.pick(this.entries.entries) : undefined;
    const name = other?.spiffeId.split('/').at(-1) ?? `w${this.#lastEntry}`;
    const entry = this.entries.create(name, { entryId, selectors: this.#selectors(shapes) });
    this.#checker.changed(entryId, entry);
  }

  #change(one: AgentEntryJson, over: Partial<AgentEntryJson>): void {
    const changed = this.entries.change(one, over);
    this.#checker.changed(one.entryId, changed.suspended ? undefined : changed);
  }

  #delete(one: AgentEntryJson): void {
    this.entries.delete(one);
    this.#checker.changed(one.entryId, undefined);
  }

  #selectors({ uids, paths }: { uids: readonly number[]; paths: readonly string[] }): string[] {
    const uid = `unix:uid:${this.#random.pick(uids)}`;
    const path = `unix:path:${this.#random.pick(paths)}`;
    return this.#random.chance(0.3) ? [path] : [uid, path];
  }

  /** Revokes a certificate: at once on the CRL, as an operator's order is. */
  async revoke(serial: string): Promise<void> {
    const { authority } = this.fake;
    if (authority.revoked.has(serial as Serial)) return;
    authority.revoke(serial as Serial);
    this.#checker.revoked(serial);
    await this.publish();
  }

  /** A newer bundle, which the streams are told of. */
  async turnBundle(): Promise<void> {
    this.fake.authority.bundleSequence += 1;
    this.entries.streams.tell('bundle', { sequence: this.fake.authority.bundleSequence });
    await this.publish();
  }

  /** Answers to everybody that there is too much to do. */
  beBusy(): void {
    this.entries.away = problem(503, 'unavailable-overloaded', 'busy', { 'retry-after': '2' });
  }

  /** Refuses single certificates. */
  refuseSome(): void {
    const random = this.#random;
    this.entries.refuse = () =>
      random.chance(0.5)
        ? undefined
        : random.chance(0.5)
          ? { code: 'unavailable-overloaded', detail: 'not this one now', retryAfterSeconds: 1 }
          : { code: 'policy-not-now', detail: 'not this one' };
  }

  /** Somebody in between changes what is answered. */
  bendAnswers(): void {
    const random = this.#random;
    this.entries.bendNames = (names) => {
      const what = random.unit();
      if (what < 0.2) names.uris = [`${names.uris[0]}x`];
      else if (what < 0.3) names.dnsNames.push('other.example');
    };
    // All of them are asked for at once.
    for (const one of [...this.entries.entries])
      if (!one.suspended) this.#change(one, { hint: `h${random.unit()}` });
    this.#greet();
    this.entries.bend = (answer) => {
      const what = random.unit();
      if (what < 0.2) return { ...answer, results: swapped(answer.results) };
      if (what < 0.35) return { ...answer, bundle: { ...answer.bundle, spiffe_sequence: 0 } };
      if (what < 0.5) return { ...answer, results: answer.results.toReversed() };
      if (what < 0.6) return { ...answer, authorities: {} };
      return answer;
    };
  }

  behave(): void {
    this.entries.away = undefined;
    this.entries.refuse = undefined;
    this.entries.bend = undefined;
    this.entries.bendNames = undefined;
  }
}

/** Each with the certificate of the next. */
function swapped(results: SvidsAnswerJson['results']): SvidsAnswerJson['results'] {
  const issued = results.filter((one) => 'certificate' in one);
  return results.map((one) => {
    const other = issued[(issued.findIndex((each) => each === one) + 1) % issued.length];
    return 'certificate' in one && other !== undefined ? { ...other, entryId: one.entryId } : one;
  });
}
