import { execFileSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { keyIdOf } from '../../src/x509/public-key.ts';
import type { Json } from '../support/running.ts';
import { twoMachines, type TwoMachines } from '../support/two-machines.ts';

let machines: TwoMachines;
let carried: string;
/** A root that was there before Vouch: key in the token, certificate and CRL by OpenSSL, one certificate revoked. */
let old: { certificate: string; sha1: string; crl: string; keyId: string };
const ckaId = 'a1b2c3';

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { cwd: machines.root.folder, stdio: 'pipe' });
}

/** `openssl ca` with a database of one revoked certificate. */
function oldCrl(folder: string, name = 'old.crl', more = ''): string {
  const database = join(folder, `ca-${name}`);
  mkdirSync(database);
  writeFileSync(
    join(database, 'index.txt'),
    `R\t360101000000Z\t260101000000Z,keyCompromise\t0BADC0DE\tunknown\t/CN=lost\n${more}`,
  );
  writeFileSync(join(database, 'crlnumber'), '2A\n');
  writeFileSync(
    join(folder, 'ca.cnf'),
    [
      '[ca]\ndefault_ca = old\n[old]',
      `database = ${database}/index.txt\ncrlnumber = ${database}/crlnumber`,
      'default_md = sha384\ndefault_crl_days = 30\ncrl_extensions = ext',
      '[ext]\nauthorityKeyIdentifier = keyid:always\n',
    ].join('\n'),
  );
  openssl('ca', '-config', 'ca.cnf', '-gencrl', '-keyfile', 'old.key', '-cert', 'old.pem', '-out', name);
  return join(folder, name);
}

beforeAll(async () => {
  machines = await twoMachines();
  ({ carried } = await machines.request());
  const { folder, token } = machines.root;
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384', '-out', 'old.key');
  const env = { ...process.env, ...token.environment };
  const pin = readFileSync(token.pinFile, 'utf8').trim();
  const named = ['--token', token.tokenLabel, '--label', 'old root', '--id', ckaId, '--pin', pin];
  execFileSync('softhsm2-util', ['--import', join(folder, 'old.key'), ...named], { env, stdio: 'pipe' });
  const spki = createPublicKey(readFileSync(join(folder, 'old.key'))).export({ format: 'der', type: 'spki' });
  const common = [
    'req',
    '-x509',
    '-key',
    'old.key',
    '-sha384',
    '-days',
    '3000',
    '-subj',
    '/O=Old/CN=Old root',
  ];
  const ca = [
    '-addext',
    'keyUsage=critical,keyCertSign,cRLSign',
    '-addext',
    'basicConstraints=critical,CA:TRUE',
  ];
  openssl(
    ...common,
    ...ca,
    '-addext',
    `subjectKeyIdentifier=${keyIdOf(spki)}`,
    '-addext',
    'authorityKeyIdentifier=none',
    '-out',
    'old.pem',
  );
  openssl(...common, ...ca, '-out', 'sha1.pem');
  old = {
    certificate: join(folder, 'old.pem'),
    sha1: join(folder, 'sha1.pem'),
    crl: oldCrl(folder),
    keyId: keyIdOf(spki),
  };
}, 60_000);

async function refusal(root: Json, more: Json = { crl: { last: old.crl } }): Promise<string> {
  const held = machines.root.file({ request: { file: carried }, ...more, root });
  const refused = await machines.root.vouch(['ceremony', '--file', held.file, '--json']);
  expect(refused.code).toBe(78);
  return refused.problem.detail;
}

