import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { type Issuer, signedBy } from '../issuance/issuer.ts';
import { crlLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { CrlRecord, RevocationRecord, Store } from '../store/port.ts';
import { assembleSigned } from '../x509/certificate-tbs.ts';
import { type CrlDraft, CrlDrafts } from './crl-drafts.ts';
import { type PublishedCrl, PublishedCrls } from './published-crls.ts';
import { publishGate } from './publish-gate.ts';
import { fullScope, RevokedSet } from './revoked-set.ts';

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
  readonly #set: RevokedSet;
  readonly #drafts: CrlDrafts;
  readonly #published = new PublishedCrls();
  readonly #dirty = new Set<string>();
  #loop: Promise<void> | undefined;
  #lastRunMs = Number.NEGATIVE_INFINITY;
  #scheduled = false;
  #closed = false;
  #wakeUp: () => void = () => undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#set = new RevokedSet(
      parts.store.revocations(parts.issuer.keyId).filter((record) => !record.mayLeave),
    );
    this.#drafts = new CrlDrafts({
      ...parts,
      ...parts.timing,
      set: this.#set,
      published: this.#published,
      lastNumber: parts.store.lastCrlNumber(parts.issuer.keyId),
    });
  }

  /** Publishes what is stored, at once and without the signer, and marks what is behind the last revocation. */
  start(): void {
    const { store, issuer } = this.#parts;
    for (const row of store.lastCrls(issuer.keyId)) this.#adopt(row);
    for (const scope of this.#scopes()) {
      const published = this.#published.of(scope);
      const newest = Math.max(-1, ...this.#set.records(scope).map((record) => record.leafIndex));
      if (!published || newest >= published.coversTreeSize || this.#due(published)) this.#dirty.add(scope);
    }
    if (this.#dirty.size > 0) this.#kick();
  }

  /** Takes a revocation that is durable; its shard and the full CRL follow. */
  add(record: RevocationRecord): void {
    this.#set.add(record);
    this.#dirty.add(String(record.shard)).add(fullScope);
    this.#kick();
  }

  /** Publishes every scope anew: the schedule, or `vouch crl publish`. Entries that may leave do so on the next one. */
  publishAll(): void {
    for (const scope of this.#scopes()) this.#dirty.add(scope);
    this.#scheduled = true;
    this.#kick();
  }

  /** Publishes anew where a third of the validity has passed. */
  publishDue(): void {
    if (this.#scopes().some((scope) => this.#due(this.#published.of(scope)))) this.publishAll();
  }

  /** Of the newest revocation that has to stand on a CRL; -1 where there is none. */
  get newestLeafIndex(): number {
    return this.#set.coversTreeSize - 1;
  }

  /** The full CRL that covers a revocation, or undefined where it is not out by the deadline. */
  async covering(leafIndex: number, timeoutMs: number): Promise<PublishedCrl | undefined> {
    const covering = () => {
      const full = this.#published.of(fullScope);
      return full && full.coversTreeSize > leafIndex ? full : undefined;
    };
    await this.#published.until(() => covering() !== undefined, timeoutMs);
    return covering();
  }

  /** Resolves when nothing is left to publish, or after `timeoutMs`. */
  async idle(timeoutMs: number): Promise<void> {
    const late = new AbortController();
    const timeout = sleep(timeoutMs, undefined, { signal: late.signal }).catch(() => undefined);
    await Promise.race([this.#loop, timeout]);
    late.abort();
  }

  /** What is served now. */
  current(): PublishedCrl[] {
    return this.#published.all();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wakeUp();
    await this.#loop;
  }

  #scopes(): string[] {
    return [fullScope, ...Array.from({ length: this.#parts.shardCount }, (_, shard) => String(shard))];
  }

  #due(published: PublishedCrl | undefined): boolean {
    if (!published) return true;
    const third = (published.nextUpdateSeconds - published.thisUpdateSeconds) / 3;
    return this.#parts.clockGuard.steadyTimeMs() / 1000 > published.thisUpdateSeconds + third;
  }

  #adopt(row: CrlRecord): void {
    if (!row.signature) return;
    const { issuer, store } = this.#parts;
    const der = assembleSigned(row.tbs, issuer.algorithm, row.signature);
    const url = this.#drafts.url(row.scope);
    const problems = publishGate({
      ...{ der, url, issuer, scope: row.scope, previous: undefined, coversTreeSize: row.coversTreeSize },
      revocations: store.revocations(issuer.keyId),
      recorded: (serial) => store.revocation(issuer.keyId, serial),
      // It was published before, so its time has come, whatever the clock says now.
      nowMs: Math.max(this.#parts.clock.now(), row.thisUpdateSeconds * 1000),
    });
    if (problems.length === 0) this.#release({ ...row, url, der });
    else this.#parts.alarm(row.scope, problems);
  }

  #release(crl: PublishedCrl): void {
    this.#published.put(crl);
    this.#parts.publish(crl);
  }

  #kick(): void {
    this.#loop ??= this.#run();
  }

  /** Owns publication: one at a time, batchMs apart, until nothing is dirty. A failure is tried again. */
  async #run(): Promise<void> {
    let refusals = 0;
    while (this.#dirty.size > 0 && !this.#closed) {
      await this.#pause(this.#lastRunMs + this.#parts.timing.batchMs - this.#parts.clock.monotonicMs());
      this.#lastRunMs = this.#parts.clock.monotonicMs();
      const scopes = [...this.#dirty];
      const scheduled = this.#scheduled;
      this.#dirty.clear();
      this.#scheduled = false;
      try {
        await this.#publish(scopes, scheduled);
        refusals = 0;
      } catch (error) {
        for (const scope of scopes) this.#dirty.add(scope);
        this.#scheduled ||= scheduled;
        this.#parts.alarm(scopes.join(' '), [asVouchError(error).message]);
        const code = error instanceof VouchError ? error.code : 'internal';
        if (code === 'unavailable-stopping') break;
        // What was refused is refused again, and each attempt is a leaf; what is away is noticed within a second.
        refusals = code.startsWith('unavailable-') ? 0 : refusals + 1;
        await this.#pause(Math.min(1000 * 2 ** Math.max(0, refusals - 1), refusedPauseMs));
      }
    }
    // In the same turn as the last look at what is dirty, so that what comes next starts a new run.
    this.#loop = undefined;
  }

  /** Cut short by `close`. */
  async #pause(ms: number): Promise<void> {
    if (ms <= 0 || this.#closed) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Commits nothing while the signer is away, longer than a restart takes. */
  async #untilSignerAnswers(): Promise<void> {
    const { sequencer, clock } = this.#parts;
    const deadlineMs = clock.monotonicMs() + signerWaitMs;
    while (!sequencer.signerAnswers()) {
      if (this.#closed || clock.monotonicMs() > deadlineMs)
        throw new VouchError('unavailable-signer', 'the signer is away; the CRL follows when it is back');
      await this.#pause(50);
    }
  }

  async #publish(scopes: readonly string[], scheduled: boolean): Promise<void> {
    await this.#untilSignerAnswers();
    const nowMs = await this.#untilBudget(scopes);
    const drafts = this.#drafts.make(scopes, scheduled, nowMs);
    const signed = await Promise.all(drafts.map((draft) => this.#sign(draft, nowMs)));
    for (const draft of drafts) this.#drafts.committed(draft);
    // A restart serves the newest one with a stored signature: that must be none older than what was served.
    await this.#parts.sequencer.storeSigned();
    const revocations = this.#parts.store.revocations(this.#parts.issuer.keyId);
    const refused: string[] = [];
    for (const { draft, der } of signed) {
      const problems = publishGate({
        der,
        scope: draft.scope,
        issuer: this.#parts.issuer,
        url: draft.url,
        previous: this.#published.of(draft.scope)?.der,
        revocations,
        recorded: (serial) => this.#parts.store.revocation(this.#parts.issuer.keyId, serial),
        coversTreeSize: draft.coversTreeSize,
        nowMs: this.#parts.clockGuard.steadyTimeMs(),
      });
      if (problems.length === 0) this.#release({ ...draft, der });
      else refused.push(`${draft.scope}: ${problems.slice(0, 5).join(', ')}`);
    }
    if (refused.length > 0) throw new VouchError('integrity-crl', `not published: ${refused.join('; ')}`);
    if (scheduled) await this.#letExpiredLeave(drafts);
  }

  /** thisUpdate is at least a second after the previous one of its scope, and never in the future. */
  async #untilBudget(scopes: readonly string[]): Promise<number> {
    const { clockGuard } = this.#parts;
    const next = Math.max(
      ...scopes.map((scope) => this.#drafts.thisUpdateSeconds(scope, clockGuard.steadyTimeMs())),
    );
    await this.#pause(Math.min(next * 1000 - clockGuard.steadyTimeMs(), 5000));
    const nowMs = clockGuard.steadyTimeMs();
    if (next * 1000 > nowMs)
      throw new VouchError('policy-clock', 'the clock is behind the last CRL; waiting for it');
    return nowMs;
  }

  async #sign(draft: CrlDraft, nowMs: number): Promise<{ draft: CrlDraft; der: Buffer }> {
    const { issuer, sequencer } = this.#parts;
    const { datesFixed, url: _url, ...crl } = draft;
    const leaf = crlLeaf(nowMs, issuer.keyId, {
      scope: draft.scope,
      crlNumber: draft.crlNumber,
      tbsSha256: hash('sha256', draft.tbs, 'buffer'),
    });
    const result = await sequencer.sign({
      purpose: 'crl',
      tbs: draft.tbs,
      verify: (signature) => signedBy(issuer, draft.tbs, signature),
      mutation: { kind: 'crl', leaf, crl, datesFixed },
    });
    if (result.status === 'exists') throw new VouchError('internal', 'a CRL cannot exist already');
    return { draft, der: assembleSigned(draft.tbs, issuer.algorithm, result.signature) };
  }

  /** An entry may leave after it stood on a scheduled CRL whose thisUpdate is past its notAfter (RFC 5280 §3.3). */
  async #letExpiredLeave(drafts: readonly CrlDraft[]): Promise<void> {
    if (this.#parts.clockGuard.doubt() !== undefined) return;
    const past = Math.min(...drafts.map((draft) => draft.thisUpdateSeconds)) * 1000;
    const expired = this.#set
      .records(fullScope)
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
