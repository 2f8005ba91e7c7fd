import { createPublicKey } from 'node:crypto';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { importPublicKey } from '../../src/x509/public-key.ts';
import { type Authority, bootAuthority, runVouch } from '../support/daemon.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

/** Type of the delivered key, by its certificate, whose key the private one is. */
function keyIn(dir: string): string {
  const read = (name: string): string => readFileSync(join(dir, 'current', name), 'utf8');
  const [der = Buffer.alloc(0)] = decodePem(read('svid.pem'), 'CERTIFICATE');
  const { type, spki } = importPublicKey(parseCertificate(der).spki);
  expect(createPublicKey(read('svid.key')).export({ format: 'der', type: 'spki' })).toEqual(spki);
  return type;
}

async function enrolled(name: string, ...flags: string[]): Promise<string> {
  const dir = authority.path('w');
  const { path } = await authority.join(name);
  (await authority.vouch('enroll', '--join-file', path, '--out', dir, ...flags)).json();
  return dir;
}

it.each(['ec-p384', 'rsa-3072', 'ed25519'])(
  '%s at enrollment, and in renewals without asking',
  async (type) => {
    const dir = await enrolled('orders', '--key-type', type);
    expect(keyIn(dir)).toBe(type);
    const before = readFileSync(join(dir, 'current/svid.key'), 'utf8');
    (await authority.vouch('renew', '--dir', dir)).json();
    expect(keyIn(dir)).toBe(type);
    expect(readFileSync(join(dir, 'current/svid.key'), 'utf8')).not.toBe(before);
  },
);

it('is P-256 where nothing is asked for, and another from the renewal on that asks for it', async () => {
  const dir = await enrolled('billing');
  expect(keyIn(dir)).toBe('ec-p256');
  (await authority.vouch('renew', '--dir', dir, '--key-type', 'rsa-4096')).json();
  expect(keyIn(dir)).toBe('rsa-4096');
  (await authority.vouch('renew', '--dir', dir)).json();
  expect(keyIn(dir)).toBe('rsa-4096');
});

it('is what `vouch exec` was told, of a certificate that it finds as well', async () => {
  const { path } = await authority.join('web');
  const dir = authority.path('w');
  const exec = (...flags: string[]) =>
    runVouch(['exec', '--join-file', path, '--out', dir, ...flags, '--', 'true']);
  expect((await exec('--key-type', 'ed25519')).code).toBe(0);
  expect(keyIn(dir)).toBe('ed25519');
  expect((await exec('--key-type', 'ec-p384')).code).toBe(0);
  expect(keyIn(dir)).toBe('ec-p384');
  expect((await exec()).code).toBe(0);
  expect(keyIn(dir)).toBe('ec-p384');
});

it('is refused where there is no such type, before anything is sent', async () => {
  const { path } = await authority.join('other');
  for (const type of ['rsa-2048', 'rsa-3072-pss', 'P-256', 'rsa']) {
    const ran = await authority.vouch(
      'enroll',
      '--join-file',
      path,
      '--out',
      authority.path('w'),
      '--key-type',
      type,
    );
    expect(ran.code).toBe(2);
    expect(ran.problem.detail).toBe('--key-type takes one of ec-p256, ec-p384, rsa-3072, rsa-4096, ed25519');
  }
  (await authority.vouch('enroll', '--join-file', path, '--out', authority.path('w'))).json();
});
