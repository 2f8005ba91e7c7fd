import { randomBytes } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import { type RegistrationEntry, selectorText } from '../core/registration.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { requireProfile } from '../issuance/profile.ts';
import { Slice } from '../jobs/slice.ts';
import { recordLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { StoreReader } from '../store/port.ts';
import { agentEntryMaxBytes } from '../wire/agent.ts';
import { agentEntryBytes } from './agent-entries.ts';
import {
  allowedClient,
  eachOnce,
  registrableAddress,
  registrableDnsName,
  registrableHint,
  registrableId,
  registrableLifetime,
} from './names.ts';
import { workloadSelector } from './selectors.ts';

/** What an operator asks for; checked here, not before. */
export interface EntryRequest {
  spiffeId: string;
  parentId: string;
  selectors: readonly string[];
  dnsNames: readonly string[];
  ipAddresses: readonly string[];
  allowedClients: readonly string[];
  hint: string;
  profile: string;
  lifetimeSeconds?: number | undefined;
}

/** An entry that was asked for. */
export interface MadeEntry {
  entry: RegistrationEntry;
  /** False where there was just such an entry: nothing was made. */
  isNew: boolean;
  /** Others by which the same processes have the same identity of the same agent. */
  alike: readonly RegistrationEntry[];
}

const pageRows = 100;

interface Parts {
  store: Pick<StoreReader, 'entry' | 'entries' | 'isEntryOnRecord'>;
  sequencer: Pick<Sequencer, 'record'>;
  clockGuard: ClockGuard;
}

/** Registers what agents ask for in the name of their workloads, and deletes registration entries. */
export class WorkloadEntries {
  readonly #parts: Parts;
  readonly #trustDomain: TrustDomain;
  /** What is being made, by all that it says: who asks again meanwhile waits for that. */
  readonly #making = new Map<string, Promise<MadeEntry>>();

  constructor(parts: Parts, trustDomain: TrustDomain) {
    this.#parts = parts;
    this.#trustDomain = trustDomain;
  }

  /**
   * Idempotent: asked again for all the same, the entry that there is. Throws `request-malformed` for what cannot be issued
   * or attested, `denied-suspended` for a suspended identity.
   */
  async create(request: EntryRequest, operator: string): Promise<MadeEntry> {
    const entry = this.#entry(request, this.#parts.clockGuard.issuanceTimeMs());
    if (agentEntryBytes(entry) > agentEntryMaxBytes)
      throw new VouchError(
        'request-malformed',
        `an entry has at most ${agentEntryMaxBytes} bytes, since agents read all of theirs at each change: use fewer or shorter names`,
      );
    const all = allOf(entry);
    const underWay = this.#making.get(all);
    if (underWay !== undefined) return { ...(await underWay), isNew: false };
    const making = this.#findOrMake(entry, operator);
    this.#making.set(all, making);
    try {
      return await making;
    } finally {
      this.#making.delete(all);
    }
  }

  async #findOrMake(entry: RegistrationEntry, operator: string): Promise<MadeEntry> {
    const alike = await this.#alike(entry);
    const same = alike.find((one) => one.suspendedAtMs === undefined && allOf(one) === allOf(entry));
    if (same === undefined) await this.#record(entry, operator);
    const made = same ?? entry;
    return { entry: made, isNew: same === undefined, alike: alike.filter((one) => one !== made) };
  }

  async #alike({ parentId, spiffeId, selectors }: RegistrationEntry): Promise<RegistrationEntry[]> {
    const { store } = this.#parts;
    const wanted = selectorsOf(selectors);
    const alike: RegistrationEntry[] = [];
    const slice = new Slice();
    for (let after: { after?: string } = {}; ; ) {
      const by = { spiffeId, ...(parentId === undefined ? {} : { parentId }) };
      const page = store.entries({ limit: pageRows, ...by, ...after });
      alike.push(...page.filter((one) => selectorsOf(one.selectors) === wanted));
      const last = page.at(-1);
      if (last === undefined || page.length < pageRows) return alike;
      after = { after: last.entryId };
      if (slice.isOver) await slice.turn();
    }
  }

  async #record(entry: RegistrationEntry, operator: string): Promise<void> {
    // All that the row holds: `vouch log verify` compares it.
    const leaf = recordLeaf('entry', entry.createdAtMs, {
      event: 'created',
      operator,
      entryId: entry.entryId,
      spiffeId: entry.spiffeId,
      parentId: entry.parentId,
      selectors: entry.selectors.map(({ type, value }) => ({ type, value })),
      dnsNames: [...entry.dnsNames],
      ipAddresses: [...entry.ipAddresses],
      allowedClients: [...entry.allowedClients],
      hint: entry.hint,
      profile: entry.profile,
      lifetimeSeconds: entry.lifetimeSeconds,
    });
    await this.#parts.sequencer.record({ kind: 'entry-created', leaf, entry });
  }

  /** What it issued goes on to count. Resolves to when it was deleted, Unix milliseconds. Throws `request-not-found`. */
  async delete(
    entryId: string,
    operator: string,
  ): Promise<{ entry: RegistrationEntry; deletedAtMs: number }> {
    const { sequencer, clockGuard } = this.#parts;
    const entry = this.require(entryId);
    const atMs = clockGuard.revocationTimeMs();
    const leaf = recordLeaf('entry', atMs, { event: 'deleted', entryId, operator });
    await sequencer.record({ kind: 'entry-deleted', leaf, entryId, parentId: entry.parentId, atMs });
    return { entry, deletedAtMs: atMs };
  }

  /** Throws `request-not-found`. */
  require(entryId: string): RegistrationEntry {
    const { store } = this.#parts;
    const entry = store.entry(entryId);
    if (entry) return entry;
    throw new VouchError(
      'request-not-found',
      store.isEntryOnRecord(entryId)
        ? `the registration entry ${entryId} was deleted; \`vouch revoke --entry ${entryId}\` ends what it issued`
        : `no registration entry ${JSON.stringify(entryId.slice(0, 40))}; \`vouch entry list\` shows them`,
    );
  }

  #entry(request: EntryRequest, nowMs: number): RegistrationEntry {
    const spiffeId = registrableId(request.spiffeId, this.#trustDomain);
    const parentId = registrableId(request.parentId, this.#trustDomain);
    if (spiffeId === parentId)
      throw new VouchError(
        'request-malformed',
        `${spiffeId} cannot be its own parent: name the agent of the host`,
      );
    if (request.selectors.length === 0)
      throw new VouchError('request-malformed', 'a workload is told by selectors: give one at least');
    const dnsNames = eachOnce(request.dnsNames, registrableDnsName);
    requireProfile(request.profile, dnsNames);
    return {
      entryId: `e_${randomBytes(8).toString('hex')}`,
      spiffeId,
      parentId,
      selectors: [...new Set(request.selectors)].map(workloadSelector),
      dnsNames,
      ipAddresses: eachOnce(request.ipAddresses, registrableAddress),
      allowedClients: eachOnce(request.allowedClients, allowedClient),
      hint: registrableHint(request.hint),
      profile: request.profile,
      lifetimeSeconds: registrableLifetime(request.lifetimeSeconds),
      version: 1,
      suspendedAtMs: undefined,
      createdAtMs: nowMs,
    };
  }
}

/** Equal for two that no agent, workload or certificate could tell apart but by their id. */
function allOf(entry: RegistrationEntry): string {
  const { spiffeId, parentId, selectors, dnsNames, ipAddresses, allowedClients, hint, profile } = entry;
  return JSON.stringify([
    ...[spiffeId, parentId, selectorsOf(selectors), dnsNames, ipAddresses],
    ...[allowedClients.toSorted(), hint, profile, entry.lifetimeSeconds],
  ]);
}

/** In whatever order they were given. */
function selectorsOf(selectors: RegistrationEntry['selectors']): string {
  return selectors.map(selectorText).sort().join('\n');
}
