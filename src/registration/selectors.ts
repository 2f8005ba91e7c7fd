import { VouchError } from '../core/errors.ts';
import type { Selector } from '../core/registration.ts';

interface Kind {
  /** Does the text behind `unix:<kind>:` name one thing in exactly one spelling? They are compared as text. */
  takes: (value: string) => boolean;
  /** Completes "takes …". */
  what: string;
}

const idMax = 4_294_967_294; // 2^32 − 1 stands for none.
const number: Kind = {
  takes: (value) => /^(0|[1-9]\d{0,9})$/.test(value) && Number(value) <= idMax,
  what: `a number from 0 to ${idMax} without leading zeros`,
};
const name: Kind = {
  takes: (value) => /^[^\p{Cc}:]{1,256}$/u.test(value) && value.isWellFormed(),
  what: 'a name of at most 256 characters as the host has it, without colon',
};
const path: Kind = {
  takes: (value) =>
    /^(\/[^/\p{Cc}]+)+$/u.test(value) &&
    !/\/\.\.?(\/|$)/.test(value) &&
    value.isWellFormed() &&
    Buffer.byteLength(value) < 4096,
  what: 'an absolute path of a program as the kernel has it: no //, no . or .. between slashes, no slash at its end, no link',
};
const sha256: Kind = { takes: (value) => /^[0-9a-f]{64}$/.test(value), what: '64 lower-case hex digits' };

/** What the agent of a host can attest of a process there. */
const kinds: ReadonlyMap<string, Kind> = new Map([
  ['uid', number],
  ['user', name],
  ['gid', number],
  ['group', name],
  ['supplementary_gid', number],
  ['supplementary_group', name],
  ['path', path],
  ['sha256', sha256],
]);

/** Parses a selector of workloads, such as `unix:uid:1000`. Throws `request-malformed`, saying what to write. */
export function workloadSelector(text: string): Selector {
  const quoted = JSON.stringify(text.slice(0, 120));
  const [type, kindName = '', ...rest] = text.split(':');
  const kind = type === 'unix' ? kinds.get(kindName) : undefined;
  if (kind === undefined)
    throw new VouchError(
      'request-malformed',
      `no selector of workloads: ${quoted}; use unix:KIND:VALUE with one of ${[...kinds.keys()].join(', ')}, such as unix:uid:1000`,
    );
  const value = rest.join(':');
  if (!kind.takes(value))
    throw new VouchError('request-malformed', `unix:${kindName} takes ${kind.what}: ${quoted}`);
  return { type: 'unix', value: `${kindName}:${value}` };
}
