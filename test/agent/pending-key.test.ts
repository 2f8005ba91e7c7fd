import { expect, it } from 'vitest';
import { type PendingKey, pendingKey } from '../../src/agent/pending-key.ts';
import { importPublicKey, type KeyType } from '../../src/x509/public-key.ts';
import { temporaryFolder } from './support/harness.ts';

const purpose = 'ab'.repeat(32);
const usual: KeyType = 'ec-p256';
const typeOf = ({ spki }: PendingKey): KeyType => importPublicKey(spki).type;

it('a key that waits is asked for again, whatever is usual by now (I6)', async () => {
  const dir = temporaryFolder();
  const first = await pendingKey(dir, purpose, { asked: 'ed25519', usual });
  for (const type of [
    { asked: undefined, usual },
    { asked: 'ed25519', usual: 'rsa-3072' },
  ] as const)
    expect(await pendingKey(dir, purpose, type)).toEqual({ ...first, key: expect.anything() as unknown });
});

it('a key that waits is replaced where another purpose or another type is asked for', async () => {
  const dir = temporaryFolder();
  const first = await pendingKey(dir, purpose, { asked: undefined, usual });
  const other = await pendingKey(dir, purpose, { asked: 'ec-p384', usual });
  expect([first, other].map(typeOf)).toEqual(['ec-p256', 'ec-p384']);
  const elsewhere = await pendingKey(dir, 'cd'.repeat(32), { asked: undefined, usual: 'ed25519' });
  expect(typeOf(elsewhere)).toBe('ed25519');
  expect(await pendingKey(dir, 'cd'.repeat(32), { asked: undefined, usual })).toMatchObject({
    keyPem: elsewhere.keyPem,
  });
});
