import { type Command, Option } from 'commander';
import { parseRfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { operatorReasons } from '../core/reasons.ts';
import { parseSerial } from '../core/serial.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import { adminPaths, type RevocationTargetJson } from '../wire/admin.ts';
import { adminOf, confirm, globalsOf, withQuery, yesOption } from './context.ts';
import type { EntryRow } from './entry-verbs.ts';
import { answer } from './output.ts';
import {
  type Preview,
  previewText,
  type ReleaseResult,
  releaseText,
  type RevocationResult,
  revocationText,
} from './revocation-text.ts';
import { entryId, formOf, tokenId, valueOf } from './values.ts';

interface TargetOptions {
  serial?: string;
  id?: string;
  token?: string;
  entry?: string;
  agent?: string;
  node?: string;
  operator?: string;
  issuedBetween?: string;
  image?: string;
  only?: boolean;
  yes?: boolean;
  dryRun?: boolean;
}

interface RevokeOptions extends TargetOptions {
  reason: string;
  invalidityDate?: string;
}

/** A mass revocation that goes on. */
interface UnderWay {
  massRevocation: number;
  underWay: true;
  revokedCount: number;
  problem: string | null;
}

type Admin = ReturnType<typeof adminOf>;

const revokeExamples = `
Examples:
  vouch revoke --serial 2a01… --reason keyCompromise     one workload's key leaked
  vouch revoke --serial 2a01… --reason certificateHold   stop it until \`vouch release --serial 2a01…\`
  vouch revoke --id spiffe://example.org/orders          end an identity until \`vouch entry resume\`
  vouch revoke --node db-7 --dry-run                     what would end with a machine
  vouch revoke --operator uid:1004 --reason privilegeWithdrawn
  vouch revoke --issued-between 2026-11-26T02:00:00Z..2026-11-26T03:30:00Z

Again, for a worse reason, it changes the reason on the CRLs. What takes many certificates goes on in the server,
also after a restart of it; the same command once more joins it. docs/revocation.md says what to do in which case.`;

/** `vouch revoke` and `vouch release`. */
export function addRevocationVerbs(program: Command): void {
  addTargets(
    program
      .command('revoke')
      .description('end certificates now: durable, on the CRL and refused by peers within a second'),
  )
    .addOption(
      new Option('--reason <reason>', 'why, in the spelling of RFC 5280')
        .choices(operatorReasons)
        .default('unspecified'),
    )
    .option(
      '--invalidity-date <time>',
      'since when the keys may have been in other hands (RFC 3339, UTC)',
      valueOf('--invalidity-date', parseRfc3339),
    )
    .option('--dry-run', 'only show what it would end')
    .addOption(yesOption())
    .addHelpText('after', revokeExamples)
    .action(async (options: RevokeOptions, command: Command) => revoke(options, command));
  addTargets(
    program
      .command('release')
      .description(
        'let certificates on hold (`--reason certificateHold`) count again; entries stay suspended',
      ),
  )
    .option('--dry-run', 'only show what it would release')
    .addOption(yesOption())
    .action(async (options: TargetOptions, command: Command) => release(options, command));
}

function addTargets(command: Command): Command {
  return command
    .option(
      '--serial <serial>',
      'one certificate and the renewals of its lineage',
      valueOf('--serial', parseSerial),
    )
    .option('--only', 'with --serial: just that one')
    .option(
      '--id <spiffe-id>',
      'every certificate of an identity; it gets none until `vouch entry resume`',
      valueOf('--id', parseSpiffeId),
    )
    .option(
      '--token <token-id>',
      'every certificate that came from a join token, and the token',
      tokenId('--token'),
    )
    .option(
      '--entry <entry-id>',
      'every certificate of a registration entry; it gives none until `vouch entry resume`',
      entryId('--entry'),
    )
    .option(
      '--agent <spiffe-id>',
      "an agent's own certificates and, down to the last, all that was issued through it; it gets none until `vouch entry resume`",
      valueOf('--agent', parseSpiffeId),
    )
    .option(
      '--node <name>',
      'every certificate of a node; the entries that the node itself enrolled with are suspended',
      formOf('--node', /^.{1,255}$/, 'the name of a node'),
    )
    .option(
      '--operator <uid>',
      'every certificate from a join token that this operator made, and his tokens; entries are not suspended',
      formOf('--operator', /^(uid:)?\d{1,10}$/, 'a user id, as `vouch audit` shows it: uid:1000'),
    )
    .option(
      '--issued-between <from..to>',
      'what was issued then, and its renewals; alone or to narrow another; RFC 3339 in UTC, both inclusive, `from..`: until now',
      formOf(
        '--issued-between',
        /^[0-9TZ:.-]+Z\.\.([0-9TZ:.-]+Z)?$/,
        'two times in UTC: 2026-11-26T02:00:00Z..2026-11-26T03:30:00Z',
      ),
    )
    .addOption(new Option('--image <digest>').hideHelp());
}

async function revoke(options: RevokeOptions, command: Command): Promise<void> {
  const { reason, invalidityDate } = options;
  const target = targetOf(options);
  if (!(await agreed({ target, reason }, options, command, 'ends'))) return;
  const asked = { target, reason, ...(invalidityDate === undefined ? {} : { invalidityDate }) };
  await done(adminPaths.revocations, asked, command, revocationText);
}

async function release(options: TargetOptions, command: Command): Promise<void> {
  const target = targetOf(options);
  if (!(await agreed({ target, reason: 'removeFromCRL' }, options, command, 'releases'))) return;
  await done(adminPaths.releases, { target }, command, releaseText);
}

/** Has it done, and answers with what became of it. */
async function done<Result extends RevocationResult | ReleaseResult>(
  path: string,
  asked: { target: RevocationTargetJson },
  command: Command,
  text: (result: Result) => string,
): Promise<void> {
  const admin = adminOf(command);
  try {
    const begun = await admin<Result | UnderWay>('POST', path, asked);
    const result = await ended(begun, admin, command);
    const also = globalsOf(command).json ? [] : await suspension(asked.target, admin);
    answer(globalsOf(command), result, (one) => [text(one), ...also].join('\n'));
  } catch (error) {
    const isCut = error instanceof VouchError && error.code === 'unavailable-server';
    if (!isCut || 'serial' in asked.target) throw error;
    const goesOn = 'what had begun goes on by itself when the server runs, and the same command joins it';
    throw new VouchError(error.code, `${error.detail}; ${goesOn}`, { cause: error });
  }
}

/** That what was named stays without certificates, and how that ends; nothing where no entry of it is suspended. */
async function suspension(target: RevocationTargetJson, admin: Admin): Promise<string[]> {
  const [named, resume] =
    'entry' in target
      ? [adminPaths.entry.replace(':entry', target.entry), target.entry]
      : 'id' in target || 'agent' in target
        ? ofIdentity('id' in target ? target.id : target.agent)
        : [];
  if (named === undefined) return [];
  try {
    const found = await admin<EntryRow | { entries: EntryRow[] }>('GET', named);
    const rows = 'entries' in found ? found.entries : [found];
    if (rows.every(({ suspendedAt }) => suspendedAt === null)) return [];
    return [`suspended: nothing is issued until \`vouch entry resume ${resume}\``];
  } catch {
    // A deleted entry, or a server that ended just now: what was asked for is done all the same.
    return [];
  }
}

function ofIdentity(id: string): [path: string, resume: string] {
  return [withQuery(adminPaths.entries, { id }), `--id ${id}`];
}

/**
 * Shows what it would take where that is asked for, or before it asks. One certificate is an emergency's verb and never
 * asks; an identity, token or entry does on a terminal; what takes more always does. False after a dry run.
 */
async function agreed(
  asked: { target: RevocationTargetJson; reason: string },
  { dryRun, yes, ...named }: TargetOptions,
  command: Command,
  verb: 'ends' | 'releases',
): Promise<boolean> {
  const { agent, node, operator, issuedBetween, serial } = named;
  const isMass = [agent, node, operator, issuedBetween].some((value) => value !== undefined);
  const asks = yes !== true && (isMass || (serial === undefined && process.stdin.isTTY));
  if (dryRun !== true && !asks) return true;
  if (dryRun !== true && !process.stdin.isTTY) await confirm(`This ${verb} many certificates.`, false);
  const preview = await adminOf(command)<Preview>('POST', adminPaths.revocationPreview, asked);
  if (dryRun === true) {
    answer(globalsOf(command), preview, previewText);
    return false;
  }
  process.stderr.write(`${previewText(preview)}\n`);
  const undone = verb === 'ends' && asked.reason !== 'certificateHold' ? ' and cannot be undone' : '';
  await confirm(`This ${verb} ${preview.certificateCount} certificate(s)${undone}.`, false);
  return true;
}

/** Waits for a mass revocation; on a terminal with a line that says how far it is. */
async function ended<Result extends object>(
  begun: Result | UnderWay,
  admin: Admin,
  command: Command,
): Promise<Result> {
  let state = begun;
  const shows = process.stderr.isTTY && !globalsOf(command).json;
  while (isUnderWay(state)) {
    const { massRevocation, revokedCount, problem } = state;
    if (shows)
      process.stderr.write(`\r\x1b[K${revokedCount} certificates${problem === null ? '' : `; ${problem}`}`);
    const path = adminPaths.massRevocation.replace(':leaf', String(massRevocation));
    state = await admin<Result | UnderWay>('GET', path);
  }
  if (shows && state !== begun) process.stderr.write('\r\x1b[K');
  return state;
}

function isUnderWay(state: object): state is UnderWay {
  return 'underWay' in state;
}

const selectors = ['serial', 'id', 'token', 'entry', 'agent', 'node', 'operator'] as const;

function targetOf(options: TargetOptions): RevocationTargetJson {
  if (options.image !== undefined)
    throw new VouchError(
      'usage-invalid',
      '--image comes with the attestation of images, which this version lacks',
    );
  const { issuedBetween, only = false } = options;
  const [by, ...more] = selectors.filter((name) => options[name] !== undefined);
  if (more.length > 0 || (by === undefined && issuedBetween === undefined))
    throw new VouchError(
      'usage-invalid',
      `name exactly one of ${selectors.map((name) => `--${name}`).join(', ')}; or --issued-between, which may also narrow one`,
    );
  if (only && by !== 'serial') throw new VouchError('usage-invalid', '--only goes with --serial');
  if (by === 'serial' && issuedBetween !== undefined)
    throw new VouchError('usage-invalid', '--issued-between does not go with --serial');
  const value = (by && options[by]) ?? '';
  const narrowed = issuedBetween === undefined ? {} : { issuedBetween };
  switch (by) {
    case undefined:
      return { issuedBetween: issuedBetween ?? '' };
    case 'serial':
      return { serial: value, only };
    case 'id':
      return { id: value, ...narrowed };
    case 'token':
      return { token: value, ...narrowed };
    case 'entry':
      return { entry: value, ...narrowed };
    case 'agent':
      return { agent: value, ...narrowed };
    case 'node':
      return { node: value, ...narrowed };
    default:
      return { operator: value.startsWith('uid:') ? value : `uid:${value}`, ...narrowed };
  }
}
