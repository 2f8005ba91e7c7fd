import { writeFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { runTool, type ToolAnswer } from '../x509/oracle-tools.ts';

let authority: Authority;
let orders: Workload;
let revoked: Workload;

beforeAll(async () => {
  authority = await bootAuthority();
  [orders, revoked] = await Promise.all([
    authority.enroll('orders', '--dns', 'orders.test.example'),
    authority.enroll('billing'),
  ]);
});

const trusted = {
  status: 0,
  output: expect.stringMatching(/Verified\. The certificate is trusted\./) as unknown,
};
const refused = {
  status: 1,
  output: expect.stringMatching(/certificate chain is revoked|certificate has been revoked/i) as unknown,
};

function verify(workload: Workload, crls: string, ...flags: readonly string[]): ToolAnswer {
  const files = [
    '--load-ca-certificate',
    workload.path('bundle.pem'),
    '--load-crl',
    crls,
    '--infile',
    workload.path('svid.pem'),
  ];
  return runTool('certtool', '--verify', ...files, ...flags);
}

it.each([
  ['for a server', ['--verify-purpose', '1.3.6.1.5.5.7.3.1', '--verify-hostname', 'orders.test.example']],
  ['for a client', ['--verify-purpose', '1.3.6.1.5.5.7.3.2']],
])('accepts what was delivered, %s', (_name, flags) => {
  expect(verify(orders, orders.path('crl.pem'), ...flags)).toMatchObject(trusted);
});

it('accepts the chain down to the root (--verify-chain)', () => {
  const chain = authority.path('chain');
  writeFileSync(chain, orders.read('svid.pem') + orders.read('bundle.pem'));
  expect(runTool('certtool', '--verify-chain', '--infile', chain)).toMatchObject(trusted);
});

it('reads both delivered CRLs and verifies their signatures', () => {
  const { status, output } = runTool('certtool', '--crl-info', '--infile', orders.path('crl.pem'));
  expect(status).toBe(0);
  expect(output).toMatch(/CRL Number \(not critical\): [0-9a-f]+/);
  const issuers = authority.path('issuers');
  writeFileSync(issuers, orders.read('svid.pem').split(/(?=-----BEGIN)/)[1] ?? '');
  const checked = runTool(
    'certtool',
    '--verify-crl',
    '--load-ca-certificate',
    issuers,
    '--infile',
    orders.path('crl.pem'),
  );
  expect(checked).toMatchObject({ status: 0, output: expect.stringMatching(/Verified/) as unknown });
});

it('refuses what was revoked, by a crl.pem delivered since, and nothing else', async () => {
  expect(verify(revoked, revoked.path('crl.pem'))).toMatchObject(trusted);
  (await authority.vouch('revoke', '--serial', revoked.serial, '--reason', 'superseded')).json();
  const witness = await authority.enroll('witness');
  expect(verify(revoked, witness.path('crl.pem'))).toMatchObject(refused);
  expect(verify(orders, witness.path('crl.pem'))).toMatchObject(trusted);
  expect(verify(witness, witness.path('crl.pem'))).toMatchObject(trusted);
});

it('refuses it by its shard, too', async () => {
  const { output } = runTool('certtool', '--certificate-info', '--infile', revoked.path('svid.pem'));
  const url = /CRL Distribution points \(not critical\):\s+URI: (\S+)/.exec(output)?.[1] ?? '';
  const der = authority.path('shard');
  writeFileSync(der, Buffer.from(await (await fetch(url)).arrayBuffer()));
  const shard = authority.path('shard');
  runTool('certtool', '--crl-info', '--inder', '--infile', der, '--outfile', shard);
  expect(verify(revoked, shard)).toMatchObject(refused);
});
