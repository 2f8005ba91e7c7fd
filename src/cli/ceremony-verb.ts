import type { Command } from 'commander';
import {
  type PreparedCeremony,
  prepareCeremony,
  type Preview,
  type PreviewRevocation,
} from '../ceremony/program/prepare.ts';
import { importChain } from '../ceremony/program/chain.ts';
import { type ImportedRenewal, importRenewal } from '../ceremony/program/import.ts';
import type { CeremonyOutcome } from '../ceremony/program/hold.ts';
import { requestIssuerRevocations } from '../ceremony/program/revocation-request.ts';
import { VouchError } from '../core/errors.ts';
import { issuerReasons } from '../core/reasons.ts';
import { adminOf, configOf, confirm, errandLog, globalsOf, yesOption } from './context.ts';
import { answer, fields, type Output, table } from './output.ts';

interface CeremonyFlags {
  file?: string;
  import?: string;
  chainIn?: string;
  revokeIssuer?: string[];
  reason?: string;
  invalidityDate?: string;
  out?: string;
  dryRun?: boolean;
  yes?: boolean;
}

const epilogue = `
On the machine of the root, without a network:
  vouch ceremony --file ceremony.yaml          shows all that would be signed; at a terminal it then asks
  vouch ceremony --file ceremony.yaml --yes    signs what the last dry run has shown, and nothing else

On the authority's machine:
  vouch init --issuer-csr-out FILE …           makes keys and the request that the ceremony takes
  vouch init --ceremony-in FOLDER …            takes the result of the first ceremony
  vouch ceremony --import FOLDER               takes a renewed root CRL and statement, server running or not
  vouch ceremony --revoke-issuer KEYID … --out FILE   asks the root to revoke issuers, for revoke: in ceremony.yaml
  vouch ceremony --chain-in CHAIN.pem          takes what a CA above made of root.csr, server running or not

docs/ceremony.md is the runbook, with the file's format.`;

/** `vouch ceremony`. */
export function addCeremonyVerb(program: Command): void {
  program
    .command('ceremony')
    .description(
      'the root signs, off line: certificates of issuers, its CRL, its statement; or their renewal comes in',
    )
    .option('--file <yaml>', 'hold the ceremony that this file declares; a dry run unless told otherwise')
    .option('--import <folder>', 'take the result of a renewal into the configured state')
    .option('--chain-in <pem>', 'take the certificate that a CA above made of root.csr, with its chain')
    .option('--revoke-issuer <keyIds...>', 'write what asks the root to put these issuers on its CRL')
    .option('--reason <reason>', `with --revoke-issuer: ${issuerReasons.join(', ')}; default: the first`)
    .option(
      '--invalidity-date <time>',
      'with --revoke-issuer: since when its key may have been in other hands',
    )
    .option('--out <file>', 'with --revoke-issuer: the file to write')
    .option('--dry-run', 'show what would be signed and sign nothing; the default without a terminal')
    .addOption(yesOption())
    .addHelpText('after', epilogue)
    .action(async (flags: CeremonyFlags, command: Command) => {
      const given = [flags.file, flags.import, flags.chainIn, flags.revokeIssuer].filter(
        (flag) => flag !== undefined,
      );
      if (given.length !== 1)
        throw new VouchError('usage-invalid', 'give one of --file, --import, --chain-in and --revoke-issuer');
      if (flags.revokeIssuer !== undefined) return askRevocation(flags.revokeIssuer, flags, command);
      if (flags.reason !== undefined || flags.invalidityDate !== undefined || flags.out !== undefined)
        throw new VouchError(
          'usage-invalid',
          '--reason, --invalidity-date and --out go with --revoke-issuer',
        );
      if (flags.dryRun === true && flags.yes === true)
        throw new VouchError('usage-invalid', '--dry-run and --yes contradict each other');
      if (flags.file !== undefined) return hold(flags.file, flags, globalsOf(command));
      if (flags.chainIn !== undefined) return takeAbove(flags.chainIn, flags, command);
      return take(flags.import ?? '', flags, command);
    });
}

async function hold(file: string, flags: CeremonyFlags, output: Output): Promise<void> {
  const pino = errandLog(output);
  const shown = flags.yes === true;
  const prepared = await prepareCeremony(file, {
    shown,
    log: (level, message, details) => pino[level](details ?? {}, message),
  });
  if (shown) return done(output, await prepared.run());
  if (flags.dryRun === true || output.json || !process.stdin.isTTY) return dryRun(output, prepared);
  process.stderr.write(`${previewText(prepared.preview)}\n`);
  await confirm('All of this will be signed by the root.', false);
  done(output, await prepared.run());
}

