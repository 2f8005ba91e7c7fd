import { existsSync } from 'node:fs';
import pkcs11 from 'pkcs11js';
import { VouchError } from '../../core/errors.ts';
import { ckrName, hsmFailure } from './errors.ts';
import {
  dropPinNote,
  forgetPinRefused,
  notePinRefused,
  preparePinNote,
  readPin,
  refusal,
  refuseRefusedPin,
} from './pin.ts';

/** Which token of which module. */
export interface TokenAddress {
  module: string;
  tokenLabel: string;
  tokenSerial: string;
}

/** A session with one token. It belongs to one thread; login is shared by all sessions of the process. */
export class HsmToken {
  readonly module: pkcs11.PKCS11;
  readonly label: string;
  readonly #slot: pkcs11.Handle;
  readonly #readWrite: boolean;
  #session: pkcs11.Handle;

  private constructor(module: pkcs11.PKCS11, label: string, slot: pkcs11.Handle, readWrite: boolean) {
    this.module = module;
    this.label = label;
    this.#slot = slot;
    this.#readWrite = readWrite;
    this.#session = this.#openSession();
  }

  /**
   * Loads the module and opens a session with the token of that label and serial: slots are renumbered by some modules
   * at each start. Throws `config-hsm`.
   */
  static open(address: TokenAddress, options: { readWrite: boolean }): HsmToken {
    const module = loadModule(address.module);
    return new HsmToken(module, address.tokenLabel, findSlot(module, address), options.readWrite);
  }

  /** The session to call with. */
  get session(): pkcs11.Handle {
    return this.#session;
  }

