import type { Command } from 'commander';
import { VouchError } from '../core/errors.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import { adminPaths } from '../wire/admin.ts';
import { adminOf, globalsOf, withQuery, yesOption } from './context.ts';
import { answer, table } from './output.ts';
import { entryId, pageLimit, valueOf } from './values.ts';

interface EntryRow {
  entryId: string;
  spiffeId: string;
  selectors: string[];
  dnsNames: string[];
  suspendedAt: string | null;
}

/** `vouch entry list | resume`. Entries are made by `vouch token create`; entries for agents come with the agent. */
export function addEntryVerbs(program: Command): void {
  const entry = program.command('entry').description('registration entries: who gets which identity');
  entry
    .command('list')
    .description('registration entries')
    .option('--id <spiffe-id>', 'of one identity', valueOf('--id', parseSpiffeId))
    .option('--after <entry-id>', 'go on after this one', entryId('--after'))
    .option('--limit <n>', 'rows at the most', pageLimit(), '100')
    .action(async (options: Record<string, string | undefined>, command: Command) => {
      const result = await adminOf(command)<{ entries: EntryRow[]; next: string | null }>(
        'GET',
        withQuery(adminPaths.entries, options),
      );
      answer(globalsOf(command), result, ({ entries }) =>
        table(
          ['ENTRY', 'IDENTITY', 'SELECTORS', 'DNS', 'SUSPENDED'],
          entries.map((one) => [
            one.entryId,
            one.spiffeId,
            one.selectors.join(' '),
            one.dnsNames.join(' '),
            one.suspendedAt ?? '',
          ]),
        ),
      );
    });
  entry
    .command('resume')
    .description('lift the suspension that `vouch revoke` by --id, --entry, --agent or --node left')
    .argument('[entry-id]', 'as `vouch entry list` shows it', entryId('vouch entry resume'))
    .option('--id <spiffe-id>', 'every entry of an identity', valueOf('--id', parseSpiffeId))
    .addOption(yesOption())
    .action(async (named: string | undefined, options: { id?: string }, command: Command) => {
      if ((named === undefined) === (options.id === undefined))
        throw new VouchError('usage-invalid', 'name an entry, or an identity with --id');
      const which = named === undefined ? { spiffeId: options.id } : { entryId: named };
      const result = await adminOf(command)<{ resumed: string[] }>('POST', adminPaths.entryResume, which);
      answer(globalsOf(command), result, ({ resumed }) =>
        resumed.length > 0 ? `resumed ${resumed.join(', ')}` : 'it was not suspended',
      );
    });
}
