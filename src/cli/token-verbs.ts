import type { Command } from 'commander';
import { parseDuration } from '../config/duration.ts';
import { parseCidr } from '../attestation/node/join-token/verify.ts';
import { VouchError } from '../core/errors.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import { adminPaths } from '../wire/admin.ts';
import { adminOf, globalsOf, withQuery, yesOption } from './context.ts';
import { addIdentityFlags, identityOf, type IdentityOptions } from './identity-flags.ts';
import { NewFile } from './new-file.ts';
import { answer, fields, table } from './output.ts';
import { duration, each, pageLimit, tokenId, valueOf, wholeNumber } from './values.ts';

interface CreateOptions extends IdentityOptions {
  id: string;
  cidr?: string[];
  ttl: string;
  uses: string;
  out: string;
}

interface Created {
  tokenId: string;
  spiffeId: string;
  dnsNames: string[];
  expiresAt: string;
}

interface TokenRow {
  tokenId: string;
  entryId: string;
  usesAllowed: number;
  usesTaken: number;
  expiresAt: string;
  revokedAt: string | null;
}

const createExample = `
Example:
  vouch token create --id spiffe://example.org/orders --dns orders.internal --out orders.join
  vouch exec --join-file orders.join -- /usr/bin/orders     (there, with the file)`;

/** `vouch token create | list | revoke`. */
export function addTokenVerbs(program: Command): void {
  const token = program
    .command('token')
    .description('join tokens: how a workload proves who it is at its first start');
  addCreate(token);
  token
    .command('list')
    .description('join tokens, without their secrets')
    .option('--after <token-id>', 'go on after this one', tokenId('--after'))
    .option('--limit <n>', 'rows at the most', pageLimit(), '100')
    .action(async (options: { after?: string; limit: string }, command: Command) => {
      const result = await adminOf(command)<{ tokens: TokenRow[]; next: string | null }>(
        'GET',
        withQuery(adminPaths.tokens, options),
      );
      answer(globalsOf(command), result, ({ tokens, next }) =>
        table(
          ['TOKEN', 'ENTRY', 'USED', 'EXPIRES', 'REVOKED'],
          tokens.map((one) => [
            one.tokenId,
            one.entryId,
            `${one.usesTaken}/${one.usesAllowed}`,
            one.expiresAt,
            one.revokedAt ?? '',
          ]),
          next,
        ),
      );
    });
  token
    .command('revoke')
    .argument('<token-id>', 'as `vouch token list` shows it', tokenId('vouch token revoke'))
    .description('end a join token; what it issued stays valid (for that: vouch revoke --token)')
    .addOption(yesOption())
    .action(async (tokenId: string, _options: object, command: Command) => {
      const result = await adminOf(command)<{ tokenId: string }>('POST', adminPaths.tokenRevoke, { tokenId });
      answer(globalsOf(command), result, () => `${tokenId} is revoked`);
    });
}

function addCreate(token: Command): void {
  const create = token
    .command('create')
    .description(
      'make a join file for one identity: all that a workload needs for its first start. The token in it stands nowhere else.',
    )
    .requiredOption(
      '--id <spiffe-id>',
      'identity, such as spiffe://example.org/orders',
      valueOf('--id', parseSpiffeId),
    );
  addIdentityFlags(create)
    .option(
      '--cidr <range>',
      'addresses that may use the token (repeatable; none: any)',
      each(valueOf('--cidr', parseCidr)),
    )
    .option(
      '--ttl <duration>',
      'how long the join file may be used, such as 90s, 10m, 24h; 7d at most',
      duration('--ttl', '1s', '7d'),
      '10m',
    )
    .option(
      '--uses <n>',
      'how many workloads may use it, 10000 at most',
      wholeNumber('--uses', 1, 10_000),
      '1',
    )
    .requiredOption('--out <file>', 'where to write the join file, mode 0600; - for standard output')
    .addHelpText('after', createExample)
    .action(async (options: CreateOptions, command: Command) => createToken(options, command));
}

/** The join file is opened before the token is made, so that no token is lost to a path that cannot be written. */
async function createToken(options: CreateOptions, command: Command): Promise<void> {
  const file = options.out === '-' ? undefined : new NewFile(options.out);
  let created: Created & { joinFile: string };
  try {
    created = await adminOf(command)<Created & { joinFile: string }>('POST', adminPaths.tokens, {
      spiffeId: options.id,
      cidrs: options.cidr,
      ttlSeconds: parseDuration(options.ttl),
      uses: Number(options.uses),
      ...identityOf(options),
    });
  } catch (error) {
    file?.discard();
    throw error;
  }
  const { joinFile, ...result } = created;
  const line = `${joinFile}\n`;
  if (file === undefined) process.stdout.write(line);
  else writeOrSay(file, line, result.tokenId);
  const people = (): string =>
    fields([
      ...(file === undefined ? [] : [['join file', options.out] as const]),
      ['identity', result.spiffeId],
      ['token', result.tokenId],
      ['expires', result.expiresAt],
    ]);
  // The join line has standard output for itself; which token it is must be known all the same.
  answer(globalsOf(command), result, people, file === undefined ? process.stderr : process.stdout);
}

function writeOrSay(file: NewFile, line: string, madeTokenId: string): void {
  try {
    file.write(line);
  } catch (error) {
    const lost = `cannot write ${file.path}; the token ${madeTokenId} is lost: revoke it, and make another`;
    throw new VouchError('usage-invalid', lost, { cause: error });
  }
}
