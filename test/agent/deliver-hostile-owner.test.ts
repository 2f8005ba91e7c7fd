import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { unusedUids } from '../support/users.ts';
import { temporaryFolder } from './support/harness.ts';
import { access, current, deliverTo, FakeServed } from './support/served.ts';

const [owner = 0] = unusedUids(1);
const hugeBytes = 2 ** 30;

test.each(['svid.pem', 'crl.pem'])(
  'a %s that its owner has made huge is not read, but made anew',
  async (name) => {
    const dir = temporaryFolder();
    const served = new FakeServed().served();
    const before = deliverTo({ dir, owner });
    before.deliver.take(served);
    await before.settled();
    await before.deliver.close();
    const delivered = current(dir, name);
    truncateSync(join(dir, 'current', name), hugeBytes);

    const peak = process.resourceUsage().maxRSS;
    const after = deliverTo({ dir, owner });
    after.deliver.take(served);
    await after.settled();
    expect(process.resourceUsage().maxRSS - peak).toBeLessThan(hugeBytes / 1024 / 4);
    expect(readFileSync(join(dir, 'current', name), { encoding: 'utf8' })).toBe(delivered);
    expect(access(dir, name)).toMatchObject({ mode: '644', uid: owner });
  },
);

test('a password file that is a pipe keeps nobody waiting', async () => {
  const folder = temporaryFolder();
  const passwordFile = join(folder, 'p');
  execFileSync('mkfifo', ['-m', '600', passwordFile]);
  const targets = deliverTo(
    { dir: join(folder, 'a'), formats: ['pkcs12'], pkcs12: { passwordFile } },
    { dir: join(folder, 'b') },
  );
  targets.deliver.take(new FakeServed().served());
  expect(await targets.failed()).toMatch(/is not a file/);
  expect((await targets.settled(1)).serial).toBeDefined();
});
