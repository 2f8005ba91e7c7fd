import { type Command, Option } from 'commander';
import { VouchError } from '../core/errors.ts';
import { operatorReasons } from '../core/reasons.ts';
import { parseSerial } from '../core/serial.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import { adminPaths, type RevocationTargetJson } from '../wire/admin.ts';
import { adminOf, confirm, globalsOf, yesOption } from './context.ts';
import { answer, table } from './output.ts';
import { entryId, tokenId, valueOf } from './values.ts';

interface RevokeOptions {
  serial?: string;
  id?: string;
  token?: string;
  entry?: string;
  only?: boolean;
  reason: string;
  yes?: boolean;
  dryRun?: boolean;
}

interface Result {
  revoked: { serial: string; revokedAt: string; reason: string; logIndex: number }[];
  alreadyRevoked: string[];
  keysBlocked: string[];
  crlNumber: number | null;
  crlUrl: string | null;
  published: boolean;
}

interface Preview {
  certificates: { serial: string; spiffeId: string; notAfter: string }[];
}

interface CrlRow {
  issuerKeyId: string;
  scope: string;
  crlNumber: number;
  thisUpdate: string;
  nextUpdate: string;
  url: string;
}

/** `vouch revoke` and `vouch crl show | publish`. */
export function addRevocationVerbs(program: Command): void {
  program
    .command('revoke')
    .description('end certificates now: durable, on the CRL and refused by peers within a second')
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
    .addOption(
      new Option('--reason <reason>', 'why, in the spelling of RFC 5280')
        .choices(operatorReasons)
        .default('unspecified'),
    )
    .option('--dry-run', 'only show what it would end')
    .addOption(yesOption())
    .action(async (options: RevokeOptions, command: Command) => revoke(options, command));
  const crl = program.command('crl').description('certificate revocation lists');
  crl
    .command('show')
    .description('the CRLs that are served')
    .action(async (_options: object, command: Command) => {
      const result = await adminOf(command)<{ crls: CrlRow[] }>('GET', adminPaths.crls);
      answer(globalsOf(command), result, crlTable);
    });
  crl
    .command('publish')
    .description('sign every CRL anew now; what has expired leaves by the schedule alone')
    .addOption(yesOption())
    .action(async (_options: object, command: Command) => {
      const result = await adminOf(command)<{ crls: CrlRow[] }>('POST', adminPaths.crlPublish, {});
      answer(globalsOf(command), result, crlTable);
    });
}

async function revoke(options: RevokeOptions, command: Command): Promise<void> {
  const admin = adminOf(command);
  const output = globalsOf(command);
  const target = targetOf(options);
  // One certificate is an emergency's verb and never asks; a whole identity, token or entry does, on a terminal.
  const asks = options.yes !== true && options.serial === undefined && process.stdin.isTTY;
  if (options.dryRun === true || asks) {
    const preview = await admin<Preview>('POST', adminPaths.revocationPreview, { target });
    if (options.dryRun === true) return answer(output, preview, previewText);
    process.stderr.write(`${previewText(preview)}\n`);
    await confirm(`This ends ${preview.certificates.length} certificate(s) and cannot be undone.`, false);
  }
  const result = await admin<Result>('POST', adminPaths.revocations, { target, reason: options.reason });
  answer(output, result, resultText);
}

function targetOf(options: RevokeOptions): RevocationTargetJson {
  const given = (['serial', 'id', 'token', 'entry'] as const).filter((name) => options[name] !== undefined);
  if (given.length !== 1)
    throw new VouchError('usage-invalid', 'name exactly one of --serial, --id, --token, --entry');
  if (options.serial !== undefined) return { serial: options.serial, only: options.only === true };
  if (options.only === true) throw new VouchError('usage-invalid', '--only goes with --serial');
  if (options.id !== undefined) return { id: options.id };
  if (options.token !== undefined) return { token: options.token };
  return { entry: options.entry ?? '' };
}

function previewText({ certificates }: Preview): string {
  return table(
    ['SERIAL', 'IDENTITY', 'NOT AFTER'],
    certificates.map((one) => [one.serial, one.spiffeId, one.notAfter]),
  );
}

function resultText(result: Result): string {
  const lines = result.revoked.map((one) => `revoked ${one.serial} (${one.reason}), leaf ${one.logIndex}`);
  lines.push(...result.alreadyRevoked.map((serial) => `${serial} was revoked before; its reason stays`));
  lines.push(...result.keysBlocked.map((serial) => `the key of ${serial} is blocked from now on`));
  if (lines.length === 0) lines.push('nothing was valid; what could issue it is stopped');
  lines.push(
    result.published
      ? `on CRL ${result.crlNumber}: ${result.crlUrl}`
      : 'recorded, not published: the CRL follows as soon as the signer answers',
  );
  return lines.join('\n');
}

function crlTable({ crls }: { crls: CrlRow[] }): string {
  return table(
    ['ISSUER', 'SCOPE', 'NUMBER', 'THIS UPDATE', 'NEXT UPDATE', 'URL'],
    crls.map((crl) => [
      crl.issuerKeyId.slice(0, 8),
      crl.scope,
      String(crl.crlNumber),
      crl.thisUpdate,
      crl.nextUpdate,
      crl.url,
    ]),
  );
}
