import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readCrl, type VerifiedCrl, verifyCrl } from '../client/crl.ts';
import { CrlSource } from '../client/crl-source.ts';
import { currentFolder, fileNames } from '../client/delivered.ts';
import type { Clock } from '../core/clock.ts';
import { assertFresh, assertNotListed, type ChainAuthority } from './crls.ts';
import { replaceFile } from './deliver/durable-file.ts';
import { crlPem } from './deliver/files.ts';
import type { Change } from './deliver/hook.ts';
import { type Held, readHeld } from './held.ts';
import { withNumbers } from './obtain.ts';
import { pauseMs } from './retry.ts';
import { formatState, readState, stateFile } from './state.ts';

/** The CRLs of CAs above the issuer change in ceremonies: they are asked for each so many rounds. */
const upperEvery = 10;

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
  /** Our certificate or its issuer is on one. */
  revoked: (detail: string) => void;
}

/** Keeps crl.pem of the current generation as new as the published CRLs, by conditional GETs. */
export class CrlKeeper {
  readonly #parts: CrlKeeperParts;
  readonly #sources = new Map<string, CrlSource>();
  readonly #said = new Map<string, string>();
  #held: Held;
  #crls: Map<string, VerifiedCrl>;
  #round = 0;
  /** True from a newer CRL until it stands in crl.pem. */
  #unwritten = false;

  constructor(held: Held, parts: CrlKeeperParts) {
    this.#parts = parts;
    this.#held = held;
    this.#crls = new Map(held.crls);
  }

  /** Another generation is current: what is in it counts, and everything is fetched once more. */
  adopt(held: Held): void {
    const { folder, leaf } = this.#held.delivered;
    if (held.delivered.folder === folder && held.delivered.leaf.serial === leaf.serial) return;
    this.#held = held;
    this.#crls = new Map(held.crls);
    this.#unwritten = false;
    this.close();
    this.#round = 0;
    this.#parts.changed('certificate');
  }

  /** Rounds until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { signal, everyMs } = this.#parts;
    let failures = 0;
    while (!signal.aborted) {
      const fine = await this.refresh();
      failures = fine ? 0 : failures + 1;
      // One failure is a hiccup: a revocation must not wait for it. From the second on we back off.
      const extra = failures < 2 ? 0 : pauseMs(failures - 1, { baseMs: everyMs, capMs: 10_000 });
      const pause = everyMs * (0.9 + 0.2 * Math.random()) + extra;
      await sleep(pause, undefined, { signal }).catch(() => undefined);
    }
    this.close();
  }

  /**
   * One round. True where every CRL could be had and crl.pem of the current generation has them; what could not is said
   * once. Never rejects.
   */
  async refresh(): Promise<boolean> {
    const followed = await this.#attempt('the current generation', () => this.#follow());
    const held = this.#held;
    const isIssuers = ({ subject }: ChainAuthority, index: number): boolean =>
      index === 0 || subject === undefined;
    const due = held.chain.filter((one, index) => isIssuers(one, index) || this.#round % upperEvery === 0);
    this.#round += 1;
    const fetched = await Promise.all(due.map((one) => this.#refreshOne(one)));
    const written =
      !this.#unwritten || held !== this.#held || (await this.#attempt('crl.pem', () => this.#write(held)));
    return followed && written && !fetched.includes(false);
  }

  /** What is known, by the key id of who signed. */
  get crls(): ReadonlyMap<string, VerifiedCrl> {
    return this.#crls;
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

  async #refreshOne(one: ChainAuthority): Promise<boolean> {
    const isFine = await this.#attempt(one.keyId, async () => {
      await this.#fetch(one);
      const crl = this.#crls.get(one.keyId);
      if (crl === undefined) return;
      if (one.subject && crl.has(one.subject.serial)) this.#tellRevoked(one, crl);
      assertFresh(crl, this.#parts.clock.now());
    });
    // One of a token that is away goes stale: that slows down no other.
    return isFine || one.subject === undefined;
  }

  async #fetch(one: ChainAuthority): Promise<void> {
    if (one.url === undefined) return;
    const source = this.#sources.get(one.keyId) ?? new CrlSource(one.url);
    this.#sources.set(one.keyId, source);
    const fetched = await source.fetch(this.#parts.signal);
    if (fetched === 'unchanged') return;
    const known = [...this.#crls.values()];
    const floor = withNumbers(this.#held.state.seen.crlNumbers, known).get(one.keyId);
    const crl = verifyCrl(readCrl(fetched.der), one.authority, floor);
    source.accept(fetched);
    if (crl.crlNumber === this.#crls.get(one.keyId)?.crlNumber) return;
    this.#crls.set(one.keyId, crl);
    this.#unwritten = true;
  }

  async #write(held: Held): Promise<void> {
    const { dir, changed, exclusively } = this.#parts;
    await exclusively(async () => {
      if (held !== this.#held) return;
      const crls = held.chain.flatMap(({ keyId }) => this.#crls.get(keyId) ?? []);
      const state = readState(dir) ?? held.state;
      const seen = { ...state.seen, crlNumbers: withNumbers(state.seen.crlNumbers, crls) };
      await replaceFile(join(dir, stateFile), formatState({ ...state, seen }), 0o600);
      await replaceFile(
        join(held.delivered.folder, fileNames.crl),
        crlPem(crls.map((crl) => crl.der)),
        0o644,
      );
      this.#unwritten = false;
      changed('crl');
    });
  }

  #tellRevoked(one: ChainAuthority, crl: VerifiedCrl): void {
    try {
      assertNotListed(crl, one.subject);
    } catch (error) {
      this.#parts.revoked(error instanceof Error ? error.message : String(error));
    }
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
