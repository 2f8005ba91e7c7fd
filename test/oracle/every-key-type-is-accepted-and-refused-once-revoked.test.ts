import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { createServer } from 'node:https';
import { beforeAll, describe, expect, it } from 'vitest';
import { openVouch, type Vouch } from '../../src/client/main.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { importPublicKey } from '../../src/x509/public-key.ts';
import { type SigningKeyType, signingKeyTypes } from '../../src/x509/signing-key-type.ts';
import { cutOff, get, listening } from '../client/support.ts';
import { type Authority, bootAuthority, Workload, type Delivery } from '../support/daemon.ts';
import { runTool, type ToolAnswer } from '../x509/oracle-tools.ts';

/** Each type once as root, issuer and leaf. A leaf's RSA key has no scheme of its own. */
const chains: [root: SigningKeyType, issuer: SigningKeyType, leaf: string][] = [
  ['ec-p384', 'ec-p256', 'rsa-4096'],
  ['ec-p256', 'rsa-4096', 'ed25519'],
  ['rsa-3072', 'ec-p384', 'rsa-3072'],
  ['rsa-4096', 'rsa-3072-pss', 'ec-p256'],
  ['rsa-3072-pss', 'ed25519', 'ec-p384'],
  ['rsa-4096-pss', 'rsa-3072', 'ec-p256'],
  ['ed25519', 'rsa-4096-pss', 'ec-p256'],
];

