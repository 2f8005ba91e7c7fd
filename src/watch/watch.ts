import { parseSpiffeId, type SpiffeId } from '../core/spiffe-id.ts';
import { entriesOf } from '../registration/entries.ts';
import type { PublishedCrl } from '../revocation/published-crls.ts';
import type { Mutation, StoreReader } from '../store/port.ts';
import { type CrlEventJson, patchMaxBytes } from '../wire/watch.ts';
import { type CrlPatch, makePatch } from '../x509/crl-patch.ts';
import { crlLength } from '../x509/crl-tbs.ts';
import { encodeEvent } from './encoding.ts';
import type { WatchHub } from './hub.ts';
import type { Holder } from './ring.ts';

/** Whose certificates an operator has renewed now. */
export type RenewTarget = { spiffeId: string } | { entryId: string } | { issuerKeyId: string };

interface Parts {
  hub: WatchHub;
  store: Pick<StoreReader, 'entry' | 'entries'>;
  /** Size of the log when the server started: what is older is state, and no event of this life. */
  firstLeafIndex: number;
  /** Cuts every other connection of a client whose certificate was revoked. */
  cutConnections: (certificate: { issuerKeyId: string; serial: string }) => void;
  /** Told of what could not be announced, or a CRL not as a patch. */
  failed: (error: unknown) => void;
}

/**
 * Bytes of a patch times streams: TLS encrypts for each what it is sent, and holds it until it is read. Past that they
 * fetch the CRL, which is served no faster than it is read.
 */
const fanOutMaxBytes = 128 * 1024 * 1024;

/** Agents that are told to renew spread over this time: a fleet does not come in step. */
const renewSecondsEach = 0.01;
const renewWithinMaxSeconds = 20;

/** What watchers are told, as it happens: each event has the index of its leaf. */
export class Watch {
  readonly hub: WatchHub;
  readonly #parts: Parts;
  /** The last announcement of each CRL scope: a later CRL is not announced before it. */
  readonly #announcing = new Map<string, Promise<void>>();
  /** Leaf of what changed the bundle last. */
  #bundleIndex: number;

  constructor(parts: Parts) {
    this.hub = parts.hub;
    this.#parts = parts;
    this.#bundleIndex = parts.firstLeafIndex;
  }

  /** Takes every mutation that is durable, at once. Never throws: who commits has nothing to do with who watches. */
  committed(mutation: Mutation, leafIndex: number): void {
    try {
      this.#committed(mutation, leafIndex);
    } catch (error) {
      this.#parts.failed(error);
    }
  }

  #committed(mutation: Mutation, leafIndex: number): void {
    const { hub, cutConnections } = this.#parts;
    if (mutation.kind === 'revocation' && mutation.revocation.reason !== 'removeFromCRL') {
      hub.endCertificate(mutation.revocation);
      cutConnections(mutation.revocation);
    } else if (mutation.kind === 'entry-suspended' || mutation.kind === 'entry-resumed') {
      this.#entryChanged(mutation.entryId, leafIndex);
    } else if (mutation.kind === 'entry-created') this.#entriesChanged(mutation.entry.parentId, leafIndex);
    else if (mutation.kind === 'entry-deleted') {
      this.#entriesChanged(mutation.parentId, leafIndex);
      hub.endEntry(mutation.entryId).catch(this.#parts.failed);
    } else if (mutation.kind === 'statement' || mutation.kind === 'jwt-key') this.#bundleIndex = leafIndex;
  }

