import { VouchError } from '../../core/errors.ts';
import {
  isReserved,
  parseSpiffeId,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from '../../core/spiffe-id.ts';
import type { AgentEntryJson } from '../../wire/agent.ts';

/** A registration entry that names this agent as its parent. */
export interface AgentEntry extends AgentEntryJson {
  spiffeId: SpiffeId;
}

/** An entry as the server, or the cache, has it. Throws `denied-server` for an identity that no agent may be given. */
export function agentEntry(json: AgentEntryJson, trustDomain: TrustDomain): AgentEntry {
  const spiffeId = parseSpiffeId(json.spiffeId);
  if (trustDomainOf(spiffeId) !== trustDomain || isReserved(spiffeId))
    throw new VouchError('denied-server', `entry ${json.entryId} is for ${spiffeId}, which is no workload's`);
  return { ...json, spiffeId };
}
