import { parseArgs } from 'node:util';
import { assert, VouchError } from '../core/errors.ts';

/** What a verb understands. */
export interface VerbSpec {
  /** Flags that take a value: whether it must be given, and may be given several times. */
  values: { readonly [flag: string]: { required: boolean; several?: boolean } };
  /** Flags that take none, besides `--help`. `--config` is taken by all: what runs every verb with it must not fail. */
  switches: readonly string[];
  /** True where a command follows `--`. */
  command: boolean;
}

/** A command line as a verb reads it. */
export interface Arguments {
  help: boolean;
  /** The value of a flag, undefined where it was not given. */
  value(flag: string): string | undefined;
  /** Every value of a flag that may be given several times. */
  all(flag: string): readonly string[];
  /** The value of a required flag. */
  required(flag: string): string;
  has(name: string): boolean;
  /** What follows `--`. */
  command: readonly string[];
}

/** Parses what follows the verb. Throws `usage-invalid` for anything that `spec` does not name. */
export function parseArguments(argv: readonly string[], spec: VerbSpec): Arguments {
  const split = spec.command ? argv.indexOf('--') : -1;
  const flags = split === -1 ? argv : argv.slice(0, split);
  const command = split === -1 ? [] : argv.slice(split + 1);
  const values = parseFlags(flags, spec);
  const help = values.help === true;
  if (!help) {
    for (const [flag, { required }] of Object.entries(spec.values))
      if (required && values[flag] === undefined)
        throw new VouchError('usage-invalid', `--${flag} is missing`);
    if (spec.command && command.length === 0)
      throw new VouchError('usage-invalid', 'the command is missing: … -- CMD [ARG]…');
  }
  const value = (flag: string): string | undefined => {
    const found = values[flag];
    return typeof found === 'string' ? found : undefined;
  };
  const all = (flag: string): readonly string[] => {
    const found = values[flag];
    return Array.isArray(found) ? found.filter((one) => typeof one === 'string') : [];
  };
  const required = (flag: string): string => {
    const found = value(flag);
    assert(found !== undefined, `--${flag} is required`);
    return found;
  };
  return { help, value, all, required, has: (name) => values[name] === true, command };
}

/** Seconds of `90`, `90s`, `5m` or `1h`, within bounds. Throws `usage-invalid`. */
export function parseSeconds(flag: string, text: string, bounds: { min: number; max: number }): number {
  const [, digits, unit = 's'] = /^(\d{1,9}(?:\.\d{1,3})?)([smh])?$/.exec(text) ?? [];
  const seconds = Number(digits) * (unit === 'h' ? 3600 : unit === 'm' ? 60 : 1);
  if (digits === undefined || seconds < bounds.min || seconds > bounds.max)
    throw new VouchError(
      'usage-invalid',
      `--${flag} takes ${bounds.min} to ${bounds.max} seconds, as 90, 90s, 5m or 1h`,
    );
  return seconds;
}

type Flags = Record<string, string | boolean | (string | boolean)[] | undefined>;

function parseFlags(args: readonly string[], spec: VerbSpec): Flags {
  const options: Record<string, { type: 'string' | 'boolean'; multiple?: boolean }> = {
    help: { type: 'boolean' },
    config: { type: 'string' },
  };
  for (const [flag, { several = false }] of Object.entries(spec.values))
    options[flag] = { type: 'string', multiple: several };
  for (const name of spec.switches) options[name] = { type: 'boolean' };
  try {
    const { values }: { values: Flags } = parseArgs({
      args: [...args],
      options,
      strict: true,
      allowPositionals: false,
    });
    const empty = Object.keys(values).find((flag) => [values[flag]].flat().includes(''));
    if (empty !== undefined) throw new Error(`--${empty} is empty`);
    return values;
  } catch (cause) {
    throw new VouchError('usage-invalid', firstSentence(cause), { cause });
  }
}

function firstSentence(error: unknown): string {
  const text = error instanceof Error ? error.message : 'the command line cannot be read';
  return text.split(/[.\n]/)[0]?.replaceAll("'", '') ?? text;
}
