import { createPrivateKey, createPublicKey } from 'node:crypto';
import { VouchError } from '../../core/errors.ts';
import { type AgentCache, type AgentCacheJson, agentCacheSchema } from '../../wire/agent-cache.ts';
import type { EntriesAnswer } from '../../wire/agent.ts';
import { validatePath } from '../../x509/path.ts';
import { toleratedSkewMs } from '../answer.ts';
import type { AgentState } from '../state.ts';
import { type AgentEntry, agentEntry } from './entry.ts';
import { assertOfEntry } from './svid-answer.ts';
import type { HeldSvid, SvidSlot } from './svid-slot.ts';

/** What a restart goes on with. */
export interface Restored {
  entries: EntriesAnswer;
  svids: { entryId: string; held: HeldSvid }[];
  /** Why some were left out. */
  problems: string[];
}

/** The content of the cache, to be sealed. */
export function cacheContent(entries: EntriesAnswer, slots: readonly SvidSlot[], nowMs: number): Buffer {
  const content: AgentCacheJson = {
    version: 1,
    savedAtMs: nowMs,
    ...entries,
    svids: slots.flatMap(({ entry, held }) =>
      held === undefined
        ? []
        : {
            ...held,
            entryId: entry.entryId,
            chain: held.chain.map((der) => der.toString('base64')),
            keyPkcs8: held.keyPkcs8.toString('base64'),
          },
    ),
  };
  return Buffer.from(JSON.stringify(content));
}

/**
 * Reads what was sealed and checks it as if it came from the server: each certificate by path, entry and key. What has
 * expired is left out. Throws `config-state`.
 */
export function restored(content: Buffer, state: AgentState, nowMs: number): Restored {
  const { svids, entries, sequence } = parsed(content);
  const problems: string[] = [];
  const attempt = <T>(work: () => T): T[] => {
    try {
      return [work()];
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
      return [];
    }
  };
  const known = entries.flatMap((json) => attempt(() => agentEntry(json, state.trustDomain)));
  const byId = new Map(known.map((entry) => [entry.entryId, entry]));
  const held = svids.flatMap((cached) => {
    const entry = byId.get(cached.entryId);
    if (entry === undefined) return [];
    return attempt(() => ({ entryId: cached.entryId, held: heldOf(cached, entry, state, nowMs) }));
  });
  return { entries: { sequence, entries }, svids: held, problems };
}

function parsed(content: Buffer): AgentCache {
  try {
    return agentCacheSchema.parse(JSON.parse(content.toString('utf8')));
  } catch (cause) {
    throw new VouchError('config-state', 'the sealed cache is of another version', { cause });
  }
}

function heldOf(
  { chain, keyPkcs8, serial, entryVersion, issuerKeyId, proof, renewal }: AgentCache['svids'][number],
  entry: AgentEntry,
  { root, trustDomain }: AgentState,
  nowMs: number,
): HeldSvid {
  const [leaf] = validatePath({ chain, roots: [root], nowMs, skewMs: toleratedSkewMs, trustDomain });
  if (leaf === undefined || leaf.serial !== serial)
    throw new VouchError('config-state', 'the sealed cache holds another certificate than it says');
  if (nowMs > leaf.notAfterMs + 999)
    throw new VouchError('config-state', `the certificate of ${entry.spiffeId} has expired`);
  assertOfEntry(leaf, entry);
  const key = createPrivateKey({ key: keyPkcs8, format: 'der', type: 'pkcs8' });
  if (!createPublicKey(key).export({ format: 'der', type: 'spki' }).equals(leaf.spki))
    throw new VouchError('config-state', `the key of ${entry.spiffeId} in the sealed cache is another`);
  const { notBeforeMs, notAfterMs } = leaf;
  const { spiffeId } = entry;
  return {
    ...{
      entryVersion,
      spiffeId,
      chain,
      keyPkcs8,
      serial,
      notBeforeMs,
      notAfterMs,
      issuerKeyId,
      proof,
      renewal,
    },
  };
}
