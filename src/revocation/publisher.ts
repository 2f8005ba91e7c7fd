import type { Clock } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { Store } from '../store/port.ts';
import type { CrlRecord, RevocationRecord } from '../store/records.ts';
import { splitCrl } from '../x509/crl.ts';
import { type CrlDraft, CrlDrafts } from './crl-drafts.ts';
import { type CrlBounds, type CrlTiming, defaultCrlBounds } from './crl-timing.ts';
import { Lane } from './lane.ts';
import { letExpiredLeave } from './leaving.ts';
import { type PublishedCrl, PublishedCrls } from './published-crls.ts';
import { type Predecessor, publishGate, speaksFor } from './publish-gate.ts';
import { readTbs } from './read-tbs.ts';
import { reconcile, takeSince } from './reconcile.ts';
import {
  baseScope,
  type Coverage,
  coverageOf,
  deltaScope,
  fullScope,
  RevokedLists,
} from './revoked-lists.ts';
import { signCrl, storedCrl } from './signed-crl.ts';
import { Waits } from './waits.ts';

export { type CrlTiming, defaultCrlTiming } from './crl-timing.ts';

/** How long a publication waits for a signer that is away before it says so. */
const signerWaitMs = 3_000;
/** How long one waits for the second that its thisUpdate names: bursts wait for one, a clock set back for more. */
const budgetWaitMs = 5_000;

interface Parts {
  issuer: Issuer;
  publicationUrl: string;
  shardCount: number;
  store: Store;
  sequencer: Sequencer;
  clock: Clock;
  clockGuard: ClockGuard;
  timing: CrlTiming;
  /** Lower ones are for tests. */
  bounds?: CrlBounds;
  /** Called with each CRL that passed the gate, and with the one of its scope that it replaces; scope `base`: what a delta goes with. */
  publish: (crl: PublishedCrl, previous: PublishedCrl | undefined) => void;
  /** Called with what the gate refused or what failed; the old CRL keeps being served. */
  alarm: (scope: string, problems: readonly string[]) => void;
}

/** Builds, logs, signs, checks and publishes the CRLs of one issuer; the only writer of its CRL numbers. */
export class CrlPublisher {
  readonly #parts: Parts;
  readonly #bounds: CrlBounds;
  readonly #waits: Waits;
  readonly #lists: RevokedLists;
  readonly #drafts: CrlDrafts;
  readonly #published = new PublishedCrls();
  /** The last signed CRL of each scope, served or not: what the next one follows. */
  readonly #previous = new Map<string, Predecessor>();
  /** thisUpdate of each scope's newest scheduled CRL. */
  readonly #scheduledSeconds: Map<string, number>;
  /** Shards and delta, and the full CRL as long as it is small. */
  readonly #near: Lane;
  /** A large full CRL. */
  readonly #far: Lane;
  /** The lists are known to say all that is to be said. */
  #reconciled: Promise<void> = Promise.resolve();
  /** What is stored was held against the store's rows. */
  #checked: Promise<void> = Promise.resolve();

