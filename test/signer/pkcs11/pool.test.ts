import { createPublicKey, randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Hsm, HsmKey } from '../../../src/signer/hsm.ts';
import { generateKeyPair } from '../../../src/signer/pkcs11/key-pair.ts';
import { type HsmFault, openPool } from '../../../src/signer/pkcs11/pool.ts';
import { HsmToken } from '../../../src/signer/pkcs11/token.ts';
import { verifySignature } from '../../../src/x509/algorithm.ts';
import { temporaryFolder } from '../../support/hsm.ts';
import { type Rule, type SimulatedToken, simulatedToken } from '../../support/hsm-sim.ts';
import { builtSigner } from '../../support/signer-build.ts';

let token: SimulatedToken;
let key: HsmKey;
let workerUrl: URL;
let hsm: Hsm;
let faults: HsmFault[];
let said: { message: string; problem: unknown }[];

beforeAll(async () => {
  token = simulatedToken('pool');
  Object.assign(process.env, token.hsm.environment);
  workerUrl = pathToFileURL(join(dirname(await builtSigner()), 'pkcs11-worker.js'));
  const opened = HsmToken.open(token.hsm, { readWrite: true });
  opened.login(token.hsm.pinFile, join(temporaryFolder('refused'), 'pin-refused'));
  key = generateKeyPair(opened, { type: 'ec-p256', label: 'pool' });
});

/** A pool of its own on the one token of this process. */
async function opened(workers: number, probeMs = 3_600_000): Promise<Hsm> {
  return openPool({
    probeMs,
    ...{ hsm: token.hsm, keys: [key], workers, workerUrl, hangMs: 2000 },
    refusedFile: join(temporaryFolder('refused'), 'pin-refused'),
    log: (_level, message, fields) => void said.push({ message, problem: fields?.problem }),
    onFault: (fault) => void faults.push(fault),
  });
}

async function allOpen(wanted: number): Promise<void> {
  await expect.poll(() => hsm.health().sessions, { timeout: 10_000 }).toBe(wanted);
}

beforeEach(async () => {
  faults = [];
  said = [];
  hsm = await opened(4);
  await allOpen(4);
});

afterEach(() => token.calm());

/** So many signatures asked for at once, each of which verifies. */
async function signs(count = 1): Promise<void> {
  const publicKey = createPublicKey({ key: key.publicKeySpki, format: 'der', type: 'spki' });
  const texts = Array.from({ length: count }, () => randomBytes(40));
  const signatures = await Promise.all(texts.map((text) => hsm.sign(key.ckaId, text)));
  for (const [index, text] of texts.entries())
    expect(verifySignature(key.algorithm, publicKey, text, signatures[index] ?? Buffer.alloc(0))).toBe(true);
}

/** Counts calls of a function without changing them. */
const counting = (on: string): Rule => ({ on, do: { delay: 0 } });

describe('a token that nobody asks for anything', () => {
  it('is missed when it is pulled', async () => {
    hsm = await opened(2, 50);
    await allOpen(2);
    token.control([{ token: 'removed' }]);
    await expect.poll(() => faults.length, { timeout: 5000 }).toBe(1);
    expect(faults[0]).toMatchObject({ hangs: false, error: { code: 'config-hsm' } });
  });

  it('and that closes idle sessions has none that is closed when somebody asks', async () => {
    token.control([{ token: { idle: 400 } }, counting('C_OpenSession')]);
    hsm = await opened(2, 100);
    await allOpen(2);
    const before = token.fired();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await signs();
    expect(token.fired()).toEqual(before);
    expect(faults).toEqual([]);
    // A pool ends by a fault only: this one would go on asking in the tests that follow, and log in when they lose the login.
    token.control([{ token: 'removed' }]);
    await expect.poll(() => faults.length, { timeout: 5000 }).toBe(1);
  });

  it('is noticed when it hangs', async () => {
    hsm = await opened(2, 50);
    await allOpen(2);
    token.control([{ on: 'C_GetSessionInfo', do: 'hang' }]);
    await expect.poll(() => faults.length, { timeout: 8000 }).toBe(1);
    expect(faults[0]).toMatchObject({ hangs: true });
  });
});

