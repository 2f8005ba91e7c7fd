import {
  readCrl,
  type VerifiedCrl,
  type VerifiedDelta,
  verifyCrl,
  verifyDelta,
  verifyLargeCrl,
  withDelta,
} from '../client/crl.ts';
import { CrlSource } from '../client/crl-source.ts';
import { currentFolder } from '../client/delivered.ts';
import type { Clock } from '../core/clock.ts';
import type { Serial } from '../core/serial.ts';
import type { CrlEvent } from '../wire/watch.ts';
import { applyPatch } from '../x509/crl-patch.ts';
import { CrlFiles } from './crl-files.ts';
import { assertFresh, assertNotListed, type ChainAuthority } from './crls.ts';
import type { Change } from './deliver/hook.ts';
import { type Held, readHeld } from './held.ts';
import { pauseMs } from './retry.ts';
import { type Sleep, systemSleep } from './sleep.ts';
import { deltaNumberKey } from './state.ts';
import { ToldCrls } from './told-crls.ts';

/** What changes in ceremonies (the CRLs of CAs above the issuer), or is large and has a delta, is asked for each so many rounds. */
const seldomEvery = 10;
/** A full CRL of more bytes is left to its delta in the rounds between. */
const largeBytes = 1024 * 1024;
/** How often CRLs are asked for while the server tells of changes: it is looked after, not waited for. */
const liveEveryMs = 60_000;

/** What a keeper works with. */
export interface CrlKeeperParts {
  dir: string;
  everyMs: number;
  clock: Clock;
  signal: AbortSignal;
  notice: (line: string) => void;
  exclusively: <T>(work: () => Promise<T>) => Promise<T>;
  /** A newer CRL stands in crl.pem, or another generation is current. */
  changed: (change: Change) => void;
  /** A newer CRL is known; it may not be written yet. */
  known?: () => void;
  /** Our certificate or its issuer is on one. */
  revoked: (detail: string) => void;
  sleep?: Sleep;
}

/**
 * Keeps crl.pem and crl-delta.pem of the current generation as new as the published CRLs: by what the server tells while
 * it does, by conditional GETs where it does not.
 */
export class CrlKeeper {
  readonly #parts: CrlKeeperParts;
  readonly #sleep: Sleep;
  readonly #sources = new Map<string, CrlSource>();
  readonly #said = new Map<string, string>();
  readonly #files: CrlFiles;
  readonly #deltas = new Map<string, VerifiedDelta>();
  #held: Held;
  #crls: Map<string, VerifiedCrl>;
  readonly #told = new ToldCrls();
  #round = 0;
  #isLive = false;
  #woken = new AbortController();
  #later: Promise<void> | undefined;

  constructor(held: Held, parts: CrlKeeperParts) {
    this.#parts = parts;
    this.#sleep = parts.sleep ?? systemSleep;
    this.#held = held;
    this.#crls = new Map(held.crls);
    this.#files = new CrlFiles(held, parts);
    for (const delta of held.deltas) this.#deltas.set(delta.issuerKeyId, delta);
  }