  /** Asks the token after the session: it throws what the token says where that is gone, or the token is. */
  look(): void {
    try {
      this.module.C_GetSessionInfo(this.#session);
    } catch (error) {
      if (ckrName(error) !== 'CKR_FUNCTION_NOT_SUPPORTED') throw error;
    }
  }

  /** Replaces a session that the token gave up. Object handles found in the old one are void. */
  renewSession(): void {
    const old = this.#session;
    try {
      // First the new one: the end of a process's last session is the end of its login.
      this.#session = this.#openSession();
    } catch (error) {
      if (ckrName((error as Error).cause) !== 'CKR_SESSION_COUNT') throw error;
      this.#closeSession(old);
      this.#session = this.#openSession();
      return;
    }
    this.#closeSession(old);
  }

  /**
   * Logs the process in, once: a refused PIN is noted on disk and never presented again (I8). The note is written before
   * the PIN is presented and counts once it is refused. Throws `config-pin`, `config-secret-readable`, `config-state`
   * or `config-hsm`.
   */
  login(pinFile: string, refusedFile: string): void {
    const pin = readPin(pinFile);
    try {
      refuseRefusedPin(refusedFile, pin.identity);
      this.#refuseLocked();
      preparePinNote(refusedFile, pin.identity);
      // pkcs11js takes text alone; the copy lives until the next garbage collection, in this process only.
      this.module.C_Login(this.#session, pkcs11.CKU_USER, pin.bytes.toString('utf8'));
      forgetPinRefused(refusedFile);
    } catch (error) {
      const name = ckrName(error) ?? '';
      if (name === 'CKR_USER_ALREADY_LOGGED_IN') return;
      if (!name.startsWith('CKR_PIN_')) throw hsmFailure('C_Login', error);
      notePinRefused(refusedFile, { identity: pin.identity, name });
      throw new VouchError('config-pin', refusal(name, refusedFile, pin.identity), { cause: error });
    } finally {
      dropPinNote(refusedFile);
      pin.bytes.fill(0);
    }
  }

  /** Mechanisms that the token offers. */
  mechanisms(): number[] {
    return this.module.C_GetMechanismList(this.#slot);
  }

  /** What the token says of a mechanism; undefined where it says nothing. */
  mechanismInfo(mechanism: number): pkcs11.MechanismInfo | undefined {
    try {
      return this.module.C_GetMechanismInfo(this.#slot, mechanism);
    } catch {
      return undefined;
    }
  }

  /** Handles of all objects that match. */
  find(template: pkcs11.Template): pkcs11.Handle[] {
    const found: pkcs11.Handle[] = [];
    this.module.C_FindObjectsInit(this.#session, template);
    try {
      for (let part = this.#findMore(); part.length > 0; part = this.#findMore()) found.push(...part);
    } finally {
      this.#endFind();
    }
    return found;
  }

  /** One attribute's value; undefined where the object has none or keeps it. */
  attribute(object: pkcs11.Handle, type: number): Buffer | undefined {
    try {
      return this.module.C_GetAttributeValue(this.#session, object, [{ type }])[0]?.value;
    } catch (error) {
      const name = ckrName(error);
      if (name === 'CKR_ATTRIBUTE_TYPE_INVALID' || name === 'CKR_ATTRIBUTE_SENSITIVE') return undefined;
      throw error;
    }
  }

  #refuseLocked(): void {
    let flags: number;
    try {
      ({ flags } = this.module.C_GetTokenInfo(this.#slot));
    } catch (error) {
      throw hsmFailure('C_GetTokenInfo', error);
    }
    if ((flags & pkcs11.CKF_USER_PIN_LOCKED) !== 0)
      throw new VouchError(
        'config-pin',
        "the token's PIN is locked; its security officer must set a new one",
      );
  }

  /** A search that does not end would stand in the way of the next one, so its session ends with it. */
  #endFind(): void {
    try {
      this.module.C_FindObjectsFinal(this.#session);
    } catch {
      this.renewSession();
    }
  }

  #closeSession(session: pkcs11.Handle): void {
    try {
      this.module.C_CloseSession(session);
    } catch {
      // It is gone already, or the token will end it by itself: nothing is done in it any more.
    }
  }

  #findMore(): pkcs11.Handle[] {
    return this.module.C_FindObjects(this.#session, 64);
  }

  #openSession(): pkcs11.Handle {
    const flags = pkcs11.CKF_SERIAL_SESSION | (this.#readWrite ? pkcs11.CKF_RW_SESSION : 0);
    try {
      return this.module.C_OpenSession(this.#slot, flags);
    } catch (error) {
      throw hsmFailure('C_OpenSession', error);
    }
  }
}

function loadModule(path: string): pkcs11.PKCS11 {
  if (!existsSync(path))
    throw new VouchError(
      'config-hsm',
      `there is no PKCS#11 module ${path} (SoftHSM is Debian's package softhsm2)`,
    );
  const module = new pkcs11.PKCS11();
  try {
    module.load(path);
  } catch (cause) {
    throw new VouchError('config-hsm', `${path} is not a PKCS#11 module that can be loaded here`, { cause });
  }
  try {
    // Without it several threads corrupt the module's memory.
    module.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK });
  } catch (error) {
    if (ckrName(error) !== 'CKR_CRYPTOKI_ALREADY_INITIALIZED') throw hsmFailure('C_Initialize', error);
  }
  return module;
}

function findSlot(module: pkcs11.PKCS11, address: TokenAddress): pkcs11.Handle {
  const seen: string[] = [];
  try {
    for (const slot of module.C_GetSlotList(true)) {
      const { label, serialNumber } = module.C_GetTokenInfo(slot);
      const isIt = label.trim() === address.tokenLabel && serialNumber.trim() === address.tokenSerial;
      if (isIt) return slot;
      if (label.trim() !== '') seen.push(`${label.trim()} (serial ${serialNumber.trim()})`);
    }
  } catch (error) {
    throw hsmFailure('C_GetSlotList', error);
  }
  const there = seen.length > 0 ? `it shows ${seen.slice(0, 8).join(', ')}` : 'it shows none';
  const wanted = `${address.tokenLabel} (serial ${address.tokenSerial})`;
  throw new VouchError('config-hsm', `the PKCS#11 module shows no token ${wanted}; ${there}`);
}
