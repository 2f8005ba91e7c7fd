import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { twoMachines } from '../support/two-machines.ts';

it.each([
  ['rsa-3072-pss', 'PS256'],
  ['ed25519', 'EdDSA'],
])(
  'a root of type %s makes and renews an authority',
  async (type, alg) => {
    const machines = await twoMachines();
    const { authority, root } = machines;
    const { carried } = await machines.request('--issuer-key', 'ec-p384');
    const ceremony = { request: { file: carried }, root: { key: { create: type } } };
    const result = await root.hold({ ...ceremony, rootCsr: true });
    const asked = ['req', '-verify', '-noout', '-in', join(result, 'root.csr')];
    expect(spawnSync('openssl', asked, { encoding: 'utf8' }).stderr).toContain('verify OK');
    const [header = ''] = readFileSync(join(result, 'transcript.jws'), 'utf8').split('.');
    expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toMatchObject({ alg });
    (await machines.takeIn(result, '--yes')).json();
    const { ready } = await authority.start();
    const workload = await authority.enroll('orders');
    const args = ['-x509_strict', '-crl_check_all', '-CAfile', workload.path('bundle.pem')];
    const files = ['-CRLfile', workload.path('crl.pem'), '-untrusted', workload.path('svid.pem')];
    const verified = execFileSync('openssl', ['verify', ...args, ...files, workload.path('svid.pem')], {
      encoding: 'utf8',
    });
    expect(verified).toMatch(/OK/);
    const { bundle, crl } = await machines.served(ready.publicationUrl);
    const key = { use: { label: 'vouch-root' } };
    const renewal = await root.hold({ renew: { bundle }, crl: { last: crl }, root: { key } });
    expect((await machines.importRenewal(renewal)).json()).toMatchObject({
      served: true,
      statementSequence: 2,
    });
    expect((await authority.vouch('renew', '--dir', workload.dir)).code).toBe(0);
    await authority.server.end();
    expect(await machines.logProblems()).toEqual([]);
  },
  90_000,
);