  /** Another generation is current: of what is in it and what is known, the newer counts, and all is asked for once more. */
  adopt(held: Held): void {
    const { folder, leaf } = this.#held.delivered;
    if (held.delivered.folder === folder && held.delivered.leaf.serial === leaf.serial) return;
    const known = this.#crls;
    this.#held = held;
    this.#crls = new Map(held.crls);
    this.#files.reset(held);
    for (const { keyId } of held.chain) {
      const crl = known.get(keyId);
      if (crl === undefined || crl.crlNumber <= (this.#crls.get(keyId)?.crlNumber ?? -1n)) continue;
      this.#crls.set(keyId, crl);
      this.#files.changed('full');
    }
    if (this.#deltas.size > 0) this.#files.changed('delta');
    this.close();
    this.askNow();
    this.#parts.changed('certificate');
  }

  /** Rounds until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { signal, everyMs } = this.#parts;
    let failures = 0;
    while (!signal.aborted) {
      this.#woken = new AbortController();
      const fine = await this.refresh();
      failures = fine ? 0 : failures + 1;
      // One failure is a hiccup: a revocation must not wait for it. From the second on we back off.
      const extra = failures < 2 ? 0 : pauseMs(failures - 1, { baseMs: everyMs, capMs: 10_000 });
      const often = this.#isLive && fine && !this.#isBehind ? Math.max(everyMs, liveEveryMs) : everyMs;
      const pause = often * (0.9 + 0.2 * Math.random()) + extra;
      const woken = AbortSignal.any([signal, this.#woken.signal]);
      await this.#sleep(pause, woken);
    }
    this.close();
  }

  /** Whether the server tells of changes. What it tells first is the present state; where it ends, all is asked for. */
  live(isLive: boolean): void {
    if (this.#isLive === isLive) return;
    this.#isLive = isLive;
    if (!isLive) this.askNow();
  }

  /** Begins a round of everything at once. */
  askNow(): void {
    this.#round = 0;
    this.#woken.abort();
  }

  /** Takes a CRL that the server tells of, by its patch or else from its URL. Never rejects. */
  async take(event: CrlEvent): Promise<void> {
    if (!this.#held.chain.some(({ keyId }) => keyId === event.issuerKeyId)) return;
    await this.#told.take(event, () => this.#take(event));
    if (this.#told.isQuiet && this.#isBehind) this.#woken.abort();
  }

  async #take(event: CrlEvent): Promise<void> {
    const held = this.#held;
    const one = held.chain.find(({ keyId }) => keyId === event.issuerKeyId);
    const known = this.#known(event.scope);
    if (one === undefined || BigInt(event.crlNumber) <= (known.get(one.keyId)?.crlNumber ?? -1n)) return;
    await this.#attempt(one.keyId, async () => {
      if (!(await this.#patched(one, event)) && !this.#waitsForRound(one, event))
        await this.#fetch(one, event.scope, event.url);
      this.#judge(one);
    });
    await this.#writeWhatIsBehind(held);
  }

  /** The server told of a CRL that could not be had: a cache in between may have the one before it for a while. */
  get #isBehind(): boolean {
    return this.#held.chain.some(({ keyId: issuerKeyId }) =>
      (['full', 'delta'] as const).some((scope) => {
        const known = this.#known(scope).get(issuerKeyId)?.crlNumber ?? -1n;
        return this.#told.number({ issuerKeyId, scope }) > known;
      }),
    );
  }

  /**
   * One round. True where every CRL could be had and the files of the current generation have them; what could not is said
   * once. Never rejects.
   */
  async refresh(): Promise<boolean> {
    const followed = await this.#attempt('the current generation', () => this.#follow());
    const held = this.#held;
    const isSeldom = this.#round % seldomEvery !== 0;
    this.#round += 1;
    const fetched = await Promise.all(held.chain.map((one, index) => this.#refreshOne(one, index, isSeldom)));
    const written = await this.#writeWhatIsBehind(held);
    return followed && written && !fetched.includes(false);
  }

  /** What is known, by the key id of who signed. */
  get crls(): ReadonlyMap<string, VerifiedCrl> {
    return this.#crls;
  }

  /** Whether what is known lists a certificate of this issuer as revoked. */
  isListed(issuerKeyId: string, serial: Serial): boolean {
    const full = this.#crls.get(issuerKeyId);
    return full !== undefined && withDelta(full, this.#deltas.get(issuerKeyId)).has(serial);
  }

  #known(scope: CrlEvent['scope']): ReadonlyMap<string, VerifiedCrl | VerifiedDelta> {
    return scope === 'full' ? this.#crls : this.#deltas;
  }

  /** Closes idle connections. */
  close(): void {
    for (const source of this.#sources.values()) source.close();
    this.#sources.clear();
  }

  /** Others deliver beside us, as `vouch renew` does: peers read `current`, not what we began with. */
  #follow(): void {
    const { dir, clock } = this.#parts;
    if (currentFolder(dir) !== this.#held.delivered.folder) this.adopt(readHeld(dir, clock.now()));
  }

  /** `betweenTimes`: only what changes often and is small. */
  async #refreshOne(one: ChainAuthority, index: number, betweenTimes: boolean): Promise<boolean> {
    const isAbove = index > 0 && one.subject !== undefined;
    if (isAbove && betweenTimes) return true;
    const isFine = await this.#attempt(one.keyId, async () => {
      if (await this.#needsFull(one, betweenTimes)) await this.#fetch(one, 'full', one.url);
      this.#judge(one);
    });
    // One of a token that is away goes stale: that slows down no other.
    return isFine || one.subject === undefined;
  }

  /** Asks for the delta first, where there is one. */
  async #needsFull(one: ChainAuthority, betweenTimes: boolean): Promise<boolean> {
    const deltaUrl = this.#crls.get(one.keyId)?.deltaUrl;
    if (deltaUrl !== undefined) await this.#fetch(one, 'delta', deltaUrl);
    return !betweenTimes || !this.#isLeftToDelta(one);
  }

  /** The full CRL that is known is large, and its delta says what has changed. */
  #isLeftToDelta({ keyId }: ChainAuthority): boolean {
    const full = this.#crls.get(keyId);
    if (full?.deltaUrl === undefined || full.der.length < largeBytes) return false;
    return (this.#deltas.get(keyId)?.baseNumber ?? 0n) <= full.crlNumber;
  }

  /** What everybody is told of at one moment not everybody fetches then, where it is large. */
  #waitsForRound(one: ChainAuthority, { scope }: CrlEvent): boolean {
    return scope === 'full' && this.#isLeftToDelta(one);
  }

  async #fetch(one: ChainAuthority, scope: CrlEvent['scope'], url: string | undefined): Promise<void> {
    if (url === undefined) return;
    // Before it is asked for: what is told of meanwhile makes what comes no attack.
    const floor = this.#floor(one, scope);
    const fetched = await this.#source(one, scope, url).fetch(this.#parts.signal);
    if (fetched === 'unchanged') return;
    await this.#accept(one, scope, fetched.der, floor);
    this.#sources.get(`${one.keyId} ${scope}`)?.accept(fetched);
  }

  #source(one: ChainAuthority, scope: CrlEvent['scope'], url: string): CrlSource {
    const key = `${one.keyId} ${scope}`;
    const known = this.#sources.get(key);
    if (known?.url === url) return known;
    known?.close();
    const source = new CrlSource(url);
    const held = this.#known(scope).get(one.keyId);
    if (held !== undefined) source.holds(held);
    this.#sources.set(key, source);
    return source;
  }

