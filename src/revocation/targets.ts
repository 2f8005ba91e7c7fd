import { setImmediate as turn } from 'node:timers/promises';
import { VouchError } from '../core/errors.ts';
import type { Serial } from '../core/serial.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { entriesOf } from '../registration/entries.ts';
import type { CommonOrigin, StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';

/** Unix milliseconds, both inclusive. */
export type Interval = { fromMs: number; toMs: number };

type Origin =
  | { by: 'id'; spiffeId: SpiffeId }
  | { by: 'token'; tokenId: string }
  | { by: 'entry'; entryId: string }
  /** Its own certificates, what was issued on its asking, and so on where that asked for others. */
  | { by: 'agent'; agentId: SpiffeId }
  | { by: 'node'; node: string }
  /** What came of join tokens that he made. */
  | { by: 'operator'; operator: string };

/**
 * What an operator revokes by. `only` ends one certificate, not its lineage. With `issued` what was issued then, and
 * what was renewed from it since; nothing is stopped from issuing.
 */
export type RevocationTarget =
  | { by: 'serial'; serial: Serial; only: boolean }
  | (Origin & { issued?: Interval })
  | { by: 'issued'; issued: Interval };

/** What would issue again. */
export type Source = { entryId: string } | { tokenId: string };

/** Certificates read at once: a few milliseconds, and one commit of the log. */
const pageRows = 64;
/** Join tokens read at once. */
const tokensAtOnce = 500;

/** Finds what a target means, a page at a time; between two pages the caller gives way to others. */
export class Targets {
  readonly #store: StoreReader;
  readonly #clockGuard: ClockGuard;

  constructor(parts: { store: StoreReader; clockGuard: ClockGuard }) {
    this.#store = parts.store;
    this.#clockGuard = parts.clockGuard;
  }

  /**
   * Its unexpired certificates, revoked or not, the last to expire first. One may come twice, a page may be empty, and
   * what is issued meanwhile may be missed: the next walk has it.
   */
  *pages(target: RevocationTarget): Generator<CertificateStanding[]> {
    if (target.by === 'serial') yield* this.#lineageOf(target.serial, target.only);
    else if (target.issued) yield* this.#issued(target, target.issued);
    else if (target.by === 'agent') yield* this.#ofAgent(target.agentId, new Set());
    else yield* this.#unexpired(originOf(target));
  }

  /** Unexpired certificates of a key, whoever has them. */
  ofKey(spkiSha256: string): CertificateStanding[] {
    return [...this.#unexpired({ spkiSha256 })].flat();
  }

  /**
   * What would issue to the target again, in parts. Of a node: the entries from which it got certificates itself, not through an
   * agent. Of an operator: some of his join tokens, more once these are revoked.
   */
  *sources(target: RevocationTarget): Generator<Source[]> {
    if (target.by === 'serial' || target.by === 'issued' || target.issued) return;
    const store = this.#store;
    if (target.by === 'token') yield [{ tokenId: target.tokenId }];
    else if (target.by === 'operator')
      yield store.liveTokensOf(target.operator, this.#clockGuard.earliestTimeMs(), tokensAtOnce);
    else if (target.by === 'entry') yield store.entry(target.entryId) ? [{ entryId: target.entryId }] : [];
    else if (target.by === 'node') yield* this.#entriesOfNode(target.node);
    else yield entriesOf(store, target.by === 'id' ? target.spiffeId : target.agentId);
  }

  /** Throws `request-not-found` where there is nothing of it. */
  async require(target: RevocationTarget): Promise<void> {
    if (target.by === 'serial' && this.named(target.serial).some(({ revoked }) => revoked)) return;
    if (target.by === 'token') return this.requireToken(target.tokenId);
    for (const found of [this.sources(target), this.pages(target)])
      for (const page of found) {
        if (page.length > 0) return;
        await turn();
      }
    throw new VouchError(
      'request-not-found',
      'nothing unexpired matches; `vouch cert list` shows what is live',
    );
  }

  /** Throws `request-not-found`. */
  requireToken(tokenId: string): void {
    if (this.#store.token(tokenId) === undefined)
      throw new VouchError('request-not-found', `no join token ${tokenId}; \`vouch token list\` shows them`);
  }

  /** Also when expired. Throws `request-not-found`. */
  named(serial: Serial): CertificateStanding[] {
    const found = this.#store.certificatesBySerial(serial);
    if (found.length > 0) return found;
    throw new VouchError(
      'request-not-found',
      `no certificate has the serial ${serial}; \`vouch cert list\` shows them`,
    );
  }

  isExpired({ notAfterMs }: CertificateStanding): boolean {
    return notAfterMs < this.#nowMs();
  }

  /** A certificate counts through the whole of the second that its notAfter names. */
  #nowMs(): number {
    return this.#clockGuard.earliestTimeMs() - 999;
  }

  *#unexpired(by: CommonOrigin, nowMs = this.#nowMs()): Generator<CertificateStanding[]> {
    for (let after: number | undefined; ; ) {
      const page = this.#store.unexpiredCertificates(by, nowMs, { after, limit: pageRows });
      if (page.length > 0) yield page;
      if (page.length < pageRows) return;
      after = page.at(-1)?.leafIndex;
    }
  }

  *#lineageOf(serial: Serial, only: boolean): Generator<CertificateStanding[]> {
    for (const { lineage } of this.named(serial))
      for (const page of this.#unexpired({ lineage }))
        yield page.filter((one) => !only || one.serial === serial);
  }

  /** `asking` takes in who asked for what is found, this agent first. */
  *#ofAgent(agentId: SpiffeId, asking: Set<SpiffeId>): Generator<CertificateStanding[]> {
    yield* this.#unexpired({ spiffeId: agentId });
    asking.add(agentId);
    // A set gives what is added on the way, too.
    for (const agent of asking)
      for (const page of this.#unexpired({ agentId: agent })) {
        for (const { spiffeId } of page) asking.add(spiffeId);
        yield page;
      }
  }

  *#issued(
    target: Exclude<RevocationTarget, { by: 'serial' }>,
    issuedBetween: Interval,
  ): Generator<CertificateStanding[]> {
    const asking = new Set<SpiffeId>();
    if (target.by === 'agent') for (const _page of this.#ofAgent(target.agentId, asking)) yield [];
    // What was renewed from an expired one counts.
    for (const page of this.#unexpired({ issuedBetween }, 0)) {
      const found = page.filter((one) => this.#isOf(target, one, asking));
      let descendants: CertificateStanding[] = [];
      for (const lineage of new Set(found.map((one) => one.lineage)))
        for (const renewals of this.#unexpired({ lineage })) {
          descendants.push(...renewals.filter(({ issuedAtMs }) => issuedAtMs >= issuedBetween.fromMs));
          if (descendants.length < pageRows) continue;
          yield descendants;
          descendants = [];
        }
      yield descendants;
    }
  }

  #isOf(
    target: Exclude<RevocationTarget, { by: 'serial' }>,
    { spiffeId, tokenId, entryId, agent, node }: CertificateStanding,
    asking: ReadonlySet<SpiffeId>,
  ): boolean {
    if (target.by === 'issued') return true;
    if (target.by === 'id') return spiffeId === target.spiffeId;
    if (target.by === 'token') return tokenId === target.tokenId;
    if (target.by === 'entry') return entryId === target.entryId;
    if (target.by === 'node') return node === target.node;
    if (target.by === 'agent')
      return spiffeId === target.agentId || (agent !== undefined && asking.has(agent));
    return tokenId !== undefined && this.#store.token(tokenId)?.createdBy === target.operator;
  }

  *#entriesOfNode(node: string): Generator<Source[]> {
    const seen = new Set<string>();
    for (const page of this.#unexpired({ node })) {
      const own = page.flatMap(({ agent, entryId }) => (agent === undefined ? (entryId ?? []) : []));
      const found = [...new Set(own)].filter((entryId) => !seen.has(entryId));
      for (const entryId of found) seen.add(entryId);
      yield found.map((entryId) => ({ entryId }));
    }
  }
}

function originOf(
  target: Exclude<Origin, { by: 'agent' }> | { by: 'issued'; issued: Interval },
): CommonOrigin {
  if (target.by === 'id') return { spiffeId: target.spiffeId };
  if (target.by === 'token') return { tokenId: target.tokenId };
  if (target.by === 'entry') return { entryId: target.entryId };
  if (target.by === 'node') return { node: target.node };
  if (target.by === 'operator') return { operator: target.operator };
  return { issuedBetween: target.issued };
}