describe('a root that was there before Vouch', () => {
  it('whose CRL could not be taken in afterwards is refused before anything is signed', async () => {
    const lines = Array.from({ length: 5000 }, (_, index) => {
      const serial = (0x10000000 + index).toString(16).toUpperCase().padStart(32, '5');
      return `R\t360101000000Z\t260101000000Z,superseded\t${serial}\tunknown\t/CN=lost ${index}\n`;
    });
    const last = oldCrl(machines.root.folder, 'big.crl', lines.join(''));
    const root = { key: { use: { ckaId } }, certificate: old.certificate };
    expect(await refusal(root, { crl: { last } })).toContain('lists 5001 certificates');
  });

  it('is adopted by CKA_ID with its certificate; what it revoked stays revoked, and the log verifies', async () => {
    const { authority, root } = machines;
    const key = { use: { ckaId } };
    const ceremony = { request: { file: carried }, crl: { last: old.crl } };
    const { file, out } = root.file({ ...ceremony, root: { key, certificate: old.certificate } });
    const shown = (await root.vouch(['ceremony', '--file', file, '--json'])).json<{
      items: { what: string; tbsSha256: string }[];
      root: { keyId: string };
    }>();
    expect(shown.root.keyId).toBe(old.keyId);
    expect(shown.items.map(({ what }) => what)).toEqual([
      'root CRL, 1 revoked',
      'issuer certificate',
      'statement, 1 log key(s)',
    ]);
    (await root.vouch(['ceremony', '--file', file, '--yes', '--json'])).json();
    const transcript = JSON.parse(readFileSync(join(out, 'transcript.json'), 'utf8')) as {
      signed: { tbsSha256: string }[];
      root: Json;
    };
    expect(
      transcript.signed.map(({ tbsSha256 }) => tbsSha256),
      'what was shown is what was signed',
    ).toEqual(shown.items.map(({ tbsSha256 }) => tbsSha256));
    expect(transcript.root).toMatchObject({ keyMade: false, certificateMade: false, ckaId });

    const { rootKeyId } = (await machines.takeIn(out, '--yes')).json<{ rootKeyId: string }>();
    expect(rootKeyId).toBe(old.keyId);
    expect(await machines.logProblems()).toEqual([]);
    const { ready } = await authority.start();
    const workload = await authority.enroll('orders', '--dns', 'orders.test.example');
    const args = ['verify', '-x509_strict', '-crl_check_all', '-CAfile', old.certificate];
    const delivered = ['-CRLfile', workload.path('crl.pem'), '-untrusted', workload.path('svid.pem')];
    const verified = execFileSync('openssl', [...args, ...delivered, workload.path('svid.pem')], {
      encoding: 'utf8',
    });
    expect(verified, 'with the old certificate as anchor').toMatch(/OK/);
    const served = await fetch(`${ready.publicationUrl}/crl/${rootKeyId}.crl`);
    const crl = Buffer.from(await served.arrayBuffer());
    expect(crl.includes(Buffer.from('0badc0de', 'hex')), 'the old revocation stands on the new CRL').toBe(
      true,
    );
    await authority.server.end();
    expect(await machines.logProblems()).toEqual([]);
  }, 60_000);

  it('is refused where its certificate is found by another key id, and made anew over the same key where asked', async () => {
    const key = { use: { label: 'old root' } };
    expect(await refusal({ key, certificate: old.sha1 })).toContain('root.reissue: true');
    const others = await twoMachines();
    const request = (await others.request()).carried;
    const { root } = machines;
    const out = await root.hold({
      request: { file: request },
      crl: { last: old.crl },
      root: { key, certificate: old.sha1, reissue: true },
    });
    const text = execFileSync(
      'openssl',
      [
        'x509',
        '-inform',
        'DER',
        '-in',
        join(out, 'root.cer'),
        '-noout',
        '-subject',
        '-ext',
        'subjectKeyIdentifier',
      ],
      { encoding: 'utf8' },
    );
    expect(text).toContain('O = Old, CN = Old root');
    expect(text.replaceAll(':', '').toLowerCase()).toContain(old.keyId);
    (await others.takeIn(out, '--yes')).json();
    expect(await others.logProblems()).toEqual([]);
  }, 60_000);

  it('is refused with another key, another CRL, or without saying which its last CRL is', async () => {
    const { folder } = machines.root;
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-384',
      '-nodes',
      '-keyout',
      'x.key',
      '-subj',
      '/CN=Other',
      '-days',
      '9',
      '-out',
      'x.pem',
      '-addext',
      'keyUsage=critical,keyCertSign,cRLSign',
    );
    const other = join(folder, 'x.pem');
    expect(
      await refusal(
        { key: { use: { ckaId } }, certificate: other, reissue: true },
        { crl: { last: 'none' } },
      ),
    ).toContain('is another one than that of the root certificate');
    expect(await refusal({ key: { use: { ckaId: 'ffff' } }, certificate: old.certificate })).toContain(
      'name exactly one',
    );
    expect(await refusal({ key: { use: { ckaId } }, certificate: old.certificate }, {})).toContain(
      'crl.last',
    );
    writeFileSync(join(folder, 'no.crl'), readFileSync(old.certificate));
    expect(
      await refusal(
        { key: { use: { ckaId } }, certificate: old.certificate },
        { crl: { last: join(folder, 'no.crl') } },
      ),
    ).toMatch(/CRL/);
  }, 30_000);
});
