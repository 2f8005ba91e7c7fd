import * as z from 'zod/mini';
import { durationGrammar, parseDuration } from './duration.ts';

/** A path from the root. */
export const absolutePath = z.string().check(z.startsWith('/', 'must be an absolute path'));

/** Text of 1 to `most` characters. */
export const text = (most: number) => z.string().check(z.minLength(1), z.maxLength(most));

/** A duration such as `90s` or `7d` within bounds; read as seconds. */
export const duration = (most: string, least = '1s') =>
  z.pipe(
    z.pipe(
      z.string().check(z.regex(durationGrammar, 'must be a duration such as 90s, 10m, 24h or 7d')),
      z.transform(parseDuration),
    ),
    z
      .int()
      .check(
        z.gte(parseDuration(least), `must be ${least} at least`),
        z.lte(parseDuration(most), `must be ${most} at most`),
      ),
  );
