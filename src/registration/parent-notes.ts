import type { RegistrationEntry } from '../core/registration.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import type { StoreReader } from '../store/port.ts';

/** Of the newest entries so many are looked at for a name that was meant. */
const lookedAt = 500;
const namedMax = 3;
/** Characters that a slip of the fingers changes at one place. */
const slip = 2;

/** What an operator should know of the parent that he names. An entry may come before its agent, so nothing of it is an error. */
export function parentNotes(store: Pick<StoreReader, 'entries'>, parentId: SpiffeId): string[] {
  const known = store.entries({ limit: lookedAt, spiffeId: parentId });
  const agents = known.filter((entry) => entry.parentId === undefined);
  if (agents.some((entry) => entry.suspendedAtMs === undefined)) return [];
  if (agents.length > 0)
    return [
      `${parentId} is suspended: it gets nothing for this entry until \`vouch entry resume --id ${parentId}\``,
    ];
  const [workload] = known;
  if (workload !== undefined)
    return [
      `${parentId} is a workload of ${workload.parentId}, which makes it no agent: an agent enrolls itself, with a join token of its own`,
    ];
  const near = similar(parentId, store.entries({ limit: lookedAt }));
  return [
    `no join token was made for ${parentId} yet: nothing is issued until an agent has enrolled with one (\`vouch token create --id ${parentId}\`)`,
    ...(near.length > 0 ? [`similar to it there is ${near.join(', ')}`] : []),
  ];
}

/** Agents, or who others took for one. */
function similar(parentId: SpiffeId, entries: readonly RegistrationEntry[]): SpiffeId[] {
  const names = new Set(entries.map((entry) => entry.parentId ?? entry.spiffeId));
  return [...names].filter((name) => name !== parentId && isSlip(name, parentId)).slice(0, namedMax);
}

/** Equal but for case, or for a few characters at one place. */
function isSlip(one: string, other: string): boolean {
  if (one.toLowerCase() === other.toLowerCase()) return true;
  const shorter = Math.min(one.length, other.length);
  let start = 0;
  while (start < shorter && one[start] === other[start]) start += 1;
  let end = 0;
  while (end < shorter - start && one.at(-1 - end) === other.at(-1 - end)) end += 1;
  return Math.max(one.length, other.length) - start - end <= slip;
}
