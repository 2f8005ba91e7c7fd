import { chmodSync, mkdirSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  forgetPinRefused,
  notePinRefused,
  type PinFileIdentity,
  preparePinNote,
  readPin,
  refuseRefusedPin,
} from '../../../src/signer/pkcs11/pin.ts';
import { temporaryFolder } from '../../support/hsm.ts';

function pinFile(content: string | Buffer, mode = 0o600): string {
  const file = join(temporaryFolder('pin'), 'pin');
  writeFileSync(file, content, { mode });
  chmodSync(file, mode);
  return file;
}

/** What a login does whose PIN the token refuses. */
function refuse(refusedFile: string, identity: PinFileIdentity, name = 'CKR_PIN_INCORRECT'): void {
  preparePinNote(refusedFile, identity);
  notePinRefused(refusedFile, { identity, name });
}

describe('a PIN file', () => {
  it('holds one line', () => {
    expect(readPin(pinFile('1234\n')).bytes.toString()).toBe('1234');
    expect(readPin(pinFile('1234')).bytes.toString()).toBe('1234');
    expect(readPin(pinFile('pass phrase ö\n')).bytes.toString()).toBe('pass phrase ö');
    expect(readPin(pinFile('x'.repeat(255))).bytes).toHaveLength(255);
  });

  it.each([
    ['empty', ''],
    ['a line end alone', '\n'],
    ['two lines', '1234\n5678\n'],
    ['a NUL', '12\x0034'],
    ['too long', 'x'.repeat(256)],
    ['far too long', 'x'.repeat(100_000)],
  ])('that is %s is refused before the token sees it', (_what, content) => {
    expect(() => readPin(pinFile(content))).toThrow(expect.objectContaining({ code: 'config-hsm' }));
  });

  it('that others can read, write or search is refused (I8)', () => {
    for (const mode of [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o666, 0o777])
      expect(() => readPin(pinFile('1234', mode))).toThrow(
        expect.objectContaining({ code: 'config-secret-readable' }),
      );
    for (const mode of [0o600, 0o400, 0o700])
      expect(readPin(pinFile('1234', mode)).bytes.toString()).toBe('1234');
  });

  it('must be a file', () => {
    const folder = temporaryFolder('pin');
    expect(() => readPin(folder)).toThrow(expect.objectContaining({ code: 'config-hsm' }));
    expect(() => readPin(join(folder, 'nowhere'))).toThrow(/cannot open/);
  });
});

describe('a credential', () => {
  it('is read from the directory that systemd names', () => {
    const folder = temporaryFolder('credentials');
    writeFileSync(join(folder, 'vouch-pin'), '4321', { mode: 0o400 });
    expect(readPin('credential:vouch-pin', { CREDENTIALS_DIRECTORY: folder }).bytes.toString()).toBe('4321');
  });

  it('may show the mask of an ACL as group right, as systemd leaves it, and nothing more (I8)', () => {
    const folder = temporaryFolder('credentials');
    const file = join(folder, 'pin');
    writeFileSync(file, '4321');
    const read = () => readPin('credential:pin', { CREDENTIALS_DIRECTORY: folder });
    chmodSync(file, 0o440);
    // Root's file in root's group, which is what these tests run as in CI.
    if (process.getuid?.() === 0) expect(read().bytes.toString()).toBe('4321');
    else expect(read).toThrow(/others can read/);
    for (const mode of [0o460, 0o444, 0o404, 0o450]) {
      chmodSync(file, mode);
      expect(read).toThrow(expect.objectContaining({ code: 'config-secret-readable' }));
    }
  });

  it('needs the directory, and a name that stays in it', () => {
    expect(() => readPin('credential:pin', {})).toThrow(/LoadCredential=pin/);
    for (const name of ['', '../pin', 'a/b', '.', '..', '-x', 'a\0b'])
      expect(() => readPin(`credential:${name}`, { CREDENTIALS_DIRECTORY: '/etc' })).toThrow(
        /does not name a credential/,
      );
  });
});

describe('a refused PIN', () => {
  it('is not presented again before its file is replaced', () => {
    const file = pinFile('wrong');
    const refused = join(temporaryFolder('refused'), 'pin-refused');
    refuseRefusedPin(refused, readPin(file).identity);
    refuse(refused, readPin(file).identity);
    for (let again = 0; again < 3; again += 1)
      expect(() => refuseRefusedPin(refused, readPin(file).identity)).toThrow(
        expect.objectContaining({ code: 'config-pin' }),
      );

    writeFileSync(file, 'right');
    refuseRefusedPin(refused, readPin(file).identity);
  });

  it.each([
    ['CKR_PIN_LOCKED', /locked.*security officer/],
    ['CKR_PIN_EXPIRED', /expired.*set a new one/],
    ['CKR_PIN_INCORRECT', /refused the PIN in/],
  ])('says at the next start, too, that it was %s, and what to do', (name, words) => {
    const file = pinFile('1234');
    const refused = join(temporaryFolder('refused'), 'pin-refused');
    refuse(refused, readPin(file).identity, name);
    expect(() => refuseRefusedPin(refused, readPin(file).identity)).toThrow(words);
    expect(() => refuseRefusedPin(refused, readPin(file).identity)).toThrow(file);
  });

  it('is known by more than its time: a touched file is another, a copy with its time set back is too', () => {
    const file = pinFile('wrong');
    const refused = join(temporaryFolder('refused'), 'pin-refused');
    const { identity } = readPin(file);
    refuse(refused, identity);
    const folder = temporaryFolder('pin');
    const copy = join(folder, 'copy');
    writeFileSync(copy, 'right', { mode: 0o600 });
    utimesSync(copy, 1, 1);
    renameSync(copy, file);
    refuseRefusedPin(refused, readPin(file).identity);
    expect(readPin(file).identity.mark).not.toBe(identity.mark);
  });

  it('as a credential is not presented again by the next start of the unit, before the note is deleted', () => {
    const refused = join(temporaryFolder('refused'), 'pin-refused');
    const identityAtStart = () => {
      const folder = temporaryFolder('credentials');
      writeFileSync(join(folder, 'pin'), 'wrong', { mode: 0o400 });
      return readPin('credential:pin', { CREDENTIALS_DIRECTORY: folder }).identity;
    };
    refuse(refused, identityAtStart());
    expect(() => refuseRefusedPin(refused, identityAtStart())).toThrow(`${refused} is deleted`);
    forgetPinRefused(refused);
    refuseRefusedPin(refused, identityAtStart());
  });

  it('is forgotten once a PIN was taken', () => {
    const file = pinFile('1234');
    const refused = join(temporaryFolder('refused'), 'pin-refused');
    refuse(refused, readPin(file).identity);
    forgetPinRefused(refused);
    refuseRefusedPin(refused, readPin(file).identity);
    forgetPinRefused(refused);
  });

  it('with a note that cannot be read is refused; with one of nonsense it is not', () => {
    const file = pinFile('1234');
    const folder = temporaryFolder('refused');
    mkdirSync(join(folder, 'pin-refused'));
    expect(() => refuseRefusedPin(join(folder, 'pin-refused'), readPin(file).identity)).toThrow(
      expect.objectContaining({ code: 'config-state' }),
    );
    writeFileSync(join(folder, 'note'), 'nonsense');
    refuseRefusedPin(join(folder, 'note'), readPin(file).identity);
  });
});
