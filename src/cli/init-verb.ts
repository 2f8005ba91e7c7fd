import { type Command, Option } from 'commander';
import { initialize } from '../init/initialize.ts';
import { openCompletion } from '../init/complete.ts';
import { type RequestResult, requestCeremony } from '../init/request.ts';
import type { InitSettings } from '../init/settings.ts';
import type { InitResult } from '../init/state.ts';
import { VouchError } from '../core/errors.ts';
import {
  type LogKeyType,
  logKeyTypes,
  type SigningKeyType,
  signingKeyTypeNames,
} from '../x509/signing-key-type.ts';
import { confirm, errandLog, globalsOf, yesOption } from './context.ts';
import { answer, fields, type Output } from './output.ts';
import { formOf, wholeNumber } from './values.ts';

interface InitFlags {
  state: string;
  trustDomain?: string;
  hsmFile?: string;
  rootHsmFile?: string;
  standbyHsmFile?: string;
  issuerCsrOut?: string;
  nextIssuers?: string;
  ceremonyIn?: string;
  rootPin?: string;
  dev?: boolean;
  nameConstraints?: boolean;
  enrollmentUrl?: string;
  publicationUrl?: string;
  enrollmentListen?: string;
  publicationListen?: string;
  operationsListen?: string;
  rollbackMark: string;
  ocsp?: boolean;
  rootKey: SigningKeyType;
  issuerKey: SigningKeyType;
  logKey?: LogKeyType;
  yes?: boolean;
}

const epilogue = `
With the root on a machine of its own (docs/ceremony.md):
  vouch init --state DIR … --issuer-csr-out FILE   makes keys, writes the request, and waits
  vouch ceremony --file ceremony.yaml              there, without a network
  vouch init --state DIR --ceremony-in FOLDER      takes its result in, after you have compared the root's pin`;

const rootAtHand = 'needs --root-hsm-file: an off-line ceremony makes no standby yet';

/** `vouch init`. */
export function addInitVerb(program: Command): void {
  program
    .command('init')
    .description('make a trust domain: keys in two tokens, root, issuer, log; once')
    .requiredOption('--state <dir>', 'state directory to make; it must not exist or be empty')
    .option('--trust-domain <name>', 'such as example.org (required, but with --ceremony-in)')
    .option(
      '--hsm-file <file>',
      'token of issuer and log key, as hsm-sim/new-token prints it (required, but with --ceremony-in)',
    )
    .option(
      '--root-hsm-file <file>',
      'token of the root key, used for ceremonies only; not named in the configuration (required, unless the root is elsewhere)',
    )
    .option(
      '--issuer-csr-out <file>',
      'the root is elsewhere: make keys and the request that its ceremony takes',
    )
    .addOption(
      new Option(
        '--next-issuers <n>',
        'with --issuer-csr-out: issuers to be certified now for later, 0 to 15',
      ).argParser(wholeNumber('--next-issuers', 0, 15)),
    )
    .option('--ceremony-in <folder>', 'the root is elsewhere: take in what its ceremony made')
    .addOption(
      new Option(
        '--root-pin <pin>',
        'with --ceremony-in: the pin that the ceremony printed; without it you are asked',
      ).argParser(formOf('--root-pin', /^sha256:[0-9a-f]{64}$/, 'sha256: and 64 hex digits')),
    )
    .option(
      '--standby-hsm-file <file>',
      'second online token, whose issuer and log key take over while the first token stays away; needs --root-hsm-file',
    )
    .addOption(keyOption('--root-key', "the root's key", signingKeyTypeNames).default('ec-p384'))
    .addOption(keyOption('--issuer-key', "the issuer's key", signingKeyTypeNames).default('ec-p256'))
    .addOption(keyOption('--log-key', "the log's key; default ed25519 where the token makes it", logKeyTypes))
    .option('--name-constraints', 'let the issuer certify names of this trust domain only')
    .option('--ocsp', "answer OCSP, for software that takes no CRL, with a key made beside the issuer's")
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
    .addHelpText('after', epilogue)
    .action(async (flags: InitFlags, command: Command) => {
      if (flags.ceremonyIn !== undefined || flags.issuerCsrOut !== undefined)
        refuseGiven(command, ['standbyHsmFile'], rootAtHand);
      if (flags.ceremonyIn !== undefined) return takeIn(flags.ceremonyIn, flags, command);
      if (flags.issuerCsrOut !== undefined) return request(flags.issuerCsrOut, flags, command);
      refuseGiven(command, ['nextIssuers'], 'is for a root that is elsewhere: give --issuer-csr-out, too');
      refuseGiven(command, ['rootPin'], 'is for a root that is elsewhere: give --ceremony-in, too');
      const output = globalsOf(command);
      needFlags(flags, ['trustDomain', 'hsmFile', 'rootHsmFile']);
      const { rootHsmFile = '' } = flags;
      const settings = { ...settingsOf(flags), rootHsmFile };
      const result = await initialize(settings, errandLog(output), stepsOn(output));
      answer(output, result, initText);
    });
}