describe.each(chains)('root %s, issuer %s, leaf %s', (rootType, issuerType, leafType) => {
  let authority: Authority;
  let orders: Workload;
  let revoked: Workload;
  let witness: Workload;

  const enroll = async (name: string, keyType = leafType): Promise<Workload> => {
    const names = ['--dns', `${name}.test.example`, '--allowed-client', authority.id('*')];
    const { path } = await authority.join(name, ...names);
    const flags = ['--join-file', path, '--out', authority.path('w'), '--key-type', keyType];
    return new Workload((await authority.vouch('enroll', ...flags)).json<Delivery>());
  };

  beforeAll(async () => {
    authority = await bootAuthority({ init: ['--root-key', rootType, '--issuer-key', issuerType] });
    [orders, revoked] = await Promise.all([enroll('orders'), enroll('billing')]);
    const answer = await authority.vouch('revoke', '--serial', revoked.serial, '--reason', 'superseded');
    expect(answer.json()).toMatchObject({ published: true });
    witness = await enroll('witness', 'ec-p256');
  });

  it('is signed by the one algorithm of each key', () => {
    const [leaf, issuer] = decodePem(orders.read('svid.pem'), 'CERTIFICATE').map(parseCertificate);
    const [root] = decodePem(orders.read('bundle.pem'), 'CERTIFICATE').map(parseCertificate);
    const crls = decodePem(orders.read('crl.pem'), 'X509 CRL').map(parseCrl);
    const [byRoot, byIssuer] = [signingKeyTypes[rootType].algorithm, signingKeyTypes[issuerType].algorithm];
    expect([leaf, issuer, root].map((one) => one?.algorithm)).toEqual([byIssuer, byRoot, byRoot]);
    expect(crls.map((crl) => crl.algorithm)).toEqual([byIssuer, byRoot]);
    const types = [leaf, issuer, root].map((one) => importPublicKey(one?.spki ?? Buffer.alloc(0)).type);
    expect(types).toEqual([leafType, issuerType, rootType].map((type) => type.replace(/-pss$/, '')));
  });

  it('OpenSSL accepts it, with -x509_strict and every CRL, and refuses what is revoked', () => {
    const verify = (workload: Workload): ToolAnswer => {
      const [chain, bundle, crl] = [
        workload.path('svid.pem'),
        workload.path('bundle.pem'),
        witness.path('crl.pem'),
      ];
      const files = ['-CAfile', bundle, '-untrusted', chain, '-CRLfile', crl, chain];
      return runTool('openssl', 'verify', '-x509_strict', '-check_ss_sig', '-crl_check_all', ...files);
    };
    for (const good of [orders, witness])
      expect(verify(good)).toMatchObject({ status: 0, output: expect.stringMatching(/: OK$/m) as unknown });
    expect(verify(revoked)).toMatchObject({
      status: 2,
      output: expect.stringMatching(/error 23 .*certificate revoked/) as unknown,
    });
  });

  it('GnuTLS accepts it and refuses what is revoked', () => {
    const verify = (workload: Workload): ToolAnswer => {
      const files = [
        '--load-ca-certificate',
        workload.path('bundle.pem'),
        '--load-crl',
        witness.path('crl.pem'),
      ];
      return runTool('certtool', '--verify', ...files, '--infile', workload.path('svid.pem'));
    };
    for (const good of [orders, witness])
      expect(verify(good)).toMatchObject({
        status: 0,
        output: expect.stringMatching(/is trusted/) as unknown,
      });
    expect(verify(revoked)).toMatchObject({
      status: 1,
      output: expect.stringMatching(/revoked/i) as unknown,
    });
  });

  it('NSS accepts it where it knows the algorithms, and refuses what is revoked', () => {
    // NSS 3.87 knows no Ed25519 in certificates.
    if ([rootType, issuerType, leafType].includes('ed25519')) {
      expect(() => usable(orders)).toThrow(/Error adding certificate/);
      return;
    }
    // Its verifier wants keyEncipherment of an RSA key in a server; we grant no key exchange without forward secrecy.
    const asServer = leafType.startsWith('rsa-') ? /key usage inadequate/ : /certificate is valid/;
    expect(usable(orders)).toEqual([
      expect.stringMatching(/certificate is valid/),
      expect.stringMatching(asServer),
    ]);
    expect(usable(revoked)[0]).toMatch(/revoked/i);
  });

  /** What NSS says of a workload as client and as server, with the CRLs of now. */
  function usable(workload: Workload): string[] {
    const folder = authority.path('nss');
    mkdirSync(folder);
    const nss = (tool: string, ...args: string[]): string => {
      const { status, output } = runTool(tool, ...args, '-d', `sql:${folder}`);
      if (status !== 0 && args[0] !== '-V') throw new Error(output);
      return output;
    };
    const file = (der: Buffer | undefined): string => {
      const path = authority.path('der');
      writeFileSync(path, der ?? Buffer.alloc(0));
      return path;
    };
    nss('certutil', '-N', '--empty-password');
    const [leaf, issuer] = decodePem(workload.read('svid.pem'), 'CERTIFICATE');
    const [root] = decodePem(workload.read('bundle.pem'), 'CERTIFICATE');
    nss('certutil', '-A', '-n', 'root', '-t', 'CT,C,C', '-i', file(root));
    nss('certutil', '-A', '-n', 'issuer', '-t', ',,', '-i', file(issuer));
    nss('certutil', '-A', '-n', 'leaf', '-t', ',,', '-i', file(leaf));
    for (const crl of decodePem(witness.read('crl.pem'), 'X509 CRL'))
      nss('crlutil', '-I', '-i', file(crl), '-t', '1');
    return ['C', 'V'].map((usage) => nss('certutil', '-V', '-n', 'leaf', '-u', usage));
  }

  it('Node shakes hands with it and refuses what is revoked', async () => {
    const crl = witness.read('crl.pem').split(/(?<=-----END X509 CRL-----\n)/);
    const options = (workload: Workload) => ({
      cert: workload.read('svid.pem'),
      key: workload.read('svid.key'),
      ca: workload.read('bundle.pem'),
      crl,
      minVersion: 'TLSv1.3' as const,
      rejectUnauthorized: false,
    });
    const saidOf = async (client: Workload): Promise<string> => {
      const listener = tls.createServer({ ...options(witness), requestCert: true });
      listener.listen(0, '127.0.0.1');
      await once(listener, 'listening');
      const accepted = once(listener, 'secureConnection') as Promise<[TLSSocket]>;
      const { port } = listener.address() as AddressInfo;
      const name = { host: '127.0.0.1', servername: 'witness.test.example' };
      const socket = tls.connect({ ...options(client), ...name, port });
      try {
        const [[far]] = await Promise.all([accepted, once(socket, 'secureConnect')]);
        expect(socket.authorizationError ?? '').toBe('');
        far.destroy();
        return String(far.authorizationError ?? '');
      } finally {
        socket.destroy();
        listener.close();
      }
    };
    expect(await saidOf(orders)).toBe('');
    expect(await saidOf(revoked)).toBe('CERT_REVOKED');
  });

  it('the client library talks to it, and refuses what is revoked', async () => {
    const open = ({ dir }: Workload): Promise<Vouch> => openVouch({ dir });
    const [here, gone, there] = await Promise.all([open(orders), open(revoked), open(witness)]);
    const server = createServer(there.serverOptions(), (request, response) => {
      response.end(there.peerOf(request.socket)?.spiffeId);
    });
    there.secure(server);
    const port = await listening(server);
    const call = (vouch: Vouch): Promise<string> =>
      get(port, vouch.clientOptions({ serverId: authority.id('witness') }));
    expect(await call(here)).toBe(authority.id('orders'));
    await expect(call(gone)).rejects.toThrow(cutOff);
    for (const vouch of [here, gone, there]) vouch.close();
  });

  it('the log holds all of it, by the state and by what is published', async () => {
    const { rootPin } = (await authority.vouch('status')).json<{ rootPin: string }>();
    const url = authority.server.ready.publicationUrl;
    const verified = await Promise.all([
      authority.vouch('log', 'verify', '--url', url, '--root-pin', rootPin),
      authority.vouch('log', 'verify', '--state', authority.state),
    ]);
    for (const ran of verified) expect(ran.json()).toMatchObject({ problems: [] });
    await authority.server.end();
  });
});
