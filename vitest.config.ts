import { readFileSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

const version = (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version;

/** Folders whose tests touch no process, socket or environment: their files share a process, which is ten times as fast. */
const pure = ['core', 'x509', 'log', 'lint', 'wire', 'config', 'registration'].map(
  (name) => `test/${name}/**/*.test.ts`,
);

/**
 * What uses a token of `newTestToken`: run with SoftHSM itself and once more through the simulator, which has to be as
 * good when it is calm.
 */
const tokens = [
  'pkcs11/login',
  'pkcs11/start-up-proof',
  'pkcs11/token',
  'ceremony',
  'ceremony-key-types',
].map((name) => `test/signer/${name}.test.ts`);

/** Every combination of something; too slow for each run. `npm run test:matrix`. */
const matrix = ['test/**/*.matrix.test.ts'];
const wantsMatrix = process.env.VOUCH_MATRIX !== undefined;

export default defineConfig({
  define: {
    __VOUCH_WITHOUT__: JSON.stringify(process.env.VOUCH_WITHOUT ?? ''),
    __VOUCH_VERSION__: JSON.stringify(version),
  },
  test: {
    // Many times what the slowest of them takes on a machine of its own.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 30_000, interval: 20 } },
    pool: 'forks',
    // One more than CI has cores: a third of the time the tests wait, for timers, disks and other processes.
    maxWorkers: 3,
    projects: [
      { extends: true, test: { name: 'pure', include: pure, exclude: matrix, isolate: false } },
      {
        extends: true,
        test: {
          name: 'whole',
          include: ['test/**/*.test.ts'],
          exclude: [...pure, ...matrix],
          globalSetup: ['test/support/global-setup.ts'],
        },
      },
      {
        extends: true,
        test: {
          name: 'simulator',
          include: tokens,
          env: { VOUCH_TEST_SIMULATOR: '1' },
          globalSetup: ['test/support/global-setup.ts'],
        },
      },
      ...(wantsMatrix ? [{ extends: true as const, test: { name: 'matrix', include: matrix } }] : []),
    ],
  },
});
