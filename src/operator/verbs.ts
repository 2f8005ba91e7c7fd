import { rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { parseSerial } from '../core/serial.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import type { CreatedToken, TokenRequest, Tokens } from '../enrollment/tokens.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { recordLeaf } from '../sequencer/record.ts';
import { entriesOf } from '../registration/entries.ts';
import { parentNotes } from '../registration/parent-notes.ts';
import type { EntryRequest, WorkloadEntries } from '../registration/workload-entries.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { CrlPublishers } from '../revocation/publishers.ts';
import { unlessDone } from '../revocation/events.ts';
import type { MassRevocations } from '../revocation/mass.ts';
import { publishedWithinMs, type Revocation } from '../revocation/revoke.ts';
import type { Signer } from '../signer/port.ts';
import type { Store } from '../store/port.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { RenewTarget } from '../watch/watch.ts';
import type { RenewNowJson } from '../wire/admin.ts';
import { deedOf } from './deeds.ts';
import { RevocationVerbs } from './revocation-verbs.ts';
import { certificateView, crlView, deletedEntryView, entryView, explanation, tokenView } from './views.ts';

/** A page of a list as the CLI asks for it. */
export interface PageRequest {
  after?: string | undefined;
  limit: number;
  id?: string | undefined;
  token?: string | undefined;
  parent?: string | undefined;
}

interface Parts {
  store: Store;
  sequencer: Sequencer;
  signer: Signer;
  tokens: Tokens;
  workloadEntries: WorkloadEntries;
  revocation: Revocation;
  massRevocations: MassRevocations;
  publisher: CrlPublishers;
  clockGuard: ClockGuard;
  metrics: Metrics;
  /** Tells the holders of these certificates to renew; returns how many hear it now. */
  renewNow: (target: RenewTarget, leafIndex: number) => number;
  status: () => object;
  /** Takes in what the root has renewed, and serves it from now on. */
  importRenewal: (files: ReadonlyMap<string, Buffer>, operator: string) => Promise<object>;
  /** Takes in what a CA above made of the root, and serves it from now on. */
  takeChain: (pem: string, operator: string) => Promise<object>;
  /** Copies the whole state into one new file. */
  backup: (file: string) => Promise<void>;
}

const pageMost = 1000;

/** Every operator's verb, behind the admin socket; each that changes something is a leaf with its operator. */
export class OperatorVerbs {
  readonly #parts: Parts;
  /** `vouch revoke` and `vouch release`. */
  readonly revocations: RevocationVerbs;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.revocations = new RevocationVerbs(parts);
  }

  status(): object {
    return this.#parts.status();
  }

  createToken(
    request: Omit<TokenRequest, 'lifetimeSeconds'> & { lifetimeSeconds?: number | undefined },
    operator: string,
  ): Promise<CreatedToken> {
    return this.#parts.tokens.create({ ...request, lifetimeSeconds: request.lifetimeSeconds }, operator);
  }

  tokens(page: PageRequest): object {
    return listed(
      'tokens',
      this.#parts.store.tokens(bounded(page)).map(tokenView),
      page,
      (token) => token.tokenId,
    );
  }

  async revokeToken(tokenId: string, operator: string): Promise<object> {
    await this.#parts.revocation.revokeToken(tokenId, operator);
    return { tokenId, revoked: true };
  }

  certificates(page: PageRequest): object {
    const by = {
      ...(page.id === undefined ? {} : { spiffeId: parseSpiffeId(page.id) }),
      ...(page.token === undefined ? {} : { tokenId: page.token }),
    };
    const nowMs = this.#parts.clockGuard.steadyTimeMs();
    const found = this.#parts.store.certificates({ ...bounded(page), ...by });
    return listed(
      'certificates',
      found.map((certificate) => certificateView(certificate, nowMs)),
      page,
      (one) => String(one.logIndex),
    );
  }

  certificate(serialText: string): object {
    const nowMs = this.#parts.clockGuard.steadyTimeMs();
    return certificateView(this.#named(serialText), nowMs);
  }

  explain(serialText: string): object {
    const { store, clockGuard } = this.#parts;
    return explanation(this.#named(serialText), store, clockGuard.steadyTimeMs());
  }

  entries(page: PageRequest): object {
    const by = {
      ...(page.id === undefined ? {} : { spiffeId: parseSpiffeId(page.id) }),
      ...(page.parent === undefined ? {} : { parentId: parseSpiffeId(page.parent) }),
    };
    return listed(
      'entries',
      this.#parts.store.entries({ ...bounded(page), ...by }).map(entryView),
      page,
      (entry) => entry.entryId,
    );
  }

  entry(entryId: string): object {
    return entryView(this.#parts.workloadEntries.require(entryId));
  }

  /** Idempotent: the answer says whether it was made now. */
  async createEntry(request: EntryRequest, operator: string): Promise<object> {
    const { store, workloadEntries } = this.#parts;
    const { entry, isNew, alike } = await workloadEntries.create(request, operator);
    const { entryId, parentId } = entry;
    const notes = [
      ...(isNew ? [] : [`${entryId} says all of this already: nothing was made`]),
      ...(isNew ? alike : []).map(
        (one) =>
          `${one.entryId} gives the same processes this identity, too: if this entry takes its place, \`vouch entry delete ${one.entryId}\``,
      ),
      ...(parentId === undefined ? [] : parentNotes(store, parentId)),
    ];
    return { ...entryView(entry), created: isNew, notes };
  }

  /** What the entry issued goes on to count: the answer says how much that is. */
  async deleteEntry(entryId: string, operator: string): Promise<object> {
    const { entry, deletedAtMs } = await this.#parts.workloadEntries.delete(entryId, operator);
    const left = await this.revocations.preview({ entry: entryId }, 'unspecified');
    return deletedEntryView(entry, deletedAtMs, left);
  }

  /** Lifts the suspension that a revocation by id or entry left. Idempotent. */
  async resumeEntries(which: { entryId: string } | { spiffeId: string }, operator: string): Promise<object> {
    const { store, sequencer, clockGuard } = this.#parts;
    if ('entryId' in which && !store.entry(which.entryId) && store.isEntryOnRecord(which.entryId))
      throw new VouchError(
        'request-not-found',
        `the registration entry ${which.entryId} was deleted, which is for good: make another with \`vouch entry create\` or \`vouch token create\``,
      );
    const entries =
      'entryId' in which ? [store.entry(which.entryId)] : entriesOf(store, parseSpiffeId(which.spiffeId));
    const found = entries.filter((entry) => entry !== undefined);
    if (found.length === 0)
      throw new VouchError(
        'request-not-found',
        'no registration entry matches; `vouch entry list` shows them',
      );
    const suspended = found.filter((entry) => entry.suspendedAtMs !== undefined);
    for (const { entryId } of suspended) {
      const leaf = recordLeaf('entry', clockGuard.revocationTimeMs(), {
        event: 'resumed',
        entryId,
        operator,
      });
      await unlessDone(sequencer.record({ kind: 'entry-resumed', entryId, leaf }));
    }
    return { resumed: suspended.map((entry) => entry.entryId) };
  }

  /** Asks holders to renew at once: who watches hears it now, who is away when it comes back while this server runs. */
  async renewNow(request: RenewNowJson, operator: string): Promise<object> {
    const target = renewTargetOf(request);
    const logIndex = await this.#operatorRecord('renew-now', operator, request);
    return { told: this.#parts.renewNow(target, logIndex), logIndex };
  }

  crls(): object {
    return { crls: this.#parts.publisher.current().map(crlView) };
  }

  /** Re-signs every CRL now. Throws `unavailable-signer` where not all of them came out. */
  async publishCrls(operator: string): Promise<object> {
    await this.#operatorRecord('crl-publish', operator);
    const { publisher } = this.#parts;
    if (await publisher.publishNow(publishedWithinMs)) return this.crls();
    throw new VouchError(
      'unavailable-signer',
      'not every CRL was signed anew; it is tried again without further action, `vouch status` says what holds it up',
    );
  }

  async backup(file: string, operator: string): Promise<object> {
    await this.#operatorRecord('backup', operator);
    await this.#parts.backup(file);
    return { file, treeSize: this.#parts.store.treeSize() };
  }

  /** `vouch ceremony --import`: root CRL and statement of a renewal. */
  importRenewal(files: readonly { name: string; content: string }[], operator: string): Promise<object> {
    const content = new Map(files.map((file) => [file.name, Buffer.from(file.content, 'base64')]));
    return this.#parts.importRenewal(content, operator);
  }

  /** `vouch ceremony --chain-in`. */
  takeChain(pem: string, operator: string): Promise<object> {
    return this.#parts.takeChain(pem, operator);
  }

  async acceptClock(operator: string): Promise<object> {
    const { clockGuard, store } = this.#parts;
    const doubt = clockGuard.doubt();
    await this.#operatorRecord('clock-accepted', operator);
    const mark = clockGuard.accept();
    await store.setClockMark(mark);
    return { accepted: rfc3339(mark.wallMs), doubt: doubt ?? null };
  }

  /** Has the signer tried once more where it gave up; a PIN that was refused is presented again, once. */
  async retrySigner(operator: string): Promise<object> {
    await this.#operatorRecord('signer-retry', operator);
    const { state, problem } = await this.#parts.signer.retry();
    return { state, problem: problem ?? null };
  }

  /** The log's records of operators' deeds, newest last. */
  audit(page: PageRequest): object {
    const { store } = this.#parts;
    const from = page.after === undefined ? 0 : leafIndexOf(page.after) + 1;
    const to = Math.min(store.treeSize(), from + bounded(page).limit);
    const records = store.leaves(from, Math.max(from, to)).flatMap((bytes, position) => {
      const deed = deedOf(bytes, from + position, store);
      return deed === undefined ? [] : [deed];
    });
    return { records, next: to < store.treeSize() ? String(to - 1) : null };
  }

  /** Resolves to the index of its leaf. */
  #operatorRecord(
    verb: string,
    operator: string,
    about: Readonly<Record<string, string>> = {},
  ): Promise<number> {
    const { sequencer, clockGuard } = this.#parts;
    const leaf = recordLeaf('operator', clockGuard.revocationTimeMs(), { verb, operator, ...about });
    return sequencer.record({ kind: 'operator', leaf });
  }

  #named(serialText: string) {
    const serial = parseSerial(serialText);
    const found = this.#parts.store.certificatesBySerial(serial)[0];
    if (!found)
      throw new VouchError(
        'request-not-found',
        `no certificate has the serial ${serial}; \`vouch cert list\` shows them`,
      );
    return found;
  }
}

function renewTargetOf(request: RenewNowJson): RenewTarget {
  if ('id' in request) return { spiffeId: parseSpiffeId(request.id) };
  return 'entry' in request ? { entryId: request.entry } : { issuerKeyId: request.issuer };
}

function leafIndexOf(text: string): number {
  if (!/^\d{1,15}$/.test(text))
    throw new VouchError('request-malformed', 'no such page: take `next` of the page before as it was given');
  return Number(text);
}

function bounded(page: PageRequest): { after?: string; limit: number } {
  const limit = Math.min(Math.max(page.limit, 1), pageMost);
  return page.after === undefined ? { limit } : { after: page.after, limit };
}

function listed<T>(name: string, items: T[], page: PageRequest, key: (item: T) => string): object {
  const last = items.at(-1);
  return { [name]: items, next: last && items.length >= bounded(page).limit ? key(last) : null };
}
