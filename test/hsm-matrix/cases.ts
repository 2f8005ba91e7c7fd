import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** When a fault comes: to a signer at rest, or to one whose signatures are waited for. */
export type Occasion = 'idle' | 'load';

/** Once, on the next call; or on each call until the token is well again. */
export type Duration = 'once' | 'while';

/** One fault to live through. */
export interface Case {
  ckr: string;
  call: string;
  occasion: Occasion;
  duration: Duration;
}

/** What a PKCS#11 module answers when something is wrong with session, login, token, machine or PIN. */
export const returnValues = [
  'CKR_DEVICE_ERROR',
  'CKR_DEVICE_MEMORY',
  'CKR_DEVICE_REMOVED',
  'CKR_GENERAL_ERROR',
  'CKR_FUNCTION_FAILED',
  'CKR_HOST_MEMORY',
  'CKR_SESSION_CLOSED',
  'CKR_SESSION_COUNT',
  'CKR_SESSION_HANDLE_INVALID',
  'CKR_TOKEN_NOT_PRESENT',
  'CKR_USER_NOT_LOGGED_IN',
  'CKR_USER_ALREADY_LOGGED_IN',
  'CKR_KEY_HANDLE_INVALID',
  'CKR_OBJECT_HANDLE_INVALID',
  'CKR_OPERATION_ACTIVE',
  'CKR_CRYPTOKI_NOT_INITIALIZED',
  'CKR_PIN_INCORRECT',
  'CKR_PIN_LOCKED',
] as const;

/** Calls of a ceremony alone, which no running signer makes. */
const ceremonyOnly: ReadonlySet<string> = new Set(['C_GenerateKeyPair']);

/** Every PKCS#11 function that the signer calls, read from its sources: none can be forgotten here. */
export function calledFunctions(): string[] {
  const folder = resolve(import.meta.dirname, '../../src/signer/pkcs11');
  const text = readdirSync(folder)
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('\n');
  const names = [...text.matchAll(/\.(C_[A-Za-z]+)\(/g)].map(([, name]) => name ?? '');
  return [...new Set(names)].filter((name) => !ceremonyOnly.has(name)).sort();
}

/** All of them, in an order that a run can be cut off in: each return value comes early, and so does each function. */
export function allCases(): Case[] {
  const cases = returnValues.flatMap((ckr, row) =>
    calledFunctions().flatMap((call, column) =>
      (['load', 'idle'] as const).flatMap((occasion, plane) =>
        (['while', 'once'] as const).map((duration, layer) => ({
          case: { ckr, call, occasion, duration },
          rank: (row * 7 + column * 5 + plane * 3 + layer) % 18,
        })),
      ),
    ),
  );
  return cases.toSorted((a, b) => a.rank - b.rank).map((one) => one.case);
}

/** True where the token says that the PIN is wrong: nobody but an operator gets past that. */
export function refusesPin({ ckr, call }: Case): boolean {
  return call === 'C_Login' && ckr.startsWith('CKR_PIN_');
}

/**
 * A sample in which each return value and each function comes at least `each` times, spread over the occasions; the
 * same for the same seed.
 */
export function sampled(cases: readonly Case[], each: number, random: () => number): Case[] {
  const left = new Map<string, number>();
  for (const { ckr, call } of cases) {
    left.set(ckr, each);
    left.set(call, each);
  }
  const wants = (name: string): boolean => (left.get(name) ?? 0) > 0;
  const taken: Case[] = [];
  const shuffled = cases.map((one) => ({ one, at: random() })).toSorted((a, b) => a.at - b.at);
  for (const both of [true, false])
    for (const { one } of shuffled) {
      const isWanted = both ? wants(one.ckr) && wants(one.call) : wants(one.ckr) || wants(one.call);
      if (!isWanted || taken.includes(one)) continue;
      taken.push(one);
      for (const name of [one.ckr, one.call]) left.set(name, (left.get(name) ?? 0) - 1);
    }
  return taken;
}

/** As it is named in output. */
export function nameOf({ ckr, call, occasion, duration }: Case): string {
  return `${ckr} from ${call}, ${duration}, ${occasion === 'load' ? 'under load' : 'at rest'}`;
}