  constructor(parts: Parts) {
    const { clock, timing, store, issuer } = parts;
    this.#parts = parts;
    this.#bounds = parts.bounds ?? defaultCrlBounds;
    this.#waits = new Waits(clock);
    this.#lists = new RevokedLists(parts.shardCount);
    this.#scheduledSeconds = new Map(store.scheduledUpdates(issuer.keyId));
    this.#drafts = new CrlDrafts({
      ...parts,
      ...timing,
      lists: this.#lists,
      previous: this.#previous,
      lastNumber: store.lastCrlNumber(issuer.keyId),
    });
    const lane = (pauseMs: (tookMs: number) => number): Lane =>
      new Lane({
        ...{ clock, waits: this.#waits, pauseMs },
        ready: (scopes) => this.#ready(scopes),
        round: (scopes, scheduled, done) => this.#publish(scopes, scheduled, done),
        failed: (scopes, problem) => parts.alarm(scopes.join(' '), [problem]),
      });
    this.#near = lane(() => timing.batchMs);
    // It leaves as much of the machine to others as it takes.
    this.#far = lane((tookMs) => Math.max(timing.batchMs, 2 * tookMs));
  }

  /**
   * Serves what is stored, without the signer; resolves when that is done. Then marks what is behind the store's events,
   * and publishes it.
   */
  async start(): Promise<void> {
    const { store, issuer } = this.#parts;
    const rows = store.lastCrls(issuer.keyId);
    for (const row of rows) await this.#adopt(row);
    const base = store.baseCrl(issuer.keyId);
    const served = base && (await this.#served(base, this.#drafts.url(baseScope)));
    if (served) await this.#takeBase(served);
    const delta = this.#previous.get(deltaScope);
    if (delta && delta.deltaBase === served?.crlNumber) await this.#lists.keepInDelta(delta.list);
    const isKnown = await takeSince(this.#lists, store, issuer.keyId, this.#listed());
    this.#checked = this.#reconcile(!isKnown);
    this.#checked.catch((error: unknown) => {
      const { code, message } = asVouchError(error);
      if (code !== 'unavailable-stopping') this.#parts.alarm('all', [message]);
    });
    // What came since is known: that the rest holds, too, is found out beside publication.
    this.#reconciled = isKnown ? Promise.resolve() : this.#checked;
    this.#wantBehind([]);
    this.publishDue();
  }

  /** Takes an event that is durable, a revocation or a release; its shard, the delta and the full CRL follow. */
  add(record: RevocationRecord): void {
    for (const scope of this.#lists.add(record)) this.#want(scope);
    this.#kick();
  }

  /**
   * Publishes every scope anew. Only what the schedule asks for lets expired entries leave, on the CRL after it: who
   * looks once in a period has then seen them (RFC 5280 §3.3).
   */
  publishAll(scheduled: boolean): void {
    for (const scope of this.#scopes()) this.#want(scope, scheduled);
    this.#kick();
  }

  /** As `publishAll` off the schedule; whether every scope has a newer CRL by the deadline. */
  publishNow(timeoutMs: number): Promise<boolean> {
    const before = new Map(this.current().map(({ scope, crlNumber }) => [scope, crlNumber]));
    this.publishAll(false);
    const isNewer = (scope: string): boolean =>
      (this.#published.of(scope)?.crlNumber ?? -1n) > (before.get(scope) ?? -1n);
    return this.#published.until(() => this.#scopes().every(isNewer), timeoutMs);
  }

  /** The schedule: each scope anew where a third of the validity has passed since it last asked for it. */
  publishDue(): void {
    for (const scope of this.#scopes())
      if (this.#due(scope) && !this.#laneOf(scope).isTaken(scope)) this.#want(scope, true);
    this.#kick();
  }

  /** What a CRL of each scope has to cover by now. */
  get newest(): Coverage {
    return this.#lists.newest;
  }

  /**
   * The full CRL, once it and every shard's cover what is asked for; undefined where they are not out by the deadline.
   * Peers follow their certificate's CDP to the shard: on the full CRL alone a revocation is not published.
   */
  async covering(wanted: Coverage, timeoutMs: number): Promise<PublishedCrl | undefined> {
    const isOut = await this.#published.until(
      () => [...wanted].every(([scope, leafIndex]) => this.#covers(scope, leafIndex)),
      timeoutMs,
    );
    return isOut ? this.#published.of(fullScope) : undefined;
  }

  /** The full CRL once all CRLs carry these; without any, once they carry everything recorded. Undefined past the deadline. */
  published(records: readonly RevocationRecord[], timeoutMs: number): Promise<PublishedCrl | undefined> {
    const wanted = records.length > 0 ? coverageOf(records, this.#parts.shardCount) : this.newest;
    return this.covering(wanted, timeoutMs);
  }

  get issuerKeyId(): string {
    return this.#parts.issuer.keyId;
  }

  /** Why peers may not see what they should; as long as a publication takes it is no problem to be behind. */
  problems(): string[] {
    return [
      ...this.#near.problems(),
      ...this.#far.problems(),
      // By the time that is believed: a clock in doubt is a problem of its own.
      ...this.#published.problems(this.#parts.clockGuard.steadyTimeMs() / 1000),
    ];
  }

  /** What is served now: the full CRL, then the shards by number, then the delta. */
  current(): PublishedCrl[] {
    return this.#scopes().flatMap((scope) => this.#published.of(scope) ?? []);
  }

  async close(): Promise<void> {
    this.#waits.end();
    await this.#checked.catch(() => undefined);
    await Promise.all([this.#near.ended(), this.#far.ended()]);
  }

  #scopes(): string[] {
    return [...this.#listed(), ...(this.#lists.base ? [deltaScope] : [])];
  }

  /** The full one and the shards. */
  #listed(): string[] {
    const shards = Array.from({ length: this.#parts.shardCount }, (_, shard) => String(shard));
    return [fullScope, ...shards];
  }

  /** One at a time: who published a CRL in both would serve the older of the two last. */
  #laneOf(scope: string): Lane {
    for (const lane of [this.#near, this.#far]) if (lane.has(scope)) return lane;
    return scope === fullScope && this.#lists.of(fullScope).byteLength > this.#bounds.smallBytes
      ? this.#far
      : this.#near;
  }

  #want(scope: string, scheduled = false): void {
    this.#laneOf(scope).want(scope, scheduled);
  }

  #kick(): void {
    this.#near.kick();
    this.#far.kick();
  }

  /** However often revocations renew a CRL, the schedule goes on: else nothing would ever leave. */
  #due(scope: string): boolean {
    const published = this.#published.of(scope);
    if (!published || (scope === fullScope && !this.#lists.base)) return true;
    const { thisUpdateSeconds, nextUpdateSeconds } = published;
    const last = Math.min(thisUpdateSeconds, this.#scheduledSeconds.get(scope) ?? 0);
    const third = (nextUpdateSeconds - thisUpdateSeconds) / 3;
    return this.#parts.clockGuard.steadyTimeMs() / 1000 > last + third;
  }

  #covers(scope: string, leafIndex: number): boolean {
    const published = this.#published.of(scope);
    return published !== undefined && published.coversTreeSize > leafIndex;
  }

  /**
   * Serves a stored CRL again: the gate let it be signed, and the signature says that it is the same. Where the store
   * by now says otherwise than it, the gate judges what would follow.
   */
  async #adopt(stored: CrlRecord): Promise<void> {
    // One that came in one buffer, by a restore or from a time before pieces, is cut once.
    const row = stored.tbs.tail.length === 0 ? { ...stored, tbs: splitCrl(stored.tbs.head) } : stored;
    const url = this.#drafts.url(row.scope);
    const served = await this.#served(row, url);
    if (!served) return;
    const { idp, deltaBase, freshestUrls } = await readTbs(row.tbs);
    this.#previous.set(row.scope, { ...row, list: row.tbs.list, deltaBase });
    if (row.scope !== deltaScope) this.#lists.adopt(row.scope, row.tbs.list, row.coversTreeSize);
    // Under another publication URL a shard's CRL is of no use to anybody: its IDP names the old one.
    if (speaksFor({ idp }, row.scope, url)) this.#release(served);
    if (row.scope === fullScope && freshestUrls.join() !== this.#drafts.url(deltaScope))
      this.#want(fullScope);
  }

  async #served(row: CrlRecord, url: string): Promise<PublishedCrl | undefined> {
    const served = await storedCrl(row, this.#parts.issuer, url);
    if (!served) this.#parts.alarm(row.scope, ['the signature of the stored CRL does not verify']);
    return served;
  }

  #release(crl: PublishedCrl): void {
    const previous = this.#published.of(crl.scope);
    this.#published.put(crl);
    this.#parts.publish(crl, previous);
  }

  /** Deltas follow this full CRL from now on, and it stays to be had. */
  async #takeBase(crl: PublishedCrl): Promise<void> {
    const { crlNumber, coversTreeSize, der } = crl;
    await this.#lists.setBase({ crlNumber, coversTreeSize, list: der.list });
    this.#parts.publish({ ...crl, scope: baseScope, url: this.#drafts.url(baseScope) }, undefined);
    this.#want(deltaScope);
  }

  /** Rejects with `unavailable-stopping` where it was cut short and publication would wait for it. */
  async #reconcile(first: boolean): Promise<void> {
    const { store, issuer } = this.#parts;
    const isOver = (): boolean => this.#waits.hasEnded;
    const wrong = await reconcile(this.#lists, store, issuer.keyId, {
      scopes: this.#listed(),
      first,
      isOver,
    });
    if (wrong) this.#wantBehind(wrong);
    else if (first) throw new VouchError('unavailable-stopping', 'the server is stopping');
  }

  #wantBehind(wrong: readonly string[]): void {
    const newest = this.newest.get(fullScope) ?? -1;
    const behind = this.#scopes().filter(
      (scope) => !this.#covers(scope, scope === deltaScope ? newest : (this.newest.get(scope) ?? -1)),
    );
    for (const scope of [...wrong, ...behind]) this.#want(scope);
    this.#kick();
  }

  /** Commits nothing while the signer is away, longer than a restart takes. */
  async #ready(scopes: readonly string[]): Promise<void> {
    await this.#reconciled;
    const { sequencer, issuer } = this.#parts;
    const away = new VouchError('unavailable-signer', 'the signer is away; the CRL follows when it is back');
    await this.#waits.until(() => (sequencer.signerAnswers(issuer.keyId) ? 0 : 50), signerWaitMs, away);
    await this.#untilBudget(scopes);
  }

  /** thisUpdate is at least a second after the previous one of its scope, and never in the future. */
  #untilBudget(scopes: readonly string[]): Promise<void> {
    const late = new VouchError('policy-clock', 'the clock is behind the last CRL; waiting for it');
    const waitMs = (): number => {
      const nowMs = this.#parts.clockGuard.steadyTimeMs();
      const thisUpdates = scopes.map((scope) => this.#drafts.thisUpdateSeconds(scope, nowMs));
      return Math.max(...thisUpdates) * 1000 - nowMs;
    };
    return this.#waits.until(waitMs, budgetWaitMs, late);
  }

  /** Releases what it can; throws what kept the others back. */
  async #publish(
    scopes: readonly string[],
    scheduled: boolean,
    done: (scope: string) => void,
  ): Promise<void> {
    const { clockGuard } = this.#parts;
    const lastScheduled = this.#scheduledSeconds.get(fullScope) ?? 0;
    if (scheduled && scopes.includes(fullScope))
      await letExpiredLeave({ ...this.#parts, lists: this.#lists }, lastScheduled);
    await this.#drafts.takeIn(() => clockGuard.steadyTimeMs());
    const nowMs = clockGuard.steadyTimeMs();
    const newBase =
      scheduled || !this.#lists.base || this.#lists.of(deltaScope).count > this.#bounds.deltaMaxEntries;
    const drafts = this.#drafts.make(scopes, { scheduled, newBase }, nowMs);
    const { passed, refused } = await this.#judge(drafts, nowMs);
    const failures: unknown[] = [];
    for (const group of this.#drafts.inGroups(passed)) {
      const results = await Promise.allSettled(group.map((draft) => this.#sign(draft, nowMs)));
      const signed = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      // A restart serves the newest one with a stored signature: that must be none older than what was served.
      if (signed.length > 0) await this.#parts.sequencer.storeSigned();
      for (const [draft, crl] of signed) {
        this.#took(draft, crl);
        done(draft.scope);
      }
      for (const [draft, crl] of signed) if (draft.base) await this.#takeBase(crl);
      failures.push(
        ...results.flatMap((result): unknown[] => (result.status === 'rejected' ? [result.reason] : [])),
      );
    }
    this.#near.kick();
    // There is no delta yet where the first base is made.
    for (const scope of scopes) if (!drafts.some((draft) => draft.scope === scope)) done(scope);
    if (failures.length > 0) throw failures[0];
    if (refused.length > 0) throw new VouchError('integrity-crl', `not published: ${refused.join('; ')}`);
  }

  /** Before anything of them is committed: a number, a leaf and a signature are for what the gate lets out. */
  async #judge(
    drafts: readonly CrlDraft[],
    nowMs: number,
  ): Promise<{ passed: CrlDraft[]; refused: string[] }> {
    const { store, issuer, shardCount } = this.#parts;
    const deltaUrl = this.#drafts.url(deltaScope);
    const candidates = drafts.map((draft) => {
      const previous = this.#previous.get(draft.scope);
      return { ...draft, base: draft.follows, issuer, shardCount, previous, deltaUrl, store, nowMs };
    });
    const verdicts = await publishGate(candidates);
    const passed: CrlDraft[] = [];
    const refused: string[] = [];
    for (const [index, draft] of drafts.entries()) {
      const problems = verdicts[index] ?? ['it was not judged'];
      if (problems.length === 0) passed.push(draft);
      else refused.push(`${draft.scope}: ${problems.slice(0, 5).join(', ')}`);
    }
    return { passed, refused };
  }

  async #sign(draft: CrlDraft, nowMs: number): Promise<[draft: CrlDraft, crl: PublishedCrl]> {
    const datesFixed = this.#drafts.unstored(draft);
    const crl = await signCrl({ ...draft, datesFixed }, { ...this.#parts, nowMs });
    this.#drafts.datesStored(datesFixed);
    return [draft, crl];
  }

  #took(draft: CrlDraft, crl: PublishedCrl): void {
    const { scope, thisUpdateSeconds, tbs, follows } = draft;
    this.#previous.set(scope, { ...crl, list: tbs.list, deltaBase: follows?.crlNumber });
    if (draft.scheduled) this.#scheduledSeconds.set(scope, thisUpdateSeconds);
    this.#release(crl);
  }
}
