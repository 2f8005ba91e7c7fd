import type { AgentEntry } from './entry.ts';

/** What a line names at most: an operator can suspend thousands at once. */
const namedMax = 3;

/** What an operator took from workloads or gave back to them, a line for the log each; nothing of what is new. */
export function entryChanges(
  before: ReadonlyMap<string, AgentEntry>,
  entries: readonly AgentEntry[],
): readonly string[] {
  const left = new Set(entries.map(({ entryId }) => entryId));
  const wasSuspended = ({ entryId }: AgentEntry) => before.get(entryId)?.suspended;
  const changes: [what: string, AgentEntry[]][] = [
    ['suspended, not served', entries.filter((one) => one.suspended && wasSuspended(one) !== true)],
    [
      'resumed, served with its next certificate',
      entries.filter((one) => !one.suspended && wasSuspended(one)),
    ],
    [
      'no longer an entry of this agent, not served',
      [...before.values()].filter(({ entryId }) => !left.has(entryId)),
    ],
  ];
  return changes.filter(([, of]) => of.length > 0).map(([what, of]) => `${what}: ${named(of.map(nameOf))}`);
}

function nameOf({ spiffeId, entryId }: AgentEntry): string {
  return `${spiffeId} (entry ${entryId})`;
}

/** The first few of many and how many more there are, for a line of the log. */
export function named(all: readonly string[]): string {
  const names = all.slice(0, namedMax).join(', ');
  const more = all.length - namedMax;
  return more > 0 ? `${names} and ${more} more` : names;
}
