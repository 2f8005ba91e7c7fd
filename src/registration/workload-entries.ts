import { randomBytes } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { requireProfile } from '../issuance/profile.ts';
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

interface Parts {
  store: Pick<StoreReader, 'entry' | 'isEntryOnRecord'>;
  sequencer: Pick<Sequencer, 'record'>;
  clockGuard: ClockGuard;
}

/** Registers what agents ask for in the name of their workloads, and deletes registration entries. */
export class WorkloadEntries {
  readonly #parts: Parts;
  readonly #trustDomain: TrustDomain;

  constructor(parts: Parts, trustDomain: TrustDomain) {
    this.#parts = parts;
    this.#trustDomain = trustDomain;
  }

  /** Throws `request-malformed` for what cannot be issued or attested, `denied-suspended` for a suspended identity. */
  async create(request: EntryRequest, operator: string): Promise<RegistrationEntry> {
    const { sequencer, clockGuard } = this.#parts;
    const entry = this.#entry(request, clockGuard.issuanceTimeMs());
    if (agentEntryBytes(entry) > agentEntryMaxBytes)
      throw new VouchError(
        'request-malformed',
        `an entry has at most ${agentEntryMaxBytes} bytes, since agents read all of theirs at each change: use fewer or shorter names`,
      );
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
    await sequencer.record({ kind: 'entry-created', leaf, entry });
    return entry;
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
