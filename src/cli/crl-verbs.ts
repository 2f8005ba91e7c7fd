import type { Command } from 'commander';
import { adminPaths } from '../wire/admin.ts';
import { adminOf, globalsOf, yesOption } from './context.ts';
import { answer, table } from './output.ts';

interface CrlRow {
  issuerKeyId: string;
  scope: string;
  crlNumber: number;
  thisUpdate: string;
  nextUpdate: string;
  url: string;
}

/** `vouch crl show | publish`. */
export function addCrlVerbs(program: Command): void {
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
