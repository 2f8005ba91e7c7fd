import { beforeAll, expect, test } from 'vitest';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { createToken, verified } from './state-copies.ts';

let authority: Authority;
beforeAll(async () => void (authority = await bootAuthority()));

/** Certificates, renewals, revocations, tokens and CRLs, all at once. */
async function busy(): Promise<void> {
  const [first, second] = await Promise.all([authority.enroll('first'), authority.enroll('second')]);
  await Promise.all([
    authority.vouch('renew', '--dir', first.dir),
    authority.vouch('revoke', '--serial', second.serial, '--reason', 'keyCompromise'),
    authority.vouch('crl', 'publish'),
    ...Array.from({ length: 300 }, (_, i) => createToken(authority, `many/${i}`)),
  ]);
}

test('a state in use verifies clean at every moment', async () => {
  let done = false;
  const working = busy().finally(() => (done = true));
  const sizes = new Set<number>();
  while (!done) {
    const { problems, treeSize } = verified(authority.state);
    expect(problems).toEqual([]);
    sizes.add(treeSize);
    await new Promise((turn) => setImmediate(turn));
  }
  await working;
  expect(sizes.size, 'it was looked at while it grew').toBeGreaterThan(3);
});

test('a state verifies clean after each kill -9, and after the start that follows', async () => {
  for (let round = 0; round < 2; round += 1) {
    const before = verified(authority.state).treeSize;
    const working = busy().catch(() => undefined);
    let size = before;
    while (size < before + 40 * (round + 1)) {
      size = verified(authority.state).treeSize;
      await new Promise((turn) => setImmediate(turn));
    }
    await authority.server.end('SIGKILL');
    await working;
    expect(verified(authority.state).problems).toEqual([]);
    await authority.start();
    expect(verified(authority.state).problems).toEqual([]);
  }
});