describe('what the token loses', () => {
  it.each([
    'CKR_SESSION_CLOSED',
    'CKR_SESSION_HANDLE_INVALID',
    'CKR_KEY_HANDLE_INVALID',
    'CKR_OBJECT_HANDLE_INVALID',
    'CKR_OPERATION_ACTIVE',
    'CKR_SESSION_COUNT',
  ])('%s costs one new session, and no login', async (error) => {
    for (const on of ['C_SignInit', 'C_Sign']) {
      token.control([{ on, do: { error }, nth: 1 }, counting('C_OpenSession'), counting('C_Login')]);
      await signs();
      expect(token.fired()).toEqual([1, 1, 0]);
    }
    expect(hsm.health()).toMatchObject({ sessions: 4, failures: { session: 2, login: 0 } });
    expect(faults).toEqual([]);
  });

  it('every session at once, while all threads sign: each is opened again, and nothing fails', async () => {
    token.control([{ on: 'C_Sign', do: 'lose-sessions', nth: 40 }, counting('C_Login')]);
    await signs(200);
    expect(token.fired()).toEqual([1, 0]);
    expect(hsm.health().failures.session).toBeGreaterThanOrEqual(1);
    expect(faults).toEqual([]);
  });

  it('the login, while all threads sign: one of them presents the PIN, once', async () => {
    token.control([{ on: 'C_Sign', do: 'lose-login', nth: 40 }, counting('C_Login')]);
    await signs(200);
    expect(token.fired()).toEqual([1, 1]);
    expect(hsm.health().failures.login).toBeGreaterThanOrEqual(1);
    expect(faults).toEqual([]);
  });

  it('sessions and login together, as a connection that breaks takes both', async () => {
    token.control([
      { on: 'C_Sign', do: 'lose-sessions', nth: 40 },
      { on: 'C_Sign', do: 'lose-login', nth: 40 },
      counting('C_Login'),
    ]);
    await signs(200);
    expect(token.fired()).toEqual([1, 1, 1]);
    expect(faults).toEqual([]);
  });

  it('the login, and the PIN is wrong by now: it is presented once by all threads together', async () => {
    token.control([
      { on: 'C_Sign', do: 'lose-login', nth: 10 },
      { on: 'C_Login', do: { error: 'CKR_PIN_INCORRECT' } },
    ]);
    await expect(signs(200)).rejects.toMatchObject({ code: 'config-pin' });
    expect(token.fired()).toEqual([1, 1]);
    expect(faults).toMatchObject([{ error: { code: 'config-pin' }, hangs: false }]);
  });
});

describe('a session that cannot be mended', () => {
  it('leaves its work to the others, and is asked for again later', async () => {
    // The first attempt, the one with a new session, and the one after a login: all of one thread.
    token.control([{ on: 'C_Sign', do: { error: 'CKR_SESSION_HANDLE_INVALID' }, first: 3 }]);
    await signs();
    expect(token.fired()).toEqual([3]);
    expect(hsm.health()).toMatchObject({ sessions: 3, sessionsWanted: 4 });
    await signs(50);
    await allOpen(4);
    expect(faults).toEqual([]);
  });

  it('of the last thread costs the process', async () => {
    token.control([{ on: 'C_Sign', do: { error: 'CKR_SESSION_HANDLE_INVALID' } }]);
    await expect(signs()).rejects.toMatchObject({ detail: expect.stringContaining('HANDLE_INVALID') });
    expect(faults).toHaveLength(1);
    // Each of four threads has tried three times, and not in a tight loop.
    expect(token.fired()).toEqual([12]);
  });

  it('for the token gives fewer: the others sign, and it is asked for again', async () => {
    token.control('token sessions=0');
    hsm = await opened(1).catch((error: unknown) => {
      expect(error).toMatchObject({ detail: expect.stringContaining('CKR_SESSION_COUNT') });
      token.calm();
      return opened(1);
    });
    token.control([{ on: 'C_OpenSession', do: { error: 'CKR_SESSION_COUNT' }, after: 3, times: 2 }]);
    hsm = await opened(4);
    await expect.poll(() => said.length).toBeGreaterThanOrEqual(1);
    expect(said[0]?.problem).toContain('CKR_SESSION_COUNT');
    await signs(20);
    await allOpen(4);
    expect(faults).toEqual([]);
  });
});

