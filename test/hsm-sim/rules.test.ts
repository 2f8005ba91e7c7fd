import { readFileSync } from 'node:fs';
import type pkcs11 from 'pkcs11js';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { simulatedToken, type When } from '../support/hsm-sim.ts';
import { type Client, openClient, outcome } from './client.ts';

const token = simulatedToken();
let client: Client;

beforeAll(() => {
  client = openClient(token.hsm);
  client.makeKey('01');
  client.makeKey('02');
});

afterEach(() => token.calm());

const sign = (ckaId = '01') => outcome(() => client.sign(ckaId));
const signTimes = (count: number) =>
  Array.from({ length: count }, () => (sign() === 'ok' ? '.' : 'x')).join('');

function failing(when: When): void {
  token.control([{ on: 'C_Sign', do: { error: 'CKR_DEVICE_ERROR' }, ...when }]);
}

describe('a rule', () => {
  it.each<[string, When, string]>([
    ['without conditions applies to each call', {}, 'xxxxxxxx'],
    ['nth=3 applies to the third call', { nth: 3 }, '..x.....'],
    ['first=3 applies to the first three', { first: 3 }, 'xxx.....'],
    ['after=3 applies to those past three', { after: 3 }, '...xxxxx'],
    ['every=3 applies to each third', { every: 3 }, '..x..x..'],
    ['times=2 applies twice', { times: 2, every: 3 }, '..x..x..'],
    ['of several conditions applies where all hold', { after: 2, first: 5, every: 2 }, '...x....'],
  ])('%s', (_what, when, expected) => {
    failing(when);
    expect(signTimes(8)).toBe(expected);
    expect(token.fired()).toEqual([expected.replaceAll('.', '').length]);
  });

  it('times=2 ends after two', () => {
    failing({ times: 2 });
    expect(signTimes(5)).toBe('xx...');
  });

  it('starts anew when it is written anew', () => {
    failing({ nth: 2 });
    expect(signTimes(3)).toBe('.x.');
    failing({ nth: 2 });
    expect(signTimes(3)).toBe('.x.');
  });

  it('with a probability repeats itself with its seed, and only then', () => {
    const drawn = [7, 7, 8].map((seed) => {
      failing({ p: 0.3, seed });
      return signTimes(200);
    });
    expect(drawn[0]).toBe(drawn[1]);
    expect(drawn[2]).not.toBe(drawn[0]);
    const share = (drawn[0] as string).replaceAll('.', '').length / 200;
    expect(share).toBeGreaterThan(0.15);
    expect(share).toBeLessThan(0.45);
    failing({ p: 0 });
    expect(signTimes(20)).toBe('.'.repeat(20));
  });

  it('with for= ends after that time', async () => {
    failing({ for: 300 });
    expect(sign()).toBe('CKR_DEVICE_ERROR');
    await expect.poll(() => sign(), { timeout: 5000 }).toBe('ok');
    expect(sign()).toBe('ok');
  });

  it('with from= begins after that time', async () => {
    failing({ from: 300 });
    expect(sign()).toBe('ok');
    await expect.poll(() => sign(), { timeout: 5000 }).toBe('CKR_DEVICE_ERROR');
  });

  it('with id= is for the signatures of that key', () => {
    failing({ id: '02' });
    expect([sign('01'), sign('02'), sign('01')]).toEqual(['ok', 'CKR_DEVICE_ERROR', 'ok']);
  });

  it('is for the functions it names, and * for all', () => {
    token.control([{ on: ['C_SignInit', 'C_GetInfo'], do: { error: 'CKR_HOST_MEMORY' } }]);
    expect(sign()).toBe('CKR_HOST_MEMORY');
    expect(outcome(() => client.module.C_GetInfo())).toBe('CKR_HOST_MEMORY');
    expect(outcome(() => client.module.C_GetSlotList(true))).toBe('ok');
    token.control([{ on: '*', do: { error: 'CKR_HOST_MEMORY' } }]);
    expect(outcome(() => client.module.C_GetSlotList(true))).toBe('CKR_HOST_MEMORY');
    expect(outcome(() => client.module.C_GenerateRandom(client.session, Buffer.alloc(8)))).toBe(
      'CKR_HOST_MEMORY',
    );
  });

  it('comes before those that stand below it', () => {
    token.control('C_Sign error=CKR_DEVICE_ERROR nth=2\nC_Sign error=CKR_FUNCTION_FAILED');
    expect([sign(), sign(), sign()]).toEqual([
      'CKR_FUNCTION_FAILED',
      'CKR_DEVICE_ERROR',
      'CKR_FUNCTION_FAILED',
    ]);
  });
});

/** The number that the next signature ends with; 0 for none. */
function code(): number {
  try {
    client.sign('01');
    return 0;
  } catch (error) {
    return (error as pkcs11.Pkcs11Error).code;
  }
}

describe('an error', () => {
  const header = readFileSync('/usr/include/p11-kit-1/p11-kit/pkcs11.h', 'utf8');
  const named = [...header.matchAll(/^#define (CKR_\w+)\s+\((\w+)UL\)/gm)].map(
    ([, name, value]): [string, number] => [name as string, Number(value)],
  );

  it('may be each that the header names, and the session signs again afterwards', () => {
    expect(named.length).toBeGreaterThan(90);
    for (const [error, value] of named) {
      token.control([{ on: 'C_Sign', do: { error }, nth: 1 }]);
      expect([error, code(), code()]).toEqual([error, value, 0]);
    }
  });

  it('may be a number of the vendor', () => {
    token.control([{ on: 'C_Sign', do: { error: '0x80000001' } }]);
    expect(code()).toBe(0x8000_0001);
  });

  it('of a search or of its end leaves a session that can search', () => {
    for (const on of ['C_FindObjectsInit', 'C_FindObjects', 'C_FindObjectsFinal']) {
      token.control([{ on, do: { error: 'CKR_DEVICE_ERROR' }, nth: 1 }]);
      expect(sign()).toBe('CKR_DEVICE_ERROR');
      expect(sign()).toBe('ok');
    }
  });
});

describe('a control file', () => {
  it.each([
    'C_Sing error=CKR_DEVICE_ERROR',
    'C_Sign error=CKR_DEVICE_EROR',
    'C_Sign',
    'C_Sign explode',
    'C_Sign hang nth=0',
    'C_Sign hang nth=-1',
    'C_Sign hang p=1.5',
    'C_Sign hang id=0',
    'C_Sign hang id=XY',
    'C_Sign flip when=after',
    'C_Sign hang when=before',
    'C_Sign hang parallel=2',
    'C_Sign delay=10 parallel=33',
    'C_Sign crash=softly',
    'token removed nth=1',
    'token sessions',
    'token hide=CKM_NOTHING',
    'token hang',
    '# fine\n\nC_Sign hang trailing',
  ])('that nobody can understand, such as %j, fails every call instead of being passed over', (text) => {
    token.control(text);
    expect(outcome(() => client.module.C_GetInfo())).toBe('CKR_GENERAL_ERROR');
    token.calm();
    expect(outcome(() => client.module.C_GetInfo())).toBe('ok');
  });

  it('may hold comments, blank lines and 64 rules', () => {
    const rule = 'C_Sign error=CKR_DEVICE_ERROR nth=2 # the second\r';
    token.control(['# comment', '', '  \t', ...Array<string>(64).fill(rule)].join('\n'));
    expect(signTimes(3)).toBe('.x.');
    token.control(Array<string>(65).fill(rule).join('\n'));
    expect(sign()).toBe('CKR_GENERAL_ERROR');
  });
});
