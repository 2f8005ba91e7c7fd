import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../support/hsm.ts';

it('a process that has no descriptor left says that the signer is away, and lives on', () => {
  const file = join(temporaryFolder('launch'), 'main.mjs');
  writeFileSync(
    file,
    `import { openSync } from 'node:fs';
     import { launch } from ${JSON.stringify(resolve(import.meta.dirname, '../../src/signer/launch.ts'))};
     try { for (;;) openSync('/dev/null', 'r'); } catch {}
     try { launch({ entry: '/bin/true', args: [], environment: {} }, () => undefined); }
     catch (error) { process._rawDebug(error.code); }
     setImmediate(() => process._rawDebug('alive'));`,
  );
  const ran = spawnSync('/bin/sh', ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, file], {
    encoding: 'utf8',
  });
  expect(ran.stderr.trim().split('\n')).toEqual(['unavailable-signer', 'alive']);
  expect(ran.status).toBe(0);
});
