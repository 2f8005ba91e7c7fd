import {
  closeSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { VouchError } from '../../core/errors.ts';

/** What tells one PIN file from its replacement. */
export interface PinFileIdentity {
  /** As configured. */
  path: string;
  /** `mtime,ctime,inode,size,device`, times in nanoseconds; of a credential `credential`. */
  mark: string;
}

/** A PIN as read, to be zeroed after the login. */
export interface Pin {
  bytes: Buffer;
  identity: PinFileIdentity;
}

const pinMaxBytes = 255;
const credentialPrefix = 'credential:';
const credentialMark = 'credential';

/**
 * Reads a PIN file, or `credential:<name>` from $CREDENTIALS_DIRECTORY (systemd LoadCredential). One line end is cut
 * off. Throws `config-secret-readable` where others can read it (I8), `config-hsm` where there is no usable PIN.
 */
export function readPin(pinFile: string, environment: NodeJS.ProcessEnv = process.env): Pin {
  const path = pinPath(pinFile, environment);
  const file = openPin(path);
  try {
    const stat = fstatSync(file, { bigint: true });
    if (!stat.isFile()) throw new VouchError('config-hsm', `the PIN file ${path} is not a regular file`);
    const isCredential = pinFile.startsWith(credentialPrefix);
    // systemd grants its unit's user by an ACL on a file of root's: the mask then shows as the group's bits.
    const byAcl = isCredential && stat.uid === 0n && stat.gid === 0n;
    const others = byAcl ? 0o037n : 0o077n;
    if (__VOUCH_WITHOUT__ !== 'I8' && (stat.mode & others) !== 0n)
      throw new VouchError(
        'config-secret-readable',
        `others can read the PIN file ${path}; run: chmod 600 ${path}`,
      );
    if (stat.size > BigInt(pinMaxBytes + 1))
      throw new VouchError('config-hsm', `the PIN file ${path} is too long`);
    // systemd makes its folder of credentials anew at each start: nothing of the file tells the same PIN from another.
    const mark = isCredential
      ? credentialMark
      : [stat.mtimeNs, stat.ctimeNs, stat.ino, stat.size, stat.dev].join(',');
    return { bytes: readBytes(file, path), identity: { path: pinFile, mark } };
  } finally {
    closeSync(file);
  }
}

/** Throws `config-pin` where this very PIN file was refused by the token before: it is never presented twice. */
export function refuseRefusedPin(refusedFile: string, identity: PinFileIdentity): void {
  let text: string;
  try {
    text = readFileSync(refusedFile, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new VouchError('config-state', `cannot read ${refusedFile}`, { cause });
  }
  const { path, mark, name } = parsed(text);
  if (path !== identity.path || mark !== identity.mark) return;
  const what = refusals[String(name)]?.(identity.path) ?? `the token refused the PIN in ${identity.path}`;
  throw new VouchError(
    'config-pin',
    `${what}; it is not presented again before ${remedy(refusedFile, identity)}`,
  );
}

/** A refusal that another PIN file does not cure, by what C_Login returned, with what does. */
const refusals: Readonly<Record<string, (path: string) => string>> = {
  CKR_PIN_LOCKED: (path) =>
    `the token has locked its PIN, that in ${path}: its security officer must set a new one`,
  CKR_PIN_EXPIRED: (path) =>
    `the PIN in ${path} has expired: set a new one with the token's own tool and put it there`,
};

/** What the token said of a PIN that it refused just now, and what to do. */
export function refusal(name: string, refusedFile: string, identity: PinFileIdentity): string {
  const what =
    refusals[name]?.(identity.path) ??
    `the token refused the PIN in ${identity.path} (${name}): put the right one there`;
  return `${what}; the refused one is not tried again before ${remedy(refusedFile, identity)}`;
}

/** What lets a PIN be presented again after it was refused. */
function remedy(refusedFile: string, { mark }: PinFileIdentity): string {
  return mark === credentialMark
    ? `the credential is replaced and ${refusedFile} is deleted`
    : 'the file is replaced';
}

/**
 * Writes down whose PIN is about to be presented, so that a refusal needs no more than a rename: on a full disk the PIN
 * would else be presented at every start until the token is locked. Throws `config-state`: then it must not be presented.
 */
export function preparePinNote(refusedFile: string, identity: PinFileIdentity): void {
  try {
    writeNote(refusedFile, identity);
  } catch (cause) {
    const detail = `cannot write ${refusedFile}, without which no PIN is presented; is the disk full?`;
    throw new VouchError('config-state', detail, { cause });
  }
}

function writeNote(refusedFile: string, note: object): void {
  const file = openSync(prepared(refusedFile), 'w', 0o600);
  try {
    const bytes = Buffer.from(`${JSON.stringify(note)}\n`);
    if (writeSync(file, bytes) < bytes.length) throw new Error('the disk took a part of it');
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/**
 * Keeps on disk that the token refused the PIN that was prepared, which takes no room; then, where there is some, by which
 * return value.
 */
export function notePinRefused(
  refusedFile: string,
  refused: { identity: PinFileIdentity; name: string },
): void {
  keepPrepared(refusedFile);
  try {
    writeNote(refusedFile, { ...refused.identity, name: refused.name });
    keepPrepared(refusedFile);
  } catch {
    // The note that stands there says all that must be known.
  }
}

function keepPrepared(refusedFile: string): void {
  renameSync(prepared(refusedFile), refusedFile);
  const folder = openSync(dirname(refusedFile), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** Removes what was prepared, once the token has answered. */
export function dropPinNote(refusedFile: string): void {
  rmSync(prepared(refusedFile), { force: true });
}

/** Forgets a refusal after a PIN was accepted. */
export function forgetPinRefused(refusedFile: string): void {
  rmSync(refusedFile, { force: true });
}

function prepared(refusedFile: string): string {
  return `${refusedFile}.tmp`;
}

function pinPath(pinFile: string, environment: NodeJS.ProcessEnv): string {
  if (!pinFile.startsWith(credentialPrefix)) return pinFile;
  const name = pinFile.slice(credentialPrefix.length);
  const folder = environment.CREDENTIALS_DIRECTORY;
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name))
    throw new VouchError('config-hsm', `${pinFile} does not name a credential`);
  if (!folder)
    throw new VouchError(
      'config-hsm',
      `${pinFile} needs $CREDENTIALS_DIRECTORY; add LoadCredential=${name} to the unit`,
    );
  return join(folder, name);
}

function openPin(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    const why =
      (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is none' : 'may this user read it?';
    throw new VouchError('config-hsm', `cannot open the PIN file ${path}: ${why}`, { cause });
  }
}

function readBytes(file: number, path: string): Buffer {
  const whole = Buffer.alloc(pinMaxBytes + 1);
  let length = readSync(file, whole, 0, whole.length, 0);
  if (length > 0 && whole[length - 1] === 0x0a) length -= 1;
  const bytes = whole.subarray(0, length);
  // What no token can have as PIN is not worth one of its few attempts.
  if (length === 0 || length > pinMaxBytes || bytes.includes(0x0a) || bytes.includes(0))
    throw new VouchError('config-hsm', `the PIN file ${path} does not hold one line with a PIN`);
  return bytes;
}

function parsed(text: string): { path?: unknown; mark?: unknown; name?: unknown } {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}
