import path from 'node:path';
import type { Command } from 'commander';
import { type Config, loadConfig } from '../config/config.ts';
import { migrateState } from '../state.ts';
import { adminPaths } from '../wire/admin.ts';
import { restoreState } from '../restore.ts';
import { adminOf, configOf, confirm, errandLog, globalsOf, yesOption } from './context.ts';
import { diagnose, type Finding, trialNotes } from './doctor.ts';
import { answer, exitCodes, fields, table } from './output.ts';
import { each } from './values.ts';

/** `vouch backup | restore | migrate | doctor | check-config`. */
export function addStateVerbs(program: Command): void {
  program
    .command('backup')
    .argument('<file>')
    .description('copy the whole state into one file, while the server runs')
    .action(async (file: string, _options: object, command: Command) => {
      const result = await adminOf(command)<{ file: string; treeSize: number }>('POST', adminPaths.backup, {
        file: path.resolve(file),
      });
      answer(
        globalsOf(command),
        result,
        () =>
          `${result.file}: the log up to ${result.treeSize} leaves; the keys are in the tokens, back those up too`,
      );
    });
  program
    .command('restore')
    .argument('<file>')
    .description('put a backup back; the server must be stopped, what stood there is kept beside it')
    .option('--state <dir>', "state directory (default: the configuration's)")
    .option('--accept-rewind', 'go back behind what was signed since: opens a new log, needs the root')
    .option('--root-hsm-file <file>', "with --accept-rewind: the root's token")
    .option(
      '--crl <file>',
      'with --accept-rewind: a published CRL, DER, to take revocations from (repeatable)',
      each((text) => text),
    )
    .addOption(yesOption())
    .action(async (file: string, flags: RestoreFlags, command: Command) => restore(file, flags, command));
  program
    .command('migrate')
    .description('bring the database to the schema of this version; makes a backup first')
    .addOption(yesOption())
    .action(async (_options: object, command: Command) => {
      const result = await migrateState(configOf(command).state);
      answer(globalsOf(command), result, () =>
        result.applied.length === 0
          ? `already at schema ${result.toVersion}`
          : `applied ${result.applied.join(', ')}; backup: ${result.backup}`,
      );
    });
  program
    .command('check-config')
    .description('read the configuration and say everything that is wrong with it')
    .action((_options: object, command: Command) => {
      const { config: file, ...output } = globalsOf(command);
      const config = loadConfig(file);
      answer(output, { file, valid: true, config }, () =>
        fields([
          ['configuration', `${file} is valid`],
          ['trust domain', config.trustDomain],
          ['state', config.state],
        ]),
      );
    });
  program
    .command('doctor')
    .description(
      'look for what will hurt: clocks, PIN files, expiring authorities, URLs that peers cannot reach',
    )
    .option('--accept-clock', 'say that the wall clock is right after it jumped; logged')
    .option(
      '--retry-signer',
      'try the signer once more after it gave up, with a PIN that was refused too; logged',
    )
    .addOption(yesOption())
    .action(async (options: DoctorFlags, command: Command) => doctor(options, command));
}

interface RestoreFlags {
  state?: string;
  acceptRewind?: boolean;
  rootHsmFile?: string;
  crl?: string[];
  yes?: boolean;
}

async function restore(file: string, flags: RestoreFlags, command: Command): Promise<void> {
  const output = globalsOf(command);
  const acceptRewind = flags.acceptRewind === true;
  const state = flags.state ?? configOf(command).state;
  if (acceptRewind)
    await confirm(`This takes ${state} back to ${file} and opens a new log.`, flags.yes === true);
  const result = await restoreState(
    { file, state, acceptRewind, rootHsmFile: flags.rootHsmFile, crlFiles: flags.crl ?? [] },
    errandLog(output),
  );
  answer(output, result, () =>
    fields([
      ['restored', `${result.state}, ${result.treeSize} leaves of ${result.logOrigin}`],
      ['before', result.previousState ?? 'nothing stood there'],
      ['imported', `${result.importedRevocations} revocation(s) from published CRLs`],
      ...result.warnings.map((warning): [string, string] => ['missing', warning]),
    ]),
  );
}

interface DoctorFlags {
  acceptClock?: boolean;
  retrySigner?: boolean;
}

async function doctor(options: DoctorFlags, command: Command): Promise<void> {
  const output = globalsOf(command);
  if (options.retrySigner === true) return retrySigner(command);
  if (options.acceptClock === true) {
    const result = await adminOf(command)<{ accepted: string; doubt: string | null }>(
      'POST',
      adminPaths.clockAccept,
      {},
    );
    return answer(output, result, () =>
      result.doubt === null ? 'the clock was not in doubt' : `accepted ${result.accepted}; issuance goes on`,
    );
  }
  const config = configOf(command);
  const findings = await diagnose(config, (method, route) => adminOf(command)(method, route));
  answer(output, { findings }, ({ findings: all }) =>
    all.length === 0 ? ['Nothing to mend.', ...trialNotes(config)].join('\n') : findingsTable(all),
  );
  if (findings.some((finding) => finding.severity === 'error')) process.exitCode = exitCodes.failed;
}

async function retrySigner(command: Command): Promise<void> {
  const result = await adminOf(command)<{ state: string; problem: string | null }>(
    'POST',
    adminPaths.signerRetry,
    {},
  );
  const isUp = result.state === 'usable';
  const remedy = isUp ? null : signerRemedy(configOf(command), result.problem);
  answer(globalsOf(command), { ...result, remedy }, () =>
    isUp ? 'the signer signs' : `the signer is ${result.state}: ${result.problem}\n${remedy}`,
  );
  if (!isUp) process.exitCode = exitCodes.failed;
}

/** What is left to do where trying once more did not help. */
function signerRemedy(config: Config, problem: string | null): string {
  const { standby } = config;
  const isStandby = standby !== undefined && problem?.startsWith('standby: ') === true;
  const { signer, hsm } = isStandby ? standby : config;
  const folder = isStandby ? 'standby-signer' : 'signer';
  return signer.socket === undefined
    ? `see to the PIN in the token and in ${hsm.pinFile}, and that the token is there, then do this again`
    : 'the signer is of another user: see its log; where the token refused its PIN, replace the PIN file or delete ' +
        `\`${folder}/pin-refused\` in its state directory, then start its unit again`;
}

function findingsTable(findings: readonly Finding[]): string {
  return table(
    ['', 'WHAT', 'WHAT TO DO'],
    findings.map((finding) => [finding.severity, finding.what, finding.remedy]),
  );
}