function dryRun(output: Output, prepared: PreparedCeremony): void {
  const plan = prepared.savePlan();
  answer(
    output,
    { dryRun: true, plan, ...prepared.preview },
    () =>
      `${previewText(prepared.preview)}\n\nNothing was signed and no key was made. --yes signs exactly this, within 24 hours.`,
  );
}

function previewText({ root, warnings, ...preview }: Preview): string {
  const head = fields([
    ['trust domain', preview.trustDomain],
    ['operators', preview.operators.join(', ')],
    ['request', preview.requestSha256 ?? 'none: root CRL and statement are renewed'],
    ['root token', `${root.tokenLabel}, serial ${root.tokenSerial}`],
    ['root key', root.key],
    ['root pin', root.pin ?? 'known when the key is made'],
    ['result', preview.out],
    ...preview.revocations.map((one): [string, string] => ['ENDS ISSUER', revocationText(one)]),
    ...warnings.map((warning): [string, string] => ['WARNING', warning]),
  ]);
  const rows = preview.items.map(({ what, notBefore, notAfter, serial, number, tbsSha256 }) => [
    what,
    notBefore ?? '',
    notAfter ?? '',
    serial ?? number ?? '',
    tbsSha256 ?? 'known when the key is made',
  ]);
  return `${head}\n\n${table(['TO BE SIGNED', 'FROM', 'UNTIL', 'SERIAL OR NUMBER', 'SHA-256 OF WHAT IS SIGNED'], rows)}`;
}

function revocationText(one: PreviewRevocation): string {
  const since = one.invalidityDate === null ? '' : `, in other hands since ${one.invalidityDate}`;
  return `${one.keyId}, until ${one.notAfter}, for ${one.reason}${since}: ${one.unexpired} unexpired certificates end with it (counted ${one.asOf})`;
}

function done(output: Output, outcome: CeremonyOutcome): void {
  answer(output, outcome, () =>
    [
      fields([
        ['root pin', outcome.rootPin],
        ['transcript', `SHA-256 ${outcome.transcriptSha256}, signed by the root`],
        ['result', `${outcome.out}: ${outcome.files.join(', ')}`],
      ]),
      'Write the root pin down: whoever takes the result in compares it.',
    ].join('\n'),
  );
}

async function take(folder: string, flags: CeremonyFlags, command: Command): Promise<void> {
  const output = globalsOf(command);
  await confirm(`This replaces the root's CRL and statement by those in ${folder}.`, flags.yes === true);
  const result = await importRenewal(folder, configOf(command), adminOf(command));
  answer(output, result, importText);
}

async function askRevocation(
  keyIds: readonly string[],
  flags: CeremonyFlags,
  command: Command,
): Promise<void> {
  if (flags.out === undefined) throw new VouchError('usage-invalid', '--revoke-issuer needs --out FILE');
  const asked = await requestIssuerRevocations(flags.out, configOf(command), {
    keyIds,
    reason: flags.reason,
    invalidityDate: flags.invalidityDate,
  });
  answer(globalsOf(command), asked, () =>
    [
      fields([
        ['file', asked.file],
        ['SHA-256', asked.sha256],
        ...asked.issuers.map(({ keyId, reason, unexpired }): [string, string] => [
          'ends issuer',
          `${keyId}, for ${reason}: ${unexpired} unexpired certificates end with it`,
        ]),
      ]),
      'Write the SHA-256 down, and carry the file to the root (docs/ceremony.md).',
    ].join('\n'),
  );
}

async function takeAbove(file: string, flags: CeremonyFlags, command: Command): Promise<void> {
  const output = globalsOf(command);
  await confirm(
    `This publishes ${file} as the chain above our root. Who trusts that CA only accepts our workloads by it, and all else that this CA permits.`,
    flags.yes === true,
  );
  const taken = await importChain(file, configOf(command), adminOf(command));
  answer(output, taken, () =>
    fields([
      ['certified by', taken.issuer],
      ['until', taken.notAfter],
      ...taken.warnings.map((warning): [string, string] => ['WARNING', warning]),
      ['published as', taken.path],
      ['served', taken.served ? 'now' : 'when the server starts'],
    ]),
  );
}

function importText(result: ImportedRenewal): string {
  return fields([
    ['statement', `sequence ${result.statementSequence}, until ${result.statementNotAfter}`],
    ['root CRL', `number ${result.crlNumber}, until ${result.crlNextUpdate}`],
    ...result.revokedIssuers.map((keyId): [string, string] => ['issuer ended', keyId]),
    ['by', result.operators.join(', ')],
    ['served', result.served ? 'now' : 'when the server starts'],
  ]);
}
