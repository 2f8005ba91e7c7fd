import { describe, expect, test } from 'vitest';
import { eventually, isRunning, start } from './support/bundle.ts';
import { forever } from './support/executable.ts';

describe('what a test starts', () => {
  let grandchild = '';

  test('may start something itself', async () => {
    const script = `
      const child = require('node:child_process').spawn(process.execPath, ['-e', '${forever}']);
      console.log(child.pid); ${forever}`;
    const running = start(process.execPath, ['-e', script]);
    [, grandchild = ''] = await running.seen('stdout', /(\d+)\n/);
    expect(isRunning(grandchild)).toBe(true);
  });

  test('which ends with the test, too', async () => {
    expect(await eventually(() => (isRunning(grandchild) ? undefined : true), 3000)).toBe(true);
  });
});