describe('guards', () => {
  const marks = () => hsm.guards.read().then((values) => values.map(String).sort());

  it('that cannot be written or read are an error of theirs alone: signing goes on', async () => {
    for (const error of ['CKR_DEVICE_MEMORY', 'CKR_DEVICE_ERROR', 'CKR_GENERAL_ERROR']) {
      token.control([{ on: ['C_CreateObject', 'C_FindObjectsInit'], do: { error } }]);
      await expect(hsm.guards.replace(Buffer.from('never'), [])).rejects.toMatchObject({
        code: 'config-hsm',
        message: expect.stringMatching(/C_CreateObject.*--rollback-mark file:PATH/) as unknown,
      });
      await expect(hsm.guards.read()).rejects.toMatchObject({ code: 'config-hsm' });
      await signs(10);
    }
    token.calm();
    expect(await marks()).not.toContain('never');
    expect(faults).toEqual([]);
  });

  it('whose session is gone are written with a new one', async () => {
    token.control([{ on: 'C_CreateObject', do: { error: 'CKR_SESSION_HANDLE_INVALID' }, nth: 1 }]);
    await hsm.guards.replace(Buffer.from('one'), []);
    expect(token.fired()).toEqual([1]);
    expect(await marks()).toContain('one');
  });

  it('that the token did not destroy are destroyed with the next', async () => {
    token.control([{ on: 'C_DestroyObject', do: { error: 'CKR_FUNCTION_FAILED' } }]);
    await hsm.guards.replace(Buffer.from('two'), [Buffer.from('one')]);
    expect(await marks()).toEqual(['one', 'two']);
    token.calm();
    await hsm.guards.replace(Buffer.from('three'), []);
    expect(await marks()).toEqual(['three', 'two']);
    expect(faults).toEqual([]);
  });

  it.each(['C_FindObjectsFinal', 'C_CloseSession'])('%s may fail each time', async (on) => {
    token.control([{ on, do: { error: 'CKR_GENERAL_ERROR' } }]);
    await hsm.guards.replace(Buffer.from(on), []);
    expect(await marks()).toContain(on);
    token.control([
      { on, do: { error: 'CKR_GENERAL_ERROR' } },
      { on: 'C_Sign', do: { error: 'CKR_SESSION_CLOSED' }, nth: 1 },
    ]);
    await signs(10);
    expect(faults).toEqual([]);
  });
});

describe('a slow token', () => {
  it('works in all its sessions at once, also where there are few more signatures than sessions', async () => {
    token.control([{ on: 'C_Sign', do: { delay: 100 } }]);
    await signs(4);
    const timesMs: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      const startedMs = performance.now();
      await signs(8);
      timesMs.push(performance.now() - startedMs);
    }
    // Two rounds of four; one thread that were given three of them would take 300 ms.
    expect(Math.min(...timesMs)).toBeLessThan(290);
  });

  it('makes an urgent signature next, whatever waits', async () => {
    token.control([{ on: 'C_Sign', do: { delay: 20 } }]);
    const done: string[] = [];
    const many = Array.from({ length: 100 }, async () => {
      await hsm.sign(key.ckaId, randomBytes(40));
      done.push('certificate');
    });
    await hsm.sign(key.ckaId, randomBytes(40), { urgent: true });
    // At most what the four threads had been given before it came, and what ended together with it.
    expect(done.length).toBeLessThanOrEqual(8);
    await Promise.all(many);
  });
});
