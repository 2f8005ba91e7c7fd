import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pkcs12 } from '../../src/agent/deliver/pkcs12.ts';
import { start } from '../support/running.ts';
import { decodePem, encodePem } from '../../src/x509/pem.ts';
import { ecKey } from '../x509/authority.ts';
import { ArtefactDirectory, CurrentAuthority, runTool } from '../x509/oracle-tools.ts';

const password = "p12 'pass' word";
const seed = Buffer.alloc(32, 7);
const authority = new CurrentAuthority();
const key = ecKey();
const chain = [authority.leaf({ spki: key.info.spki, subjectKeyId: key.info.keyId }), authority.issuer.der];
const roots = [authority.root.der, new CurrentAuthority().root.der];
const identity = { keyPkcs8: key.privateKey.export({ format: 'der', type: 'pkcs8' }), chain };
const folder = new ArtefactDirectory();
afterAll(() => folder[Symbol.dispose]());

const passwordFile = folder.write('password', password);
let store = '';
let trust = '';
beforeAll(async () => {
  store = folder.write('svid.p12', await pkcs12({ identity, trusted: roots, password, seed }));
  trust = folder.write(
    'truststore.p12',
    await pkcs12({ identity: undefined, trusted: roots, password, seed }),
  );
});

const sorted = (ders: readonly Buffer[]): string[] => ders.map((der) => der.toString('hex')).sort();

describe('a PKCS#12 file', () => {
  test('is the same for the same content, and another for another password, content or seed', async () => {
    const content = { identity, trusted: roots, password, seed };
    const made = await pkcs12(content);
    expect((await pkcs12(content)).equals(made)).toBe(true);
    for (const change of [{ password: 'another' }, { trusted: [] }, { seed: Buffer.alloc(32) }])
      expect((await pkcs12({ ...content, ...change })).equals(made)).toBe(false);
  });

  test('holds key and certificates to OpenSSL, in PBES2 with AES-256', () => {
    const args = ['-in', store, '-passin', `file:${passwordFile}`];
    const { status, output } = runTool('openssl', 'pkcs12', ...args, '-info', '-noenc');
    expect({ status, output }).toMatchObject({ status: 0 });
    expect(output).toContain('MAC: sha256, Iteration 10000');
    expect(output.match(/PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256/g)).toHaveLength(2);
    const blocks = (label: string): Buffer[] =>
      [...output.matchAll(new RegExp(`-----BEGIN ${label}-----[^]*?-----END ${label}-----\n`, 'g'))].flatMap(
        ([pem]) => decodePem(pem, label),
      );
    expect(sorted(blocks('CERTIFICATE'))).toEqual(sorted([...chain, ...roots]));
    expect(blocks('PRIVATE KEY')).toEqual([identity.keyPkcs8]);
    const wrong = runTool('openssl', 'pkcs12', '-in', store, '-passin', 'pass:wrong-one', '-noenc');
    expect(wrong.output).toMatch(/invalid password/);
  });

  test('is a key store and a trust store to Java', () => {
    const list = (file: string): string => {
      const { status, output } = runTool(
        'keytool',
        '-list',
        '-v',
        '-keystore',
        file,
        '-storepass:file',
        passwordFile,
      );
      expect({ status, output }).toMatchObject({ status: 0 });
      return output;
    };
    const entries = list(store);
    expect(entries).toMatch(/Alias name: svid\n.*\nEntry type: PrivateKeyEntry\nCertificate chain length: 3/);
    expect(entries.match(/Entry type: trustedCertEntry/g)).toHaveLength(2);
    const trusted = list(trust);
    expect(trusted).toMatch(/contains 2 entries/);
    expect(trusted.match(/Alias name: ca-\d\n.*\nEntry type: trustedCertEntry/g)).toHaveLength(2);
  });

  test('lets a Java program speak mTLS', async () => {
    const server = createServer({
      cert: chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
      key: key.privateKey.export({ format: 'pem', type: 'pkcs8' }),
      ca: encodePem('CERTIFICATE', authority.root.der),
      requestCert: true,
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const seen = once(server, 'secureConnection').then(([socket]) => {
      const peer = (socket as TLSSocket).getPeerX509Certificate();
      (socket as TLSSocket).end('hello');
      return peer;
    });
    const program = `${import.meta.dirname}/java/Pkcs12Client.java`;
    const { port } = server.address() as AddressInfo;
    const running = start(['java', program, store, trust, passwordFile, String(port)]);
    expect(await running.ended()).toMatchObject({ code: 0, stdout: 'hello\n' });
    expect((await seen)?.raw).toEqual(chain[0]);
    server.close();
  }, 60_000);

  test('is read by NSS', () => {
    const database = `${folder.path}/nss`;
    mkdirSync(database);
    expect(runTool('certutil', '-N', '-d', database, '--empty-password').status).toBe(0);
    const into = runTool('pk12util', '-i', store, '-d', database, '-w', passwordFile, '-K', '');
    expect(into.output).toContain('PKCS12 IMPORT SUCCESSFUL');
    expect(runTool('certutil', '-K', '-d', database).output).toMatch(/ec\s+[0-9a-f]{40}\s+svid/);
    const leaf = runTool('certutil', '-L', '-d', database, '-n', 'svid', '-a');
    expect(new X509Certificate(leaf.output).raw).toEqual(chain[0]);
  });

  test('is read by GnuTLS', () => {
    const { status, output } = runTool(
      'certtool',
      '--p12-info',
      '--inder',
      '--infile',
      store,
      '--password',
      password,
    );
    expect({ status, output }).toMatchObject({ status: 0 });
    expect(output).toContain('MAC: SHA256');
    expect(output.match(/Cipher: AES-256-CBC/g)).toHaveLength(2);
    expect(output.match(/BEGIN CERTIFICATE/g)).toHaveLength(4);
    expect(output).toContain('PRIVATE KEY');
  });
});
