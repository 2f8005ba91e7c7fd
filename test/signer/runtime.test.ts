import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { encodeAuthority } from '../../src/signer/authority-file.ts';
import { openRuntime } from '../../src/signer/runtime.ts';
import { FakeClock } from '../fakes/clock.ts';
import { temporaryFolder } from '../support/hsm.ts';
import { testAuthority } from './fixture.ts';

it('ends a process whose floor has not been written for ten seconds, and not before', async () => {
  const { authority, hsm } = testAuthority();
  const stateDir = temporaryFolder('runtime');
  const folder = join(stateDir, 'signer');
  mkdirSync(folder);
  writeFileSync(join(folder, 'authority.json'), encodeAuthority(authority), { mode: 0o600 });
  const clock = new FakeClock();
  const faults: boolean[] = [];
  let failures = 0;
  const { floor } = await openRuntime({
    config: {
      stateDir,
      hsm: { module: '', tokenLabel: '', tokenSerial: '', pinFile: '', environment: {} },
    },
    openHsm: () => Promise.resolve(hsm),
    clock,
    log: () => {
      failures += 1;
    },
    onFault: ({ hangs }) => void faults.push(hangs),
  });
  onTestFinished(() => floor.stop());
  floor.advance(1, Buffer.alloc(32, 1));
  await floor.start();
  rmSync(join(folder, 'floor.json'));
  mkdirSync(join(folder, 'floor.json'));
  floor.advance(2, Buffer.alloc(32, 2));
  await expect.poll(() => failures, { timeout: 5000 }).toBeGreaterThan(0);
  expect(faults).toEqual([]);
  clock.pass(10_001);
  await expect.poll(() => faults[0], { timeout: 5000 }).toBe(false);
});
