import { readFileSync } from 'node:fs';
import { VouchError } from '../../core/errors.ts';

const files = { user: '/etc/passwd', group: '/etc/group' } as const;

/** The number of a user or group; one from elsewhere than /etc (LDAP) is written as a number. Throws `config-state`. */
export function accountNumber(
  kind: 'user' | 'group',
  account: string | number | undefined,
): number | undefined {
  if (typeof account !== 'string') return account;
  // passwd(5) and group(5): name, password, number.
  for (const line of readFileSync(files[kind], 'utf8').split('\n')) {
    const [name, , number] = line.split(':');
    if (name === account && /^\d{1,10}$/.test(number ?? '')) return Number(number);
  }
  throw new VouchError(
    'config-state',
    `there is no ${kind} ${account} in ${files[kind]}: make it, or write its number`,
  );
}
