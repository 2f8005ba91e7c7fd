import { type Command, Option } from 'commander';
import { type InitResult, initialize } from '../init.ts';
import {
  type LogKeyType,
  logKeyTypes,
  type SigningKeyType,
  signingKeyTypeNames,
} from '../x509/signing-key-type.ts';
import { errandLog, globalsOf, yesOption } from './context.ts';
import { answer, fields } from './output.ts';

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
  rootKey: SigningKeyType;
  issuerKey: SigningKeyType;
  logKey?: LogKeyType;
}

/** `vouch init`. */
export function addInitVerb(program: Command): void {
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
    .addOption(keyOption('--root-key', "the root's key", signingKeyTypeNames).default('ec-p384'))
    .addOption(keyOption('--issuer-key', "the issuer's key", signingKeyTypeNames).default('ec-p256'))
    .addOption(keyOption('--log-key', "the log's key; default ed25519 where the token makes it", logKeyTypes))
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
          keyTypes: { root: flags.rootKey, issuer: flags.issuerKey, log: flags.logKey },
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
}

function keyOption(flag: string, description: string, types: readonly string[]): Option {
  return new Option(`${flag} <type>`, description).choices(types);
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
