import { tags } from './der.ts';

const secondsPerDay = 86_400;

/**
 * Unix seconds of the content [start, end) of a UTCTime or GeneralizedTime, or undefined where it is not in the one
 * form of RFC 5280 §4.1.2.5: seconds present, `Z`, no fraction, UTCTime through 2049 (two digits from 50 are 19xx),
 * GeneralizedTime from 2050, a date that exists. No object is made, since a CRL has a million of these.
 */
export function readTime(bytes: Uint8Array, tag: number, start: number, end: number): number | undefined {
  return secondsOf(readYear(bytes, tag, start, end), bytes, end);
}

/** As `readTime`, of a GeneralizedTime of any year, as invalidityDate is (RFC 5280 §5.3.2). */
export function readGeneralizedTime(bytes: Uint8Array, start: number, end: number): number | undefined {
  if (end - start !== 15) return undefined;
  const [century, rest] = [twoDigits(bytes, start), twoDigits(bytes, start + 2)];
  return secondsOf(century < 0 || rest < 0 ? undefined : century * 100 + rest, bytes, end);
}

function secondsOf(year: number | undefined, bytes: Uint8Array, end: number): number | undefined {
  if (year === undefined || bytes[end - 1] !== 0x5a) return undefined;
  const month = twoDigits(bytes, end - 11);
  const day = twoDigits(bytes, end - 9);
  const hour = twoDigits(bytes, end - 7);
  const minute = twoDigits(bytes, end - 5);
  const second = twoDigits(bytes, end - 3);
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return undefined;
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return undefined;
  return daysSinceEpoch(year, month, day) * secondsPerDay + hour * 3600 + minute * 60 + second;
}

function readYear(bytes: Uint8Array, tag: number, start: number, end: number): number | undefined {
  if (tag === tags.utcTime && end - start === 13) {
    const year = twoDigits(bytes, start);
    return year < 0 ? undefined : year + (year < 50 ? 2000 : 1900);
  }
  if (tag !== tags.generalizedTime || end - start !== 15) return undefined;
  const century = twoDigits(bytes, start);
  const year = century * 100 + twoDigits(bytes, start + 2);
  return century < 0 || twoDigits(bytes, start + 2) < 0 || year < 2050 ? undefined : year;
}

/** -1 where one of the two is no digit. */
function twoDigits(bytes: Uint8Array, at: number): number {
  const high = (bytes[at] ?? 0) - 0x30;
  const low = (bytes[at + 1] ?? 0) - 0x30;
  return high < 0 || high > 9 || low < 0 || low > 9 ? -1 : high * 10 + low;
}

function daysInMonth(year: number, month: number): number {
  if (month !== 2) return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
  return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28;
}

/** Days of the proleptic Gregorian calendar, counted in years that begin in March so that leap days come last. */
function daysSinceEpoch(year: number, month: number, day: number): number {
  const marchYear = month > 2 ? year : year - 1;
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1;
  const leapDays = Math.floor(marchYear / 4) - Math.floor(marchYear / 100) + Math.floor(marchYear / 400);
  return marchYear * 365 + leapDays + dayOfYear - 719_468;
}
