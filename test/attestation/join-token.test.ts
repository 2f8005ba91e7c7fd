import { expect, test } from 'vitest';
import {
  addressInRanges,
  joinTokenAttestor,
  parseCidr,
} from '../../src/attestation/node/join-token/verify.ts';
import { isJoinToken, joinTokenHash, newJoinToken } from '../../src/attestation/node/join-token/token.ts';
import type { JoinTokenRecord } from '../../src/store/records.ts';

const record: JoinTokenRecord = {
  tokenId: 't_1',
  entryId: 'e_1',
  usesAllowed: 1,
  usesTaken: 0,
  cidrs: [],
  expiresAtMs: 1000,
  createdAtMs: 0,
  createdBy: 'uid:0',
  revokedAtMs: undefined,
};
const token = newJoinToken();
const attest = (
  changes: Partial<JoinTokenRecord>,
  context = { peerAddress: '10.1.2.3', nowMs: 500 },
  data = token,
) =>
  joinTokenAttestor({
    tokenBySecret: (hash) => (hash.equals(joinTokenHash(token)) ? { ...record, ...changes } : undefined),
  }).attest({ type: 'join_token', data }, context);

test('a token has 256 bits behind a fixed start, and a checksum', () => {
  expect(token).toMatch(/^vjt_[A-Za-z0-9_-]{49}$/);
  expect(newJoinToken()).not.toBe(token);
  expect(isJoinToken(token)).toBe(true);
});

test.each([
  ['one character changed', `${token.slice(0, 10)}${token[10] === 'A' ? 'B' : 'A'}${token.slice(11)}`],
  ['cut', token.slice(0, -1)],
  ['longer', `${token}A`],
  ['another start', token.replace('vjt_', 'vjx_')],
  ['empty', ''],
  ['of its length in characters, not in bytes', `vjt_${'a'.repeat(43)}${'é'.repeat(6)}`],
  ['ten megabytes', '.'.repeat(10_000_000)],
])('what is not a whole token (%s) is refused before any look-up', async (_name, data) => {
  expect(isJoinToken(data)).toBe(false);
  await expect(attest({}, undefined, data)).rejects.toMatchObject({ code: 'denied-evidence' });
});

test('its one selector is the token, never the secret', async () => {
  const attested = await attest({});
  expect(attested).toMatchObject({ selectors: [{ type: 'join_token', value: 't_1' }], tokenId: 't_1' });
  expect(JSON.stringify(attested)).not.toContain(token);
});

test.each([
  ['unknown', {}, newJoinToken(), 'denied-evidence'],
  ['revoked', { revokedAtMs: 1 }, token, 'denied-token-revoked'],
  ['expired', { expiresAtMs: 499 }, token, 'denied-token-expired'],
  ['from elsewhere', { cidrs: ['10.2.0.0/16', '2001:db8::/32'] }, token, 'denied-token-address'],
])('a token that is %s is refused', async (_name, changes, data, code) => {
  await expect(attest(changes, undefined, data)).rejects.toMatchObject({ code });
});

test.each([
  ['10.1.2.3', ['10.0.0.0/8'], true],
  ['10.1.2.3', ['10.1.2.3'], true],
  ['11.1.2.3', ['10.0.0.0/8'], false],
  ['2001:db8::1', ['2001:db8::/32'], true],
  ['2001:db9::1', ['2001:db8::/32'], false],
  ['10.1.2.3', ['2001:db8::/32'], false],
  ['not an address', ['0.0.0.0/0', '::/0'], false],
])('%s in %j is %s', (address, ranges, inside) => expect(addressInRanges(address, ranges)).toBe(inside));

test.each([
  '10.0.0.0/33',
  '10.0.0/8',
  '10.0.0.0/',
  '10.0.0.0/8/8',
  '::/129',
  'localhost',
  '010.0.0.1',
  '1.2.3.4/-1',
])('%s is no address range', (text) => expect(() => parseCidr(text)).toThrow(/address range/));