  /** True where the event's patch made the CRL of the one that is known. */
  async #patched(one: ChainAuthority, { scope, from, crlNumber, patch }: CrlEvent): Promise<boolean> {
    const known = this.#known(scope).get(one.keyId);
    if (patch === undefined || from === null || known?.crlNumber !== BigInt(from)) return false;
    try {
      await this.#accept(one, scope, await applyPatch(known.der, patch), BigInt(crlNumber));
    } catch (error) {
      this.#parts.notice(`a patch of the server does not hold: ${String(error)}; the CRL is fetched`);
      return false;
    }
    const held = this.#known(scope).get(one.keyId);
    if (held) this.#sources.get(`${one.keyId} ${scope}`)?.holds(held);
    return true;
  }

  /** Verifies what came, and takes it where it is newer than what is known by now. */
  async #accept(
    one: ChainAuthority,
    scope: CrlEvent['scope'],
    der: Buffer,
    floor: bigint | undefined,
  ): Promise<void> {
    if (scope === 'full') {
      // A delta that comes meanwhile says it sooner, and must not wait for this one.
      const crl =
        der.length > largeBytes
          ? await verifyLargeCrl(der, one.authority, floor)
          : verifyCrl(readCrl(der), one.authority, floor);
      if (crl.crlNumber <= (this.#crls.get(one.keyId)?.crlNumber ?? -1n)) return;
      this.#crls.set(one.keyId, crl);
      // The root's stands in both files.
      this.#files.changed(
        'full',
        ...(crl.deltaUrl === undefined && this.#deltas.size > 0 ? ['delta' as const] : []),
      );
      this.#parts.known?.();
      return;
    }
    const delta = verifyDelta(readCrl(der), one.authority, floor);
    if (delta.crlNumber <= (this.#deltas.get(one.keyId)?.crlNumber ?? -1n)) return;
    this.#deltas.set(one.keyId, delta);
    this.#files.changed('delta');
    this.#parts.known?.();
  }

  /** The highest number seen. */
  #floor(one: ChainAuthority, scope: CrlEvent['scope']): bigint | undefined {
    const { crlNumbers } = this.#held.state.seen;
    const seen = crlNumbers.get(scope === 'full' ? one.keyId : deltaNumberKey(one.keyId));
    const known = this.#known(scope).get(one.keyId)?.crlNumber;
    return known !== undefined && known > (seen ?? 0n) ? known : seen;
  }

  /** Throws where the CRL of an authority cannot be relied on; tells where our certificate or its issuer is on it. */
  #judge(one: ChainAuthority): void {
    const full = this.#crls.get(one.keyId);
    if (full === undefined) return;
    const crl = withDelta(full, this.#deltas.get(one.keyId));
    try {
      assertNotListed(crl, one.subject);
    } catch (error) {
      this.#parts.revoked(error instanceof Error ? error.message : String(error));
    }
    assertFresh(crl, this.#parts.clock.now());
  }

  async #writeWhatIsBehind(held: Held): Promise<boolean> {
    if (!this.#files.isBehind || held !== this.#held) return true;
    const known = { fulls: this.#crls, deltas: this.#deltas };
    const written = await this.#attempt('crl.pem', async () => {
      if (await this.#files.write(held, known, () => held === this.#held)) this.#parts.changed('crl');
    });
    if (written && this.#later === undefined && this.#files.waitMs > 0)
      this.#later = this.#writeLater(this.#files.waitMs);
    return written;
  }

  async #writeLater(ms: number): Promise<void> {
    await this.#sleep(ms, this.#parts.signal);
    this.#later = undefined;
    if (!this.#parts.signal.aborted) await this.#writeWhatIsBehind(this.#held);
  }

  /** Says a failure when it begins or changes, and when it is over. */
  async #attempt(what: string, work: () => Promise<void> | void): Promise<boolean> {
    const { notice, signal } = this.#parts;
    try {
      await work();
      if (this.#said.delete(what)) notice(`CRLs can be had again (${what})`);
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      const detail = error instanceof Error ? error.message : String(error);
      if (this.#said.get(what) !== detail) notice(detail);
      this.#said.set(what, detail);
      return false;
    }
  }
}
