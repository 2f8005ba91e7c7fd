import { VouchError } from '../core/errors.ts';

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** `90s`, `10m`, `24h`, `7d`. */
export const durationGrammar = /^(\d{1,9})([smhd])$/;

/** Seconds of a duration such as `90s`, `10m`, `24h` or `7d`. Throws `config-invalid`. */
export function parseDuration(text: string): number {
  const [, digits, unit = ''] = durationGrammar.exec(text) ?? [];
  const factor = unitSeconds[unit];
  if (digits === undefined || factor === undefined)
    throw new VouchError(
      'config-invalid',
      `not a duration such as 90s, 10m, 24h or 7d: ${JSON.stringify(text.slice(0, 40))}`,
    );
  return Number(digits) * factor;
}
