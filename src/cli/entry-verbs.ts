import { type Command, Option } from 'commander';
import { VouchError } from '../core/errors.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import { registrableHint } from '../registration/names.ts';
import { workloadSelector } from '../registration/selectors.ts';
import { adminPaths } from '../wire/admin.ts';
import { adminOf, confirm, globalsOf, withQuery, yesOption } from './context.ts';
import { addIdentityFlags, identityOf, type IdentityOptions } from './identity-flags.ts';
import { answer, fields, listed, table } from './output.ts';
import type { Preview } from './revocation-text.ts';
import { each, entryId, pageLimit, valueOf } from './values.ts';

/** A registration entry, as the admin socket says it. */
export interface EntryRow {
  entryId: string;
  spiffeId: string;
  parentId: string | null;
  selectors: string[];
  dnsNames: string[];
  ipAddresses: string[];
  allowedClients: string[];
  hint: string;
  profile: string;
  lifetimeSeconds: number | null;
  version: number;
  suspendedAt: string | null;
  createdAt: string;
}

interface CreateOptions extends IdentityOptions {
  id: string;
  parent: string;
  selector: string[];
  hint?: string;
  profile: string;
}

/** What `vouch entry create` is answered. */
interface MadeRow extends EntryRow {
  /** False where there was such an entry already. */
  created: boolean;
  /** What an operator should know of it. */
  notes: string[];
}

interface Deleted {
  entryId: string;
  certificateCount: number;
  validUntil: string | null;
}

const aboutEntries = `
An entry says: whoever shows all these selectors is this identity. There are two kinds.
  of a join token   made with it by \`vouch token create\`: its one selector is the token
  of an agent       made by \`vouch entry create\`: the agent of a host (--parent) holds the certificate, and serves it
                    to the processes there that have every one of the selectors

Example: two services on one host
  vouch token create --id spiffe://example.org/host/db-7 --out db-7.join
  vouch agent --join-file db-7.join                                      (there, with the file)
  vouch entry create --id spiffe://example.org/orders  --parent spiffe://example.org/host/db-7 --selector unix:user:orders
  vouch entry create --id spiffe://example.org/billing --parent spiffe://example.org/host/db-7 --selector unix:user:billing

The agent knows of a change within a second. \`vouch entry delete\` stops what is yet to be issued, \`vouch revoke --entry\`
what was.`;

const aboutSelectors = `
Selectors, all of which a process must have:
  unix:uid:1000                  unix:user:orders               its effective user, by number or name
  unix:gid:1000                  unix:group:orders              its effective group
  unix:supplementary_gid:27      unix:supplementary_group:ssl   one of its supplementary groups
  unix:path:/usr/bin/orders      its program, where the link of /proc/PID/exe ends: links resolved
  unix:sha256:9f86d0…            SHA-256 of its program, 64 hex digits
A path alone says nothing of who runs the program: give a user with it.`;

/** `vouch entry create | list | show | delete | resume`. Entries of join tokens are made by `vouch token create`. */
export function addEntryVerbs(program: Command): void {
  const entry = program
    .command('entry')
    .description('registration entries: who gets which identity')
    .addHelpText('after', aboutEntries);
  addCreate(entry);
  addList(entry);
  entry
    .command('show')
    .argument('<entry-id>', 'as `vouch entry list` shows it', entryId('vouch entry show'))
    .description('one registration entry')
    .action(async (named: string, _options: object, command: Command) => {
      const result = await adminOf(command)<EntryRow>('GET', pathOf(named));
      answer(globalsOf(command), result, entryText);
    });
  entry
    .command('delete')
    .argument('<entry-id>', 'as `vouch entry list` shows it', entryId('vouch entry delete'))
    .description(
      'delete a registration entry; what it issued counts until it expires (for that: vouch revoke --entry)',
    )
    .addOption(yesOption())
    .action(async (named: string, options: { yes?: boolean }, command: Command) =>
      remove(named, options, command),
    );
  addResume(entry);
}