async function request(requestFile: string, flags: InitFlags, command: Command): Promise<void> {
  refuseGiven(
    command,
    ['rootHsmFile', 'rootKey', 'rootPin'],
    'has no place beside --issuer-csr-out: the root is elsewhere',
  );
  needFlags(flags, ['trustDomain', 'hsmFile']);
  const output = globalsOf(command);
  const nextIssuers = Number(flags.nextIssuers ?? 0);
  const result = await requestCeremony({ ...settingsOf(flags), requestFile, nextIssuers }, errandLog(output));
  answer(output, result, requestText);
}

async function takeIn(ceremonyIn: string, flags: InitFlags, command: Command): Promise<void> {
  const known = ['state', 'ceremonyIn', 'rootPin', 'yes'];
  refuseGiven(
    command,
    ['issuerCsrOut'],
    'comes before the ceremony, and --ceremony-in after it: give one of them',
  );
  const others = command.options
    .map((option) => option.attributeName())
    .filter((name) => !known.includes(name));
  refuseGiven(command, others, 'has no place beside --ceremony-in: the request has settled it');
  const output = globalsOf(command);
  const { state, rootPin } = flags;
  const completion = openCompletion({ state, ceremonyIn, rootPin });
  const { operators, signedAt } = completion;
  if (rootPin === undefined)
    await confirm(
      `Held by ${operators.join(', ')}, ${signedAt}. Every agent will trust the root with the pin\n${completion.rootPin}\nIt must be the one that the ceremony printed.`,
      flags.yes === true,
    );
  answer(output, await completion.complete(errandLog(output), stepsOn(output)), initText);
}

function settingsOf(flags: InitFlags): InitSettings {
  return {
    state: flags.state,
    trustDomain: flags.trustDomain ?? '',
    hsmFile: flags.hsmFile ?? '',
    standbyHsmFile: flags.standbyHsmFile,
    dev: flags.dev === true,
    nameConstraints: flags.nameConstraints === true,
    keyTypes: { root: flags.rootKey, issuer: flags.issuerKey, log: flags.logKey },
    enrollmentUrl: flags.enrollmentUrl,
    publicationUrl: flags.publicationUrl,
    enrollmentListen: flags.enrollmentListen,
    publicationListen: flags.publicationListen,
    operationsListen: flags.operationsListen,
    rollbackMark: flags.rollbackMark,
    ocsp: flags.ocsp === true,
  };
}

/** All that are missing at once. Throws `usage-invalid`. */
function needFlags(flags: InitFlags, names: readonly (keyof typeof flagNames)[]): void {
  const missing = names.filter((name) => flags[name] === undefined).map((name) => flagNames[name]);
  if (missing.length === 0) return;
  const elsewhere = missing.includes(flagNames.rootHsmFile)
    ? ' (--issuer-csr-out instead of --root-hsm-file where the root is on a machine of its own)'
    : '';
  throw new VouchError('usage-invalid', `give ${missing.join(', ')}${elsewhere}`);
}

const flagNames = {
  trustDomain: '--trust-domain',
  hsmFile: '--hsm-file',
  rootHsmFile: '--root-hsm-file',
} as const;

/** Defaults do not count: what was typed and has no effect is a mistake. */
function refuseGiven(command: Command, names: readonly string[], why: string): void {
  for (const option of command.options)
    if (
      names.includes(option.attributeName()) &&
      command.getOptionValueSource(option.attributeName()) === 'cli'
    )
      throw new VouchError('usage-invalid', `${option.long} ${why}`);
}

function stepsOn(output: Output): (text: string) => void {
  return (text) => {
    if (!output.json) process.stderr.write(`${text} …\n`);
  };
}

function requestText(result: RequestResult): string {
  return `${fields([
    ['trust domain', result.trustDomain],
    ['request', `${result.request}${result.made ? '' : ' (the same again)'}`],
    ['SHA-256', result.sha256],
    ['issuers', result.issuerKeyIds.join(', ')],
  ])}\nRead the SHA-256 out to whoever holds the ceremony. Next: vouch init --state ${result.state} --ceremony-in FOLDER`;
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
