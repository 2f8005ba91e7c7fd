import pkcs11 from 'pkcs11js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { simulatedToken } from '../support/hsm-sim.ts';
import { type Client, findSlot, openClient, openSession, outcome } from './client.ts';

/** CKS_RW_PUBLIC_SESSION, CKS_RW_USER_FUNCTIONS and CKF_TOKEN_PRESENT, which pkcs11js does not name. */
const rwPublicSession = 2;
const rwUserFunctions = 3;
const tokenPresent = 1;

const token = simulatedToken();
let client: Client;

beforeEach(() => {
  client = openClient(token.hsm);
  if (outcome(() => client.publicKey('01')) !== 'ok') client.makeKey('01');
});

afterEach(() => {
  token.calm();
  client.module.C_Finalize();
});

const sign = () => outcome(() => client.sign('01'));
const open = () => outcome(() => openSession(client.module, client.slot));
const shownSlots = () => client.module.C_GetSlotList(true).map((slot) => slot.toString('hex'));

describe('lost sessions', () => {
  it('are all that were open, for good; new ones work, still logged in', () => {
    const other = openSession(client.module, client.slot);
    token.control([{ on: 'C_SignInit', do: 'lose-sessions', nth: 1 }]);
    expect(sign()).toBe('CKR_SESSION_HANDLE_INVALID');
    expect(outcome(() => client.module.C_GetSessionInfo(other))).toBe('CKR_SESSION_HANDLE_INVALID');
    token.calm();
    expect(sign()).toBe('CKR_SESSION_HANDLE_INVALID');
    const old = client.session;
    client.reopen();
    expect(sign()).toBe('ok');
    expect(outcome(() => client.module.C_CloseSession(old))).toBe('CKR_SESSION_HANDLE_INVALID');
    expect(sign()).toBe('ok');
  });
});

describe('a lost login', () => {
  it('is told to each who needs it until the PIN is presented, and that is truly checked', () => {
    token.control([{ on: '*', do: 'lose-login', nth: 1 }]);
    expect(sign()).toBe('CKR_USER_NOT_LOGGED_IN');
    expect(client.module.C_GetSessionInfo(client.session).state).toBe(rwPublicSession);
    expect(outcome(() => client.module.C_GenerateRandom(client.session, Buffer.alloc(8)))).toBe('ok');
    expect(outcome(() => client.login('0000'))).toBe('CKR_PIN_INCORRECT');
    expect(sign()).not.toBe('ok');
    expect(outcome(() => client.login())).toBe('ok');
    expect(outcome(() => client.login())).toBe('CKR_USER_ALREADY_LOGGED_IN');
    expect(client.module.C_GetSessionInfo(client.session).state).toBe(rwUserFunctions);
    expect(sign()).toBe('ok');
  });
});

describe('a token that is taken out', () => {
  it('is shown nowhere and opens nothing; when it is back, sessions and login are gone', async () => {
    token.control([{ token: 'removed', for: 400 }]);
    expect(shownSlots()).toEqual([]);
    expect(client.module.C_GetSlotInfo(client.slot).flags & tokenPresent).toBe(0);
    expect(open()).toBe('CKR_TOKEN_NOT_PRESENT');
    expect(outcome(() => client.module.C_GetTokenInfo(client.slot))).toBe('CKR_TOKEN_NOT_PRESENT');
    expect(outcome(() => client.module.C_GetMechanismList(client.slot))).toBe('CKR_TOKEN_NOT_PRESENT');
    expect(sign()).toBe('CKR_SESSION_HANDLE_INVALID');
    await expect.poll(() => shownSlots().length, { timeout: 5000 }).toBeGreaterThan(0);
    expect(sign()).toBe('CKR_SESSION_HANDLE_INVALID');
    client.reopen();
    expect(sign()).toBe('CKR_USER_NOT_LOGGED_IN');
    client.login();
    expect(sign()).toBe('ok');
  });

  it('comes back when the rule goes', () => {
    token.control([{ token: 'removed' }]);
    expect(open()).toBe('CKR_TOKEN_NOT_PRESENT');
    token.calm();
    expect(open()).toBe('ok');
  });
});

describe('limits of sessions', () => {
  it('of number are told by the token and kept; a closed session makes room', () => {
    token.control([{ token: { sessions: 2 } }]);
    expect(client.module.C_GetTokenInfo(client.slot).maxSessionCount).toBe(2);
    const second = openSession(client.module, client.slot);
    expect(open()).toBe('CKR_SESSION_COUNT');
    client.module.C_CloseSession(second);
    expect(open()).toBe('ok');
  });

  it('of idleness close what is not used, and nothing that is', async () => {
    const unused = openSession(client.module, client.slot);
    const info = (session: Buffer) => outcome(() => client.module.C_GetSessionInfo(session));
    token.control([{ token: { idle: 400 } }]);
    const start = performance.now();
    while (performance.now() - start < 700) {
      expect(info(client.session)).toBe('ok');
      await new Promise((done) => setTimeout(done, 20));
    }
    expect(info(unused)).toBe('CKR_SESSION_HANDLE_INVALID');
    token.calm();
    expect(info(unused)).toBe('CKR_SESSION_HANDLE_INVALID');
  });
});

describe('slot numbers', () => {
  it('are others at each C_Initialize, and each leads to its token', () => {
    token.control([{ token: 'shuffle-slots' }]);
    const seen = new Set<string>();
    for (let count = 0; count < 4; count += 1) {
      client.module.C_Finalize();
      client = openClient(token.hsm);
      expect(client.module.C_GetSessionInfo(client.session).slotID).toEqual(client.slot);
      expect(sign()).toBe('ok');
      seen.add(client.slot.toString('hex'));
    }
    expect(seen.size).toBe(4);
    const [before] = seen;
    expect(outcome(() => openSession(client.module, Buffer.from(before as string, 'hex')))).toBe(
      'CKR_SLOT_ID_INVALID',
    );
    client.module.C_CloseAllSessions(findSlot(client.module, token.hsm.tokenLabel));
    expect(sign()).toBe('CKR_SESSION_HANDLE_INVALID');
  });
});

describe('what the token shows', () => {
  it('of points may lack the OCTET STRING around them', () => {
    const wrapped = client.point('01');
    token.control([{ token: 'bare-points' }]);
    const bare = client.point('01');
    expect(bare).toHaveLength(65);
    expect(wrapped).toEqual(Buffer.concat([Buffer.from([4, 65]), bare]));
    expect(sign()).toBe('ok');
  });

  it('of mechanisms may lack some, which it then refuses', () => {
    const before = client.module.C_GetMechanismList(client.slot);
    expect(before).toContain(pkcs11.CKM_ECDSA);
    token.control([{ token: { hide: ['CKM_ECDSA', '0x1057'] } }]);
    const hidden = client.module.C_GetMechanismList(client.slot);
    expect(before.filter((one) => !hidden.includes(one))).toHaveLength(2);
    for (const one of [pkcs11.CKM_ECDSA, 0x1057]) expect(hidden).not.toContain(one);
    expect(outcome(() => client.module.C_GetMechanismInfo(client.slot, pkcs11.CKM_ECDSA))).toBe(
      'CKR_MECHANISM_INVALID',
    );
    expect(sign()).toBe('CKR_MECHANISM_INVALID');
    token.calm();
    expect(sign()).toBe('ok');
  });
});
