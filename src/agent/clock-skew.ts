import { VouchError } from '../core/errors.ts';

/** From here on a skew is named. */
const namedSkewMs = 30_000;

/** Our clock less the server's, in milliseconds; its answer has whole seconds and was made between the two times. */
export function skewOf(serverTime: string, sentMs: number, receivedMs: number): number {
  return (sentMs + receivedMs) / 2 - (Date.parse(serverTime) + 500);
}

/** `1 h 0 min behind`, or undefined where the clocks agree well enough. */
export function describeSkew(skewMs: number): string | undefined {
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  if (Math.abs(skewMs) < namedSkewMs) return undefined;
  const amount =
    seconds >= 172_800
      ? `${Math.floor(seconds / 86_400)} d`
      : seconds >= 3600
        ? `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
        : seconds >= 120
          ? `${Math.floor(seconds / 60)} min`
          : `${seconds} s`;
  return `${amount} ${skewMs < 0 ? 'behind' : 'ahead of'}`;
}

/** Adds the skew to a failure that it may explain. */
export function withSkew(error: unknown, skewMs: number): unknown {
  const skew = describeSkew(skewMs);
  if (skew === undefined || !(error instanceof VouchError)) return error;
  return new VouchError(
    error.code,
    `${error.detail} (this machine's clock is ${skew} the server's: set it right first)`,
    {
      cause: error,
    },
  );
}
