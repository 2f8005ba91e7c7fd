import { type Command, Option } from 'commander';
import { type InitResult, initialize } from '../init.ts';
import { adminOf, errandLog, globalsOf, yesOption } from './context.ts';
import { answer, fields, table } from './output.ts';

interface InitFlags {
  state: string;
  trustDomain: string;
  hsmFile: string;
  rootHsmFile: string;
  dev?: boolean;
  nameConstraints?: boolean;
  enrollmentUrl?: string;
  publicationUrl?: string;
  enrollmentListen?: string;
  publicationListen?: string;
  operationsListen?: string;
  rollbackMark: string;
}

interface Status {
  state: string;
  problems: string[];
  trustDomain: string;
  rootPin: string;
  signer: { state: string; pid: number | null; restarts: number };
  log: { treeSize: number };
  issuers: { keyId: string; state: string; notAfter: string }[];
  crls: { issuerKeyId: string; scope: string; crlNumber: number; nextUpdate: string; url: string }[];
}

/** `vouch init`, `vouch status` and `vouch issuer list`. */
export function addAuthorityVerbs(program: Command): void {
  program
    .command('init')
    .description('make a trust domain: keys in two tokens, root, issuer, log; once')
    .requiredOption('--state <dir>', 'state directory to make; it must not exist or be empty')
    .requiredOption('--trust-domain <name>', 'such as example.org')
    .requiredOption('--hsm-file <file>', 'token of issuer and log key, as hsm-sim/new-token prints it')
    .requiredOption(
      '--root-hsm-file <file>',
      'token of the root key, used for ceremonies only; not named in the configuration',
    )
    .option('--name-constraints', 'let the issuer certify names of this trust domain only')
    .option('--dev', 'loopback URLs; without it the next two are required')
    .option('--enrollment-url <url>', 'what agents dial, https')
    .option('--publication-url <url>', 'base of CRL and CA URLs, in every certificate')
    .option('--enrollment-listen <host:port>', 'default 127.0.0.1:8443; port 0 picks a free one now')
    .option('--publication-listen <host:port>', 'default 127.0.0.1:8180')
    .option('--operations-listen <host:port>', 'default 127.0.0.1:9180')
    .addOption(
      new Option(
        '--rollback-mark <where>',
        'token, or file:PATH where the token takes no data objects',
      ).default('token'),
    )
    .addOption(yesOption())
    .action(async (flags: InitFlags, command: Command) => {
      const output = globalsOf(command);
      const step = (text: string): void => {
        if (!output.json) process.stderr.write(`${text} …\n`);
      };
      const result = await initialize(
        {
          ...flags,
          dev: flags.dev === true,
          nameConstraints: flags.nameConstraints === true,
          enrollmentUrl: flags.enrollmentUrl,
          publicationUrl: flags.publicationUrl,
          enrollmentListen: flags.enrollmentListen,
          publicationListen: flags.publicationListen,
          operationsListen: flags.operationsListen,
        },
        errandLog(output),
        step,
      );
      answer(output, result, initText);
    });
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
          issuers.map((one) => [one.keyId, one.state, one.notAfter]),
        ),
      );
    });
}

function initText(result: InitResult): string {
  return `${fields([
    ['trust domain', result.trustDomain],
    ['root pin', result.rootPin],
    ['configuration', result.config],
    ['enrollment', result.enrollmentUrl],
    ['publication', result.publicationUrl],
  ])}\nNext: vouch server --config ${result.config}`;
}

function statusText(status: Status): string {
  const full = status.crls.find((crl) => crl.scope === 'full');
  return fields([
    ['state', [status.state, ...status.problems].join('; ')],
    ['trust domain', status.trustDomain],
    ['root pin', status.rootPin],
    [
      'signer',
      `${status.signer.state}, pid ${status.signer.pid ?? 'none'}, ${status.signer.restarts} restart(s)`,
    ],
    ['log', `${status.log.treeSize} leaves`],
    ...status.issuers.map((issuer): [string, string] => [
      'issuer',
      `${issuer.keyId} ${issuer.state}, until ${issuer.notAfter}`,
    ]),
    ['full CRL', full ? `number ${full.crlNumber}, next update ${full.nextUpdate}, ${full.url}` : 'none yet'],
  ]);
}