function addCreate(entry: Command): void {
  const create = entry
    .command('create')
    .description('let the agent of a host have an identity for the processes there that have these selectors')
    .requiredOption('--id <spiffe-id>', 'identity of the workload', valueOf('--id', parseSpiffeId))
    .requiredOption(
      '--parent <spiffe-id>',
      'identity of the agent, which enrolled with a join token',
      valueOf('--parent', parseSpiffeId),
    )
    .requiredOption(
      '--selector <type:value>',
      'what a process must have (repeatable)',
      each(valueOf('--selector', workloadSelector)),
    );
  addIdentityFlags(create)
    .option(
      '--hint <text>',
      'what tells a workload with several identities this one from the others',
      valueOf('--hint', registrableHint),
    )
    .addOption(
      new Option(
        '--profile <name>',
        'cn-first-dns: the first DNS name is the common name too, for programs that read only that',
      )
        .choices(['default', 'cn-first-dns'])
        .default('default'),
    )
    .addHelpText('after', aboutSelectors)
    .action(async (options: CreateOptions, command: Command) => {
      const result = await adminOf(command)<MadeRow>('POST', adminPaths.entries, {
        spiffeId: options.id,
        parentId: options.parent,
        selectors: options.selector,
        hint: options.hint,
        profile: options.profile,
        ...identityOf(options),
      });
      const output = globalsOf(command);
      answer(output, result, entryText);
      if (!output.json) for (const note of result.notes) process.stderr.write(`note: ${note}\n`);
    });
}

function addList(entry: Command): void {
  entry
    .command('list')
    .description('registration entries')
    .option('--id <spiffe-id>', 'of one identity', valueOf('--id', parseSpiffeId))
    .option('--parent <spiffe-id>', 'that one agent asks for', valueOf('--parent', parseSpiffeId))
    .option('--after <entry-id>', 'go on after this one', entryId('--after'))
    .option('--limit <n>', 'rows at the most', pageLimit(), '100')
    .action(async (options: Record<string, string | undefined>, command: Command) => {
      const result = await adminOf(command)<{ entries: EntryRow[]; next: string | null }>(
        'GET',
        withQuery(adminPaths.entries, options),
      );
      answer(globalsOf(command), result, ({ entries, next }) =>
        table(
          ['ENTRY', 'IDENTITY', 'PARENT', 'SELECTORS', 'DNS', 'SUSPENDED'],
          entries.map((one) => [
            one.entryId,
            one.spiffeId,
            one.parentId ?? '',
            listed(one.selectors),
            listed(one.dnsNames),
            one.suspendedAt ?? '',
          ]),
          next,
        ),
      );
    });
}

function addResume(entry: Command): void {
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

async function remove(named: string, { yes = false }: { yes?: boolean }, command: Command): Promise<void> {
  const admin = adminOf(command);
  if (!yes) {
    if (!process.stdin.isTTY) await confirm('This deletes a registration entry.', false);
    const entry = await admin<EntryRow>('GET', pathOf(named));
    const asked = { target: { entry: named }, reason: 'unspecified' };
    const { certificateCount } = await admin<Preview>('POST', adminPaths.revocationPreview, asked);
    process.stderr.write(`${entryText(entry)}\n`);
    await confirm(
      `This deletes the entry and cannot be undone; ${certificateCount} certificate(s) of it go on to count.`,
      false,
    );
  }
  const result = await admin<Deleted>('POST', adminPaths.entryDelete, { entryId: named });
  answer(globalsOf(command), result, deletedText);
}

function pathOf(named: string): string {
  return adminPaths.entry.replace(':entry', named);
}

function entryText(one: EntryRow): string {
  const lists: [string, string[]][] = [
    ['selectors', one.selectors],
    ['DNS names', one.dnsNames],
    ['IP addresses', one.ipAddresses],
    ['allowed clients', one.allowedClients],
  ];
  return fields([
    ['entry', one.entryId],
    ['identity', one.spiffeId],
    ['parent', one.parentId ?? 'none: of a join token'],
    ...lists.map(([name, values]): [string, string] => [name, values.join(' ') || 'none']),
    ...(one.hint === '' ? [] : [['hint', one.hint] as const]),
    ['profile', one.profile],
    ['lifetime', one.lifetimeSeconds === null ? "the profile's" : `${one.lifetimeSeconds} s`],
    ['created', `${one.createdAt}, version ${one.version}`],
    ['suspended', one.suspendedAt ?? 'no'],
  ]);
}

function deletedText({ entryId: deleted, certificateCount, validUntil }: Deleted): string {
  if (certificateCount === 0) return `${deleted} is deleted; no certificate of it is left`;
  return (
    `${deleted} is deleted; ${certificateCount} certificate(s) of it count until ${validUntil}.\n` +
    `To end them now: vouch revoke --entry ${deleted}`
  );
}
