import { hash } from 'node:crypto';
import { setImmediate as aTurn } from 'node:timers/promises';
import type { Clock } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import type { Serial } from '../core/serial.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { chunksSignedBy, type Issuer, signedBy } from '../issuance/issuer.ts';
import { crlLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import { allRevocationsAfter, allStanding } from '../store/pages.ts';
import type { CrlRecord, RevocationRecord, Store } from '../store/port.ts';
import { assembleSigned } from '../x509/certificate-tbs.ts';
import { type ParsedTbsCrl, parseTbsCrl } from '../x509/crl.ts';
import { joinedCrl, unsplitCrl } from '../x509/crl-tbs.ts';
import { Backlog } from './backlog.ts';
import { type CrlDraft, CrlDrafts } from './crl-drafts.ts';
import { type PublishedCrl, PublishedCrls } from './published-crls.ts';
import { type Predecessor, publishGate, speaksFor } from './publish-gate.ts';
import { type Coverage, coverageOf, fullScope, RevokedSet } from './revoked-set.ts';
import { Waits } from './waits.ts';

/** How often and for how long. */
export interface CrlTiming {
  /** nextUpdate − thisUpdate. */
  validitySeconds: number;
  /** Shortest time between two publications: revocations within it share one. */
  batchMs: number;
  /** How far thisUpdate may lie in the past: the budget that bursts draw on (I5). */
  backdateSeconds: number;
}

/** Defaults; docs/defaults.md has the reasons. */
export const defaultCrlTiming: CrlTiming = { validitySeconds: 24 * 3600, batchMs: 200, backdateSeconds: 60 };

/** How long a publication waits for a signer that is away before it says so. */
const signerWaitMs = 3_000;
/** How long one waits for the second that its thisUpdate names: bursts wait for one, a clock set back for more. */
const budgetWaitMs = 5_000;
/** What waits for longer is a problem: as long as an operator who revokes is made to wait. */
const lateAfterMs = 5_000;
/** Longest time between two attempts at a CRL that was refused. */
const refusedPauseMs = 60_000;

interface Parts {
  issuer: Issuer;
  publicationUrl: string;
  shardCount: number;
  store: Store;
  sequencer: Sequencer;
  clock: Clock;
  clockGuard: ClockGuard;
  timing: CrlTiming;
  /** Called with each CRL that passed the gate; what it serves from then on. */
  publish: (crl: PublishedCrl) => void;
  /** Called with what the gate refused or what failed; the old CRL keeps being served. */
  alarm: (scope: string, problems: readonly string[]) => void;
}

/** Builds, logs, signs, checks and publishes the CRLs of one issuer; the only writer of its CRL numbers. */
export class CrlPublisher {
  readonly #parts: Parts;
  readonly #waits: Waits;
  readonly #set: RevokedSet;
  readonly #drafts: CrlDrafts;
  readonly #published = new PublishedCrls();
  /** The last signed CRL of each scope, served or not: what the next one follows. */
  readonly #previous = new Map<string, Predecessor>();
  /** thisUpdate of each scope's newest scheduled CRL. */
  readonly #scheduledSeconds: Map<string, number>;
  readonly #backlog = new Backlog();
  /** Why the last attempt was refused, until one is not. */
  #refusal: string | undefined;
  #loop: Promise<void> | undefined;
  #lastRunMs = Number.NEGATIVE_INFINITY;
  #scheduled = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#waits = new Waits(parts.clock);
    this.#set = new RevokedSet([...allStanding(parts.store, parts.issuer.keyId)], parts.shardCount);
    this.#scheduledSeconds = new Map(parts.store.scheduledUpdates(parts.issuer.keyId));
    this.#drafts = new CrlDrafts({
      ...parts,
      ...parts.timing,
      set: this.#set,
      previous: this.#previous,
      lastNumber: parts.store.lastCrlNumber(parts.issuer.keyId),
    });
  }

  /** Publishes what is stored, at once and without the signer, and marks what is behind the last revocation. */
  start(): void {
    const { store, issuer } = this.#parts;
    for (const row of store.lastCrls(issuer.keyId)) this.#adopt(row);
    for (const scope of this.#scopes())
      if (!this.#covers(scope, this.#set.newest.get(scope) ?? -1)) this.#want(scope);
    this.publishDue();
    this.#kick();
  }

  /** Takes a revocation that is durable; its shard and the full CRL follow. */
  add(record: RevocationRecord): void {
    for (const scope of this.#set.add(record)) this.#want(scope);
    this.#kick();
  }

  /**
   * Publishes every scope anew. Only what the schedule asks for lets expired entries leave, on the CRL after it: who
   * looks once in a period has then seen them (RFC 5280 §3.3).
   */
  publishAll(scheduled: boolean): void {
    this.#publishAnew(this.#scopes(), scheduled);
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
    const due = this.#scopes().filter((scope) => this.#due(scope) && !this.#backlog.isTaken(scope));
    if (due.length > 0) this.#publishAnew(due, true);
  }

  /** What a CRL of each scope has to cover by now. */
  get newest(): Coverage {
    return this.#set.newest;
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
    const { clock, clockGuard } = this.#parts;
    const late = this.#backlog.olderThan(clock.monotonicMs() - lateAfterMs);
    return [
      ...(this.#refusal === undefined ? [] : [this.#refusal]),
      ...(late.length === 0
        ? []
        : [`not published for ${lateAfterMs / 1000} s and more: CRL ${late.join(' ')}`]),
      // By the time that is believed: a clock in doubt is a problem of its own.
      ...this.#published.problems(clockGuard.steadyTimeMs() / 1000),
    ];
  }

  /** What is served now: the full CRL, then the shards by number. */
  current(): PublishedCrl[] {
    return this.#scopes().flatMap((scope) => this.#published.of(scope) ?? []);
  }

  async close(): Promise<void> {
    this.#waits.end();
    await this.#loop;
  }

  #scopes(): string[] {
    return [fullScope, ...Array.from({ length: this.#parts.shardCount }, (_, shard) => String(shard))];
  }

  #publishAnew(scopes: readonly string[], scheduled: boolean): void {
    for (const scope of scopes) this.#want(scope);
    this.#scheduled ||= scheduled;
    this.#kick();
  }

  /** However often revocations renew a CRL, the schedule goes on: else nothing would ever leave. */
  #due(scope: string): boolean {
    const published = this.#published.of(scope);
    if (!published) return true;
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
  #adopt(row: CrlRecord): void {
    const { issuer } = this.#parts;
    const tbs = joinedCrl(row.tbs);
    if (!row.signature || !signedBy(issuer, tbs, row.signature)) {
      this.#parts.alarm(row.scope, ['the signature of the stored CRL does not verify']);
      return;
    }
    const crl = parseTbsCrl(tbs);
    this.#previous.set(row.scope, { crl, coversTreeSize: row.coversTreeSize });
    // Under another publication URL a shard's CRL is of no use to anybody: its IDP names the old one.
    const url = this.#drafts.url(row.scope);
    if (speaksFor(crl, row.scope, url))
      this.#release({ ...row, url, der: assembleSigned(tbs, issuer.algorithm, row.signature) });
    if (!this.#set.isAsOn(row.scope, crl.entries.bytes)) this.#want(row.scope);
  }

  #release(crl: PublishedCrl): void {
    this.#published.put(crl);
    this.#parts.publish(crl);
  }

  #want(scope: string): void {
    this.#backlog.add(scope, this.#parts.clock.monotonicMs());
  }

  #kick(): void {
    if (this.#backlog.waiting().length > 0) this.#loop ??= this.#run();
  }

  /** Owns publication: one at a time, batchMs apart, until nothing is left. A failure is tried again. */
  async #run(): Promise<void> {
    let refusals = 0;
    while (this.#backlog.waiting().length > 0 && !this.#waits.hasEnded) {
      await this.#waits.pause(this.#lastRunMs + this.#parts.timing.batchMs - this.#parts.clock.monotonicMs());
      this.#lastRunMs = this.#parts.clock.monotonicMs();
      try {
        await this.#untilSignerAnswers();
        await this.#untilBudget();
        await this.#publishBacklog();
        refusals = 0;
        this.#refusal = undefined;
      } catch (error) {
        const { message } = asVouchError(error);
        this.#parts.alarm(this.#backlog.waiting().join(' '), [message]);
        const code = error instanceof VouchError ? error.code : 'internal';
        if (code === 'unavailable-stopping') break;
        // What was refused is refused again, and each time by the signer is a leaf; what is away is noticed at once.
        const isAway = code.startsWith('unavailable-');
        refusals = isAway ? 0 : refusals + 1;
        if (!isAway) this.#refusal = message;
        await this.#waits.pause(Math.min(1000 * 2 ** Math.max(0, refusals - 1), refusedPauseMs));
      }
    }
    // In the same turn as the last look at what is left, so that what comes next starts a new run.
    this.#loop = undefined;
  }

  /** Commits nothing while the signer is away, longer than a restart takes. */
  #untilSignerAnswers(): Promise<void> {
    const late = new VouchError('unavailable-signer', 'the signer is away; the CRL follows when it is back');
    return this.#waits.until(
      () => (this.#parts.sequencer.signerAnswers(this.#parts.issuer.keyId) ? 0 : 50),
      signerWaitMs,
      late,
    );
  }

  /** thisUpdate is at least a second after the previous one of its scope, and never in the future. */
  #untilBudget(): Promise<void> {
    const late = new VouchError('policy-clock', 'the clock is behind the last CRL; waiting for it');
    const waitMs = (): number => {
      const nowMs = this.#parts.clockGuard.steadyTimeMs();
      const thisUpdates = this.#backlog
        .waiting()
        .map((scope) => this.#drafts.thisUpdateSeconds(scope, nowMs));
      return Math.max(...thisUpdates) * 1000 - nowMs;
    };
    return this.#waits.until(waitMs, budgetWaitMs, late);
  }

  /**
   * Takes the backlog when nothing is waited for any more, in one turn with drafting it: what stands on the full CRL
   * stands on the CRL of its shard in the same round. What was not released waits again.
   */
  async #publishBacklog(): Promise<void> {
    const scopes = this.#backlog.take();
    const scheduled = this.#scheduled;
    this.#scheduled = false;
    try {
      await this.#publish(scopes, scheduled);
    } catch (error) {
      this.#scheduled ||= scheduled;
      throw error;
    } finally {
      this.#backlog.giveBack();
    }
  }

  /** Releases what it can; throws what kept the others back. */
  async #publish(scopes: readonly string[], scheduled: boolean): Promise<void> {
    const nowMs = this.#parts.clockGuard.steadyTimeMs();
    const drafts = this.#drafts.make(scopes, scheduled, nowMs);
    const judged = await this.#judge(drafts, nowMs);
    const results = await Promise.allSettled(judged.passed.map((draft) => this.#sign(draft, nowMs)));
    const signed = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    for (const { draft } of signed) this.#drafts.committed(draft);
    // A restart serves the newest one with a stored signature: that must be none older than what was served.
    await this.#parts.sequencer.storeSigned();
    for (const { draft, der } of signed) {
      this.#previous.set(draft.scope, draft);
      if (draft.scheduled) this.#scheduledSeconds.set(draft.scope, draft.thisUpdateSeconds);
      this.#release({ ...draft, der });
      this.#backlog.done(draft.scope);
    }
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    if (judged.refused.length > 0)
      throw new VouchError('integrity-crl', `not published: ${judged.refused.join('; ')}`);
    if (scheduled) await this.#letExpiredLeave(drafts);
  }

  /** Before anything of them is committed: a number, a leaf and a signature are for what the gate lets out. */
  async #judge(
    drafts: readonly CrlDraft[],
    nowMs: number,
  ): Promise<{ passed: JudgedDraft[]; refused: string[] }> {
    const { store, issuer, shardCount } = this.#parts;
    const since = drafts.map(({ scope }) => this.#previous.get(scope)?.coversTreeSize ?? 0);
    const revocations = [...allRevocationsAfter(store, issuer.keyId, Math.min(...since) - 1)];
    const recorded = (serial: Serial): RevocationRecord | undefined => store.revocation(issuer.keyId, serial);
    const passed: JudgedDraft[] = [];
    const refused: string[] = [];
    for (const draft of drafts) {
      // Each is read whole: with a turn between them, no request waits for all.
      await aTurn();
      const previous = this.#previous.get(draft.scope);
      const candidate = { ...draft, issuer, shardCount, previous, revocations, recorded, nowMs };
      const { crl, problems } = publishGate(candidate);
      if (crl && problems.length === 0) passed.push({ ...draft, crl });
      else refused.push(`${draft.scope}: ${problems.slice(0, 5).join(', ')}`);
    }
    return { passed, refused };
  }

  async #sign(draft: JudgedDraft, nowMs: number): Promise<{ draft: JudgedDraft; der: Buffer }> {
    const { issuer, sequencer } = this.#parts;
    const { datesFixed, url: _url, crl: _crl, ...crl } = draft;
    await sequencer.upload(issuer.keyId, [draft.tbs]);
    const leaf = crlLeaf(nowMs, issuer.keyId, {
      scope: draft.scope,
      crlNumber: draft.crlNumber,
      tbsSha256: hash('sha256', draft.tbs, 'buffer'),
    });
    const result = await sequencer.sign({
      purpose: 'crl',
      verify: (signature) => chunksSignedBy(issuer, [draft.tbs], signature),
      mutation: { kind: 'crl', leaf, crl: { ...crl, tbs: unsplitCrl(draft.tbs) }, datesFixed },
    });
    if (result.status === 'exists') throw new VouchError('internal', 'a CRL cannot exist already');
    return { draft, der: assembleSigned(draft.tbs, issuer.algorithm, result.signature) };
  }

  /** An entry may leave after it stood on a scheduled CRL whose thisUpdate is past its notAfter (RFC 5280 §3.3). */
  async #letExpiredLeave(drafts: readonly CrlDraft[]): Promise<void> {
    if (this.#parts.clockGuard.doubt() !== undefined) return;
    const past = Math.min(...drafts.map((draft) => draft.thisUpdateSeconds)) * 1000;
    const expired = this.#set
      .records()
      .filter((record) => record.notAfterMs < past && record.crlDateSeconds !== undefined);
    if (expired.length === 0) return;
    const { store, issuer } = this.#parts;
    await store.releaseExpired(
      issuer.keyId,
      expired.map(({ serial }) => serial),
    );
    // The store decides by its own record of scheduled CRLs; what it kept stays on ours.
    const left = expired.filter(({ serial }) => store.revocation(issuer.keyId, serial)?.mayLeave === true);
    this.#set.remove(left.map(({ serial }) => serial));
  }
}

interface JudgedDraft extends CrlDraft {
  crl: ParsedTbsCrl;
}