  /** Takes each CRL that is served from now on, with the one of its scope before it. */
  crlReleased(crl: PublishedCrl, previous: PublishedCrl | undefined): void {
    const { scope } = crl;
    if (scope !== 'full' && scope !== 'delta') return;
    const part = `${crl.issuerKeyId} ${scope}`;
    const before = this.#announcing.get(part) ?? Promise.resolve();
    const announced = before.then(() => this.#announce(part, scope, crl, previous)).catch(this.#parts.failed);
    this.#announcing.set(part, announced);
  }

  /** The bundle that is served from now on has this sequence. */
  bundleRenewed(sequence: number): void {
    const event = {
      id: this.#bundleIndex,
      bytes: encodeEvent('bundle', { sequence }, this.#bundleIndex),
    };
    this.#parts.hub.announce('bundle', encodeEvent('bundle', { sequence }), event);
  }

  /** The bundle that is served at the start. */
  bundleServed(sequence: number): void {
    this.#parts.hub.announce('bundle', encodeEvent('bundle', { sequence }));
  }

  /**
   * Has holders renew what is older, and agents what they hold for workloads; `leafIndex`: of the operator's deed. Returns how many
   * streams were told.
   */
  renewNow(target: RenewTarget, leafIndex: number): number {
    const { hub } = this.#parts;
    const isHolder = (holder: Holder): boolean => holder.leafIndex < leafIndex && isOf(holder, target);
    const bytes = encodeEvent('renew', { reason: 'operator' }, leafIndex);
    hub.order({ id: leafIndex, bytes, concerns: isHolder });
    const agents = this.#agentsWith(target);
    const told = hub.count(agents);
    const withinSeconds = Math.min(renewWithinMaxSeconds, Math.ceil((told - 1) * renewSecondsEach));
    const order = { before: leafIndex, withinSeconds, ...target };
    const orderBytes = encodeEvent('renew-workloads', order, leafIndex);
    hub.order({ id: leafIndex, bytes: orderBytes, concerns: agents });
    return hub.count(isHolder) + told;
  }

  /** Agents that may hold certificates of a target for their workloads. */
  #agentsWith(target: RenewTarget): (holder: Holder) => boolean {
    if ('issuerKeyId' in target) return (holder) => holder.agent === undefined;
    const { store } = this.#parts;
    const entries =
      'entryId' in target ? [store.entry(target.entryId)] : entriesOf(store, parseSpiffeId(target.spiffeId));
    const parents = new Set(entries.map((entry) => entry?.parentId));
    return (holder) => holder.agent === undefined && parents.has(holder.spiffeId);
  }

  async #announce(
    part: string,
    scope: 'full' | 'delta',
    crl: PublishedCrl,
    previous: PublishedCrl | undefined,
  ): Promise<void> {
    const { hub, firstLeafIndex, failed } = this.#parts;
    const { issuerKeyId, url, leafIndex } = crl;
    const data = { issuerKeyId, scope, crlNumber: Number(crl.crlNumber), from: null, url };
    const state = encodeEvent('crl', data);
    if (leafIndex < firstLeafIndex) return hub.announce(part, state);
    const maxBytes = fanOutMaxBytes / Math.max(1, hub.size);
    const patch = previous && (await patchOf(previous, crl, maxBytes).catch(failed));
    const patched: CrlEventJson = patch
      ? { ...data, from: Number(previous.crlNumber), patch: patchJson(patch) }
      : data;
    hub.announce(part, state, { id: leafIndex, bytes: encodeEvent('crl', patched, leafIndex) });
  }

  /** Told to its holders only; a suspended one has no stream from then on. */
  #entryChanged(entryId: string, leafIndex: number): void {
    const { hub, store, failed } = this.#parts;
    const entry = store.entry(entryId);
    if (!entry) return;
    const suspended = entry.suspendedAtMs !== undefined;
    const bytes = encodeEvent('entry', { entryId, version: entry.version, suspended }, leafIndex);
    hub.publish({ id: leafIndex, bytes, concerns: (holder) => holder.entryId === entryId });
    this.#entriesChanged(entry.parentId, leafIndex);
    if (suspended) hub.endEntry(entryId).catch(failed);
  }

  /** Told to the agent that asks for them. */
  #entriesChanged(parentId: SpiffeId | undefined, leafIndex: number): void {
    if (parentId === undefined) return;
    const bytes = encodeEvent('entries', { sequence: leafIndex }, leafIndex);
    this.#parts.hub.publish({ id: leafIndex, bytes, concerns: (holder) => isAgent(holder, parentId) });
  }
}

/** The present sequence of the entries that a holder asks for, where it is or was a parent of any: one look-up in an index. */
export function entriesState(store: Pick<StoreReader, 'entriesChangedBy'>, holder: Holder): Buffer[] {
  const sequence = store.entriesChangedBy(holder.spiffeId);
  return sequence === undefined || !isAgent(holder, holder.spiffeId)
    ? []
    : [encodeEvent('entries', { sequence })];
}

/** What an agent got for a workload of the same name makes nobody the agent. */
function isAgent(holder: Holder, parentId: SpiffeId): boolean {
  return holder.spiffeId === parentId && holder.agent === undefined;
}

/** Undefined also where it would hardly be smaller than the CRL. */
function patchOf(previous: PublishedCrl, crl: PublishedCrl, maxBytes: number): Promise<CrlPatch | undefined> {
  return makePatch(previous.der, crl.der, Math.min(maxBytes, patchMaxBytes, crlLength(crl.der)));
}

function patchJson({ head, added, removed, tail }: CrlPatch): CrlEventJson['patch'] {
  const base64 = (bytes: Buffer): string => bytes.toString('base64');
  return { head: base64(head), added: base64(added), removed: [...removed], tail: base64(tail) };
}

function isOf(holder: Holder, target: RenewTarget): boolean {
  if ('spiffeId' in target) return holder.spiffeId === target.spiffeId;
  if ('entryId' in target) return holder.entryId === target.entryId;
  return holder.issuerKeyId === target.issuerKeyId;
}
