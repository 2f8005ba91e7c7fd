import { mkdirSync, writeFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { decodePem } from '../../src/x509/pem.ts';
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

/** A database that holds what one workload was delivered, and the full CRL that is served now. */
class Database {
  readonly path: string;

  constructor(workload: Workload) {
    this.path = `sql:${authority.path('nss')}`;
    mkdirSync(this.path.slice('sql:'.length));
    this.certutil('-N', '--empty-password');
    const [leaf, issuer] = decodePem(workload.read('svid.pem'), 'CERTIFICATE');
    const [root] = decodePem(workload.read('bundle.pem'), 'CERTIFICATE');
    for (const [name, der, trust] of [
      ['root', root, 'CT,C,C'],
      ['issuer', issuer, ',,'],
      ['leaf', leaf, ',,'],
    ] as const)
      expect(this.certutil('-A', '-n', name, '-t', trust, '-i', file(der))).toEqual({
        status: 0,
        output: '',
      });
    this.leaf = file(leaf);
    this.issuer = file(issuer);
  }

  readonly leaf: string;
  readonly issuer: string;

  certutil(...args: readonly string[]): ToolAnswer {
    return runTool('certutil', ...args, '-d', this.path);
  }

  importCrl(der: Buffer): ToolAnswer {
    return runTool('crlutil', '-I', '-d', this.path, '-i', file(der), '-t', '1');
  }

  /** As client and as server. */
  usable(): string[] {
    return ['C', 'V'].map((usage) => this.certutil('-V', '-n', 'leaf', '-u', usage).output);
  }

  /** The chain as a peer shows it; `usage` 0 is a client's, 1 a server's. */
  vfychain(usage: number): ToolAnswer {
    return runTool('vfychain', '-d', this.path, '-u', String(usage), this.leaf, this.issuer);
  }
}

function file(der: Buffer | undefined): string {
  const path = authority.path('der');
  writeFileSync(path, der ?? Buffer.alloc(0));
  return path;
}

async function served(issuerKeyId: string, shard = ''): Promise<Buffer> {
  const base = authority.server.ready.publicationUrl;
  const response = await fetch(`${base}/crl/${issuerKeyId}${shard}.crl`);
  return Buffer.from(await response.arrayBuffer());
}

it('accepts what was delivered, with the full CRL, for client and server', async () => {
  const database = new Database(orders);
  expect(database.importCrl(await served(orders.delivery.issuerKeyId))).toMatchObject({ status: 0 });
  for (const said of database.usable()) expect(said).toMatch(/certificate is valid/);
  for (const usage of [0, 1])
    expect(database.vfychain(usage)).toMatchObject({
      status: 0,
      output: expect.stringMatching(/Chain is good!/) as unknown,
    });
});

it('takes the root’s CRL as well', async () => {
  const database = new Database(orders);
  const rootCrl = decodePem(orders.read('crl.pem'), 'X509 CRL')[1];
  expect(database.importCrl(rootCrl ?? Buffer.alloc(0))).toMatchObject({ status: 0 });
  for (const said of database.usable()) expect(said).toMatch(/certificate is valid/);
});

it('refuses what was revoked by the full CRL, and nothing else', async () => {
  const before = new Database(revoked);
  before.importCrl(await served(revoked.delivery.issuerKeyId));
  for (const said of before.usable()) expect(said).toMatch(/certificate is valid/);

  (await authority.vouch('revoke', '--serial', revoked.serial, '--reason', 'keyCompromise')).json();
  const crl = await served(revoked.delivery.issuerKeyId);
  const after = new Database(revoked);
  expect(after.importCrl(crl)).toMatchObject({ status: 0 });
  for (const said of after.usable()) expect(said).toMatch(/revoked/i);
  for (const usage of [0, 1])
    expect(after.vfychain(usage)).toMatchObject({
      status: 1,
      output: expect.stringMatching(/revoked/i) as unknown,
    });

  const other = new Database(orders);
  other.importCrl(crl);
  for (const said of other.usable()) expect(said).toMatch(/certificate is valid/);
});

it('does not take a shard: it knows no critical IDP, which is why files carry the full CRL', async () => {
  const database = new Database(orders);
  expect(database.importCrl(await served(orders.delivery.issuerKeyId, '/3')).output).toMatch(/critical/i);
});
