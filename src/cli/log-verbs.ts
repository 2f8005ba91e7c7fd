import type { Command } from 'commander';
import { systemClock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { verifyPublished } from '../audit/verify-published.ts';
import { readStateFiles } from '../audit/state-files.ts';
import type { LogVerification } from '../audit/verification.ts';
import { verifyState } from '../audit/verify-state.ts';
import { readingState } from '../state.ts';
import { pinGrammar } from '../wire/join-file.ts';
import { adminPaths } from '../wire/admin.ts';
import { adminOf, globalsOf, withQuery } from './context.ts';
import { answer, exitCodes, fields, table } from './output.ts';
import { formOf, logIndex, pageLimit } from './values.ts';

interface VerifyFlags {
  state?: string;
  url?: string;
  rootPin?: string;
}

interface AuditRow {
  logIndex: number;
  time: string;
  type: string;
  operator?: string;
}

/** `vouch log verify` and `vouch audit`. */
export function addLogVerbs(program: Command): void {
  program
    .command('log')
    .description('the write-ahead log of everything that was signed')
    .command('verify')
    .description('read the whole log again without asking the server; exit 1 on any problem')
    .option('--state <dir>', 'a state directory: log, store and artefacts against each other')
    .option(
      '--url <url>',
      "a publication URL: the public tree against the root's statement",
      formOf('--url', /^https?:\/\/[^/]/, 'an http URL'),
    )
    .option(
      '--root-pin <pin>',
      'sha256:… of the root; required with --url',
      formOf('--root-pin', pinGrammar, 'sha256: and 64 hex digits, as `vouch status` shows it'),
    )
    .action(async (flags: VerifyFlags, command: Command) => {
      const output = globalsOf(command);
      const result = await verify(flags, progressOn(output.json));
      answer(output, result, (found) => verificationText(found, flags.url !== undefined));
      if (result.problems.length > 0) process.exitCode = exitCodes.failed;
    });
  program
    .command('audit')
    .description("operators' deeds, from the log")
    .option('--after <log-index>', 'go on after this leaf', logIndex('--after'))
    .option('--limit <n>', 'leaves to read', pageLimit(), '1000')
    .action(async (options: Record<string, string | undefined>, command: Command) => {
      const result = await adminOf(command)<{ records: AuditRow[]; next: string | null }>(
        'GET',
        withQuery(adminPaths.audit, options),
      );
      answer(globalsOf(command), result, ({ records, next }) => {
        const rows = records.map(({ logIndex, time, type, operator, ...what }) => [
          String(logIndex),
          time,
          type,
          operator ?? '',
          JSON.stringify(what),
        ]);
        return table(['LEAF', 'TIME', 'TYPE', 'OPERATOR', 'WHAT'], rows, next);
      });
    });
}

async function verify(
  flags: VerifyFlags,
  progress: (done: number, of: number) => void,
): Promise<LogVerification> {
  if ((flags.state === undefined) === (flags.url === undefined))
    throw new VouchError('usage-invalid', 'name either --state or --url');
  if (flags.url !== undefined) {
    if (flags.rootPin === undefined)
      throw new VouchError('usage-invalid', '--url needs --root-pin: without it anybody could answer');
    return verifyPublished({ url: flags.url, rootPin: flags.rootPin, clock: systemClock, progress });
  }
  const state = flags.state ?? '';
  const files = readStateFiles(state);
  return readingState(state, (store) => verifyState(store, flags.rootPin, progress, files));
}

/** A line that rewrites itself on a terminal, once a second at the most. */
function progressOn(json: boolean): (done: number, of: number) => void {
  if (json || !process.stderr.isTTY) return () => undefined;
  let last = performance.now();
  return (done, of) => {
    if (performance.now() - last < 1000) return;
    last = performance.now();
    process.stderr.write(`\r${done} of ${of} leaves`);
  };
}

/** Of a published log the leaves are not public: what is in it, and that nothing else was signed, cannot be seen there. */
function verificationText(result: LogVerification, isPublished: boolean): string {
  const facts = fields([
    ['leaves', String(result.treeSize)],
    ['root hash', result.rootHash],
    ...(isPublished
      ? []
      : ([
          ['certificates', String(result.certificates)],
          ['revocations', String(result.revocations)],
        ] as const)),
  ]);
  return `${facts}\n${verdict(result.problems, isPublished)}`;
}

function verdict(problems: readonly string[], isPublished: boolean): string {
  if (problems.length > 0) return `PROBLEMS:\n${problems.map((one) => `  ${one}`).join('\n')}`;
  return isPublished
    ? 'The tree is whole: every tile leads to the checkpoint, signed by the log key that the root vouches for. What the leaves say is not public; --state reads them.'
    : 'The log is whole: everything signed is in it.';
}
