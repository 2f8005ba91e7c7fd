import type { Command } from 'commander';
import { adminOf, globalsOf } from './context.ts';
import { answer, fields, table } from './output.ts';

interface SignerView {
  state: string;
  pid: number | null;
  restarts: number;
  lastProblem: string | null;
  sessions: { open: number; wanted: number } | null;
}

interface Status {
  state: string;
  problems: string[];
  trustDomain: string;
  rootPin: string;
  signer: SignerView;
  standby?: SignerView;
  log: { treeSize: number };
  issuers: {
    keyId: string;
    state: string;
    issuing: boolean;
    notAfter: string;
    revoked: { reason: string } | null;
  }[];
  crossCertificate: { issuer: string; notAfter: string } | null;
  crls: { issuerKeyId: string; scope: string; crlNumber: number; nextUpdate: string; url: string }[];
}

/** `vouch status` and `vouch issuer list`. */
export function addAuthorityVerbs(program: Command): void {
  program
    .command('status')
    .description('state of signer, log, issuer and CRLs')
    .action(async (_options: object, command: Command) => {
      answer(globalsOf(command), await adminOf(command)<Status>('GET', '/v1/status'), statusText);
    });
  program
    .command('issuer')
    .description('issuers of this trust domain')
    .command('list')
    .description('issuers with their state')
    .action(async (_options: object, command: Command) => {
      const { issuers } = await adminOf(command)<Status>('GET', '/v1/status');
      answer(globalsOf(command), { issuers }, () =>
        table(
          ['ISSUER', 'STATE', 'NOT AFTER'],
          issuers.map((one) => [one.keyId, stateText(one), one.notAfter]),
        ),
      );
    });
}

function statusText(status: Status): string {
  const full = status.crls.filter((crl) => crl.scope === 'full');
  return fields([
    ['state', [status.state, ...status.problems].join('; ')],
    ['trust domain', status.trustDomain],
    ['root pin', status.rootPin],
    ['signer', signerText(status.signer)],
    ...(status.standby ? [['standby', signerText(status.standby)] as [string, string]] : []),
    ['log', `${status.log.treeSize} leaves`],
    ...status.issuers.map((issuer): [string, string] => [
      'issuer',
      `${issuer.keyId} ${stateText(issuer)}, until ${issuer.notAfter}`,
    ]),
    ...(status.crossCertificate
      ? [
          [
            'certified by',
            `${status.crossCertificate.issuer}, until ${status.crossCertificate.notAfter}`,
          ] as [string, string],
        ]
      : []),
    ...(full.length === 0 ? [['full CRL', 'none yet'] as [string, string]] : []),
    ...full.map((crl): [string, string] => [
      'full CRL',
      `number ${crl.crlNumber}, next update ${crl.nextUpdate}, ${crl.url}`,
    ]),
  ]);
}

function signerText({ state, pid, restarts, sessions, lastProblem }: SignerView): string {
  const parts = [state, `pid ${pid ?? 'none'}`, `${restarts} restart(s)`];
  if (sessions) parts.push(`${sessions.open} of ${sessions.wanted} session(s)`);
  if (lastProblem !== null) parts.push(`last problem: ${lastProblem}`);
  return parts.join(', ');
}

/** Of several active issuers one issues. */
function stateText({ state, issuing, revoked }: Status['issuers'][number]): string {
  if (revoked) return `${state}, revoked by the root (${revoked.reason})`;
  return issuing ? `${state}, issuing` : state;
}
