import { parseDuration } from '../config/duration.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import { adminGrammars } from '../wire/admin.ts';

/** Reads the value of a flag or argument; the text itself is what is sent. Throws `usage-invalid`, which names the flag. */
type Checked = (text: string) => string;

/**
 * A value that `parse` takes, checked before anything is sent or made: what is wrong on the command line is a mistake
 * there, and what was pasted in the wrong place stays here.
 */
export function valueOf(flag: string, parse: (text: string) => unknown): Checked {
  return (text) => {
    try {
      parse(text);
      return text;
    } catch (error) {
      throw new VouchError('usage-invalid', `${flag}: ${asVouchError(error).detail}`, { cause: error });
    }
  };
}

/** A value of this form; `what` completes "takes …". */
export function formOf(flag: string, form: RegExp, what: string): Checked {
  return (text) => {
    if (!form.test(text)) throw new VouchError('usage-invalid', `${flag} takes ${what}`);
    return text;
  };
}

/** A whole number within bounds. */
export function wholeNumber(flag: string, least: number, most: number): Checked {
  return (text) => {
    if (!/^\d{1,9}$/.test(text) || Number(text) < least || Number(text) > most)
      throw new VouchError('usage-invalid', `${flag} takes a whole number from ${least} to ${most}`);
    return text;
  };
}

/** `90s`, `10m`, `24h`, `7d`, within bounds of the same form. */
export function duration(flag: string, least: string, most: string): Checked {
  const check = valueOf(flag, parseDuration);
  return (text) => {
    const seconds = parseDuration(check(text));
    if (seconds < parseDuration(least) || seconds > parseDuration(most))
      throw new VouchError('usage-invalid', `${flag} takes ${least} to ${most}: ${text}`);
    return text;
  };
}

/** Id of a join token, as `vouch token list` shows it. */
export function tokenId(flag: string): Checked {
  return formOf(flag, adminGrammars.tokenId, 'an id as `vouch token list` shows it, t_ and 16 hex digits');
}

/** Id of a registration entry, as `vouch entry list` shows it. */
export function entryId(flag: string): Checked {
  return formOf(flag, adminGrammars.entryId, 'an id as `vouch entry list` shows it, e_ and 16 hex digits');
}

/** Key id of an issuer, as `vouch status` shows it. */
export function issuerKeyId(flag: string): Checked {
  return formOf(flag, /^[0-9a-f]{40}$/, 'a key id as `vouch status` shows it, 40 hex digits');
}

/** Rows of a page. */
export function pageLimit(): Checked {
  return wholeNumber('--limit', 1, 1000);
}

/** Index of a leaf, as `next` of a page names it. */
export function logIndex(flag: string): Checked {
  return formOf(flag, /^\d{1,15}$/, 'the number of a leaf');
}

/** For flags that may be given several times. */
export function each(check: Checked): (text: string, before?: string[]) => string[] {
  return (text, before = []) => [...before, check(text)];
}
