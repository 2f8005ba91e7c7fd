import { VouchError } from '../core/errors.ts';
import { type SigningKeyType, signingKeyTypeNames } from '../x509/signing-key-type.ts';

/** Why a token cannot make each type of key and sign with it; a type that is missing here it can. */
export type KeyTypeProblems = Partial<Record<SigningKeyType, string>>;

/** Refuses a type of key before one is made. Throws `config-hsm` with the types that the token has. */
export function requireKeyType(problems: KeyTypeProblems, type: SigningKeyType, tokenLabel: string): void {
  const problem = problems[type];
  if (problem === undefined) return;
  const others = signingKeyTypeNames.filter((name) => problems[name] === undefined);
  const choice = others.length > 0 ? `choose one of ${others.join(', ')}` : 'it makes no key that Vouch uses';
  throw new VouchError('config-hsm', `the token ${tokenLabel} makes no ${type} key: ${problem}; ${choice}`);
}
