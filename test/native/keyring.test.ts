import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linux } from '../../src/native/linux.ts';

const name = `vouch-test:${randomBytes(8).toString('hex')}`;
const addonFile = resolve('dist/native/linux.node');

beforeAll(() => {
  execFileSync('scripts/build-native');
});

afterAll(() => {
  // Without keyctl(1): what is left is replaced by a byte and goes with the uid's keyring.
  linux().keyringWrite(name, Buffer.from([0]));
});

/** Another process of this uid, in a session of its own, as after a restart of the daemon. */
function readElsewhere(): string {
  const script = `process.stdout.write(require(process.argv[1]).keyringRead(process.argv[2])?.toString('hex') ?? 'none')`;
  return execFileSync('setsid', [process.execPath, '-e', script, addonFile, name], { encoding: 'utf8' });
}

describe('the user keyring', () => {
  it('has none, takes one, replaces it, and another process of the uid reads it', () => {
    expect(linux().keyringRead(name)).toBeUndefined();
    expect(readElsewhere()).toBe('none');
    const first = randomBytes(32);
    linux().keyringWrite(name, first);
    expect(linux().keyringRead(name)).toEqual(first);
    const second = randomBytes(4096);
    linux().keyringWrite(name, second);
    expect(linux().keyringRead(name)).toEqual(second);
    expect(readElsewhere()).toBe(second.toString('hex'));
  });

  it.runIf(process.getuid?.() === 0)('is not read by another user', () => {
    linux().keyringWrite(name, randomBytes(32));
    const script = `process.setgid(65534); process.setuid(65534); process.stdout.write(String(addon.keyringRead(process.argv[2])))`;
    const other = execFileSync(
      process.execPath,
      ['-e', `const addon = require(process.argv[1]); ${script}`, addonFile, name],
      { encoding: 'utf8' },
    );
    expect(other).toBe('undefined');
  });

  it.each([
    ['keyringRead', ['']],
    ['keyringRead', ['x'.repeat(255)]],
    ['keyringRead', ['a\0b']],
    ['keyringRead', [1]],
    ['keyringRead', []],
    ['keyringWrite', ['x', 'text']],
    ['keyringWrite', ['x', Buffer.alloc(0)]],
    ['keyringWrite', ['x', Buffer.alloc(4097)]],
    ['keyringWrite', ['x']],
  ])('refuses %s(%j)', (method, given) => {
    const addon = createRequire(import.meta.url)(addonFile) as Record<
      string,
      (...args: unknown[]) => unknown
    >;
    expect(() => addon[method]?.(...given)).toThrow(`${method} takes a name of 1 to 254 bytes`);
  });
});
