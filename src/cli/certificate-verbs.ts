import type { Command } from 'commander';
import { VouchError } from '../core/errors.ts';
import { parseSerial } from '../core/serial.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import { adminPaths } from '../wire/admin.ts';
import { adminOf, globalsOf, withQuery } from './context.ts';
import { answer, fields, table } from './output.ts';
import { entryId, issuerKeyId, logIndex, pageLimit, tokenId, valueOf } from './values.ts';

interface CertificateRow {
  serial: string;
  spiffeId: string;
  state: string;
  notBefore: string;
  notAfter: string;
  issuerKeyId: string;
  entryId: string | null;
  tokenId: string | null;
  /** Who asked for it in the name of a workload. */
  agent: string | null;
  node: string | null;
  predecessor: string | null;
  lineage: string;
  logIndex: number;
  revokedAt: string | null;
  reason: string | null;
}

interface Explanation {
  certificate: CertificateRow;
  decision: Record<string, unknown>;
  issuedAt: string;
  entry: { entryId: string; selectors: string[]; suspendedAt: string | null } | null;
  token: { tokenId: string; createdBy: string; createdAt: string } | null;
  revocationEvents: { revokedAt: string; reason: string; operator: string; logIndex: number }[];
}

/** `vouch cert list | show` and `vouch explain`. */
export function addCertificateVerbs(program: Command): void {
  const cert = program.command('cert').description('certificates that were issued');
  cert
    .command('list')
    .description('certificates, newest first')
    .option('--id <spiffe-id>', 'of one identity', valueOf('--id', parseSpiffeId))
    .option('--token <token-id>', 'that came from one join token', tokenId('--token'))
    .option('--after <log-index>', 'go on after this one', logIndex('--after'))
    .option('--limit <n>', 'rows at the most', pageLimit(), '100')
    .action(async (options: Record<string, string | undefined>, command: Command) => {
      const path = withQuery(adminPaths.certificates, options);
      const result = await adminOf(command)<{ certificates: CertificateRow[]; next: string | null }>(
        'GET',
        path,
      );
      answer(globalsOf(command), result, certificateTable);
    });
  cert
    .command('show')
    .argument('<serial>', 'hex, as `vouch cert list` shows it', valueOf('serial', parseSerial))
    .description('one certificate')
    .action(async (serial: string, _options: object, command: Command) => {
      const result = await adminOf(command)<CertificateRow>(
        'GET',
        adminPaths.certificate.replace(':serial', encodeURIComponent(serial)),
      );
      answer(globalsOf(command), result, certificateFields);
    });
  cert
    .command('renew-now')
    .description('ask the holders of certificates to renew them now, each within half a minute')
    .option('--id <spiffe-id>', 'of one identity', valueOf('--id', parseSpiffeId))
    .option('--entry <entry-id>', 'of one registration entry', entryId('--entry'))
    .option('--issuer <key-id>', 'by one issuer, as `vouch status` shows it', issuerKeyId('--issuer'))
    .action(async (options: { id?: string; entry?: string; issuer?: string }, command: Command) => {
      if (Object.keys(options).length !== 1)
        throw new VouchError('usage-invalid', 'name one of --id, --entry and --issuer');
      const told = await adminOf(command)<{ told: number; logIndex: number }>(
        'POST',
        adminPaths.renewNow,
        options,
      );
      answer(globalsOf(command), told, ({ told: count }) => `${count} holders were told`);
    });
  program
    .command('explain')
    .argument('<serial>', 'hex, as `vouch cert list` shows it', valueOf('serial', parseSerial))
    .description('why a certificate exists: entry, evidence, operator; and what became of it')
    .action(async (serial: string, _options: object, command: Command) => {
      const result = await adminOf(command)<Explanation>(
        'GET',
        adminPaths.explain.replace(':serial', encodeURIComponent(serial)),
      );
      answer(globalsOf(command), result, explanationText);
    });
}

function certificateTable({
  certificates,
  next,
}: {
  certificates: CertificateRow[];
  next: string | null;
}): string {
  const rows = certificates.map((one) => [
    one.serial,
    one.spiffeId,
    one.state,
    one.notAfter,
    one.agent ?? '',
    one.reason ?? '',
  ]);
  return table(['SERIAL', 'IDENTITY', 'STATE', 'NOT AFTER', 'AGENT', 'REASON'], rows, next);
}

function certificateFields(one: CertificateRow): string {
  return fields([
    ['serial', one.serial],
    ['identity', one.spiffeId],
    ['state', one.reason ? `${one.state} (${one.reason}, ${one.revokedAt})` : one.state],
    ['valid', `${one.notBefore} to ${one.notAfter}`],
    ['issuer', one.issuerKeyId],
    ['log index', String(one.logIndex)],
    ...originOf(one),
    ['renewal of', one.predecessor ?? 'nothing: it is a first one'],
  ]);
}

function explanationText(why: Explanation): string {
  const { certificate, decision, entry, token, revocationEvents } = why;
  const lines: [string, string][] = [
    ['certificate', `${certificate.serial}, ${certificate.state}`],
    ['identity', certificate.spiffeId],
    [
      'issued',
      `${why.issuedAt}, ${decision.kind === 'svid' ? 'to an agent for its workload' : `by ${String(decision.kind)}`}`,
    ],
    ...originOf(certificate),
    ['entry', entryText(certificate, entry)],
  ];
  if (token) lines.push(['join token', `${token.tokenId}, made by ${token.createdBy} at ${token.createdAt}`]);
  if (certificate.predecessor) lines.push(['renewal of', certificate.predecessor]);
  const { kind: _kind, entry: _entry, spiffeId: _spiffeId, agent: _agent, node: _node, ...rest } = decision;
  lines.push(...inWords(rest));
  lines.push(['log', `leaf ${certificate.logIndex}`]);
  for (const { revokedAt, reason, operator, logIndex } of revocationEvents) {
    const said = reason === 'removeFromCRL' ? '' : `${reason}, `;
    lines.push([said ? 'revoked' : 'released', `${revokedAt}, ${said}by ${operator}, leaf ${logIndex}`]);
  }
  return fields(lines);
}

/** Through whom it came, where that is another than its holder. */
function originOf({ agent, node }: CertificateRow): [string, string][] {
  const lines: [string, string | null][] = [
    ['agent', agent],
    ['node', node],
  ];
  return lines.filter((line): line is [string, string] => line[1] !== null);
}

function entryText({ entryId }: CertificateRow, entry: Explanation['entry']): string {
  if (entry) return `${entry.entryId} (${entry.selectors.join(', ')})`;
  return entryId === null ? 'none: the server itself' : `${entryId}, deleted since`;
}

/** Members, also those of members, a line each: `peerAddress` of `evidence` reads "evidence peer address". */
function inWords(members: object, before = ''): [string, string][] {
  return Object.entries(members).flatMap(([name, value]: [string, unknown]) => {
    const words = before + name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    if (Array.isArray(value)) return [[words, value.join(', ')]];
    return typeof value === 'object' && value !== null
      ? inWords(value, `${words} `)
      : [[words, String(value)]];
  });
}
