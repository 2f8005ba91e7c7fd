import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { runTool, type ToolAnswer } from '../x509/oracle-tools.ts';

let authority: Authority;
let orders: Workload;
let revoked: Workload;
/** Enrolled after the revocation, so that its crl.pem lists it. */
let witness: Workload;

beforeAll(async () => {
  authority = await bootAuthority();
  [orders, revoked] = await Promise.all([
    authority.enroll('orders', '--dns', 'orders.test.example', '--ip', '192.0.2.7'),
    authority.enroll('billing'),
  ]);
});

/** `openssl verify` as a peer calls it, with every CRL checked. */
function verify(workload: Workload, crls: string, ...flags: readonly string[]): ToolAnswer {
  const files = [
    '-CAfile',
    workload.path('bundle.pem'),
    '-untrusted',
    workload.path('svid.pem'),
    '-CRLfile',
    crls,
  ];
  return runTool(
    'openssl',
    'verify',
    '-x509_strict',
    '-crl_check_all',
    ...flags,
    ...files,
    workload.path('svid.pem'),
  );
}

function text(kind: 'x509' | 'crl', file: string): string {
  return runTool('openssl', kind, '-in', file, '-noout', '-text').output;
}

/** The CDP of a certificate, as OpenSSL reads it. */
function distributionPoint(workload: Workload): string {
  const url = /CRL Distribution Points: \s+Full Name:\s+URI:(\S+)/.exec(
    text('x509', workload.path('svid.pem')),
  )?.[1];
  if (url === undefined) throw new Error('no CDP');
  return url;
}

/** The CRL that the CDP names, with the root's beside it, as PEM. */
async function shardCrls(workload: Workload): Promise<string> {
  const response = await fetch(distributionPoint(workload));
  expect(response.status).toBe(200);
  const der = authority.path('shard.crl');
  writeFileSync(der, Buffer.from(await response.arrayBuffer()));
  const pem = `${der}.pem`;
  runTool('openssl', 'crl', '-inform', 'DER', '-in', der, '-out', pem);
  const rootCrl = workload
    .read('crl.pem')
    .split(/(?=-----BEGIN)/)
    .find((block) => {
      const one = authority.path('one');
      writeFileSync(one, block);
      return text('crl', one).includes('Vouch root');
    });
  writeFileSync(pem, `${readFileSync(pem, 'utf8')}${rootCrl ?? ''}`);
  return pem;
}

const ok = { status: 0, output: expect.stringMatching(/: OK\n/) as unknown };
const refused = {
  status: 2,
  output: expect.stringMatching(/error 23 at 0 depth lookup: certificate revoked/) as unknown,
};

describe('before anything is revoked', () => {
  it.each([
    ['both ends of TLS', ['-purpose', 'sslserver']],
    ['a client', ['-purpose', 'sslclient']],
    ['its DNS name', ['-verify_hostname', 'orders.test.example']],
    ['its address', ['-verify_ip', '192.0.2.7']],
  ])('accepts what was delivered: %s', (_name, flags) => {
    expect(verify(orders, orders.path('crl.pem'), ...flags)).toMatchObject(ok);
  });

  it('accepts by the shard that the CDP names; its IDP is that very URL', async () => {
    const shard = await shardCrls(orders);
    expect(verify(orders, shard)).toMatchObject(ok);
    const idp = /Issuing Distribution Point: critical\s+Full Name:\s+URI:(\S+)\s+Only User Certificates/.exec(
      text('crl', shard),
    );
    expect(idp?.[1]).toBe(distributionPoint(orders));
  });

  it('accepts the certificate that the server itself shows', () => {
    const shown = { path: () => `${authority.state}/server/svid.pem` } as unknown as Workload;
    const files = [
      '-CAfile',
      orders.path('bundle.pem'),
      '-untrusted',
      shown.path(''),
      '-CRLfile',
      orders.path('crl.pem'),
    ];
    expect(
      runTool('openssl', 'verify', '-x509_strict', '-crl_check_all', ...files, shown.path('')),
    ).toMatchObject(ok);
  });

  it('verifies both delivered CRLs with the keys of those who signed them', () => {
    const blocks = orders.read('crl.pem').split(/(?=-----BEGIN)/);
    expect(blocks).toHaveLength(2);
    for (const block of blocks) {
      const file = authority.path('crl');
      writeFileSync(file, block);
      const issuers = authority.path('issuers');
      writeFileSync(issuers, orders.read('svid.pem') + orders.read('bundle.pem'));
      expect(runTool('openssl', 'crl', '-in', file, '-noout', '-CAfile', issuers)).toEqual({
        status: 0,
        output: 'verify OK\n',
      });
    }
  });
});

describe('after `vouch revoke`', () => {
  beforeAll(async () => {
    const answer = (
      await authority.vouch('revoke', '--serial', revoked.serial, '--reason', 'keyCompromise')
    ).json();
    expect(answer).toMatchObject({ published: true });
    witness = await authority.enroll('witness');
  });

  it('refuses by a crl.pem delivered since, and goes on accepting the others', () => {
    expect(verify(revoked, witness.path('crl.pem'))).toMatchObject(refused);
    expect(verify(orders, witness.path('crl.pem'))).toMatchObject(ok);
    expect(verify(witness, witness.path('crl.pem'))).toMatchObject(ok);
  });

  it('refuses by the shard that the CDP names', async () => {
    expect(verify(revoked, await shardCrls(revoked))).toMatchObject(refused);
  });

  it('reads serial and reason', () => {
    const listed = text('crl', witness.path('crl.pem'));
    expect(listed).toContain(`Serial Number: ${revoked.serial.toUpperCase()}`);
    expect(listed).toMatch(/X509v3 CRL Reason Code: \s+Key Compromise/);
  });

  it('accepts none of it by a shard of other certificates (error 44)', async () => {
    const foreign = distributionPoint(orders).replace(
      /\/(\d+)\.crl$/,
      (_all, shard: string) => `/${(Number(shard) + 1) % 16}.crl`,
    );
    const response = await fetch(foreign);
    const der = authority.path('foreign');
    writeFileSync(der, Buffer.from(await response.arrayBuffer()));
    const crls = authority.path('crls');
    runTool('openssl', 'crl', '-inform', 'DER', '-in', der, '-out', crls);
    expect(verify(orders, crls).output).toMatch(/error 44 .*[Dd]ifferent CRL scope/);
  });
});
