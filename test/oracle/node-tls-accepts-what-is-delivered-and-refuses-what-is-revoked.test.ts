import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';

let authority: Authority;
let orders: Workload;
let billing: Workload;

beforeAll(async () => {
  authority = await bootAuthority();
  [orders, billing] = await Promise.all([
    authority.enroll('orders', '--dns', 'orders.test.example'),
    authority.enroll('billing', '--dns', 'billing.test.example'),
  ]);
});

/** The CRLs of a delivery, each by itself: Node reads only the first of a text that holds several. */
function crlsOf(workload: Workload): string[] {
  return workload.read('crl.pem').split(/(?<=-----END X509 CRL-----\n)/);
}

/** TLS options straight from delivered files. */
function optionsOf(workload: Workload, crl: string | string[]): tls.SecureContextOptions {
  return {
    cert: workload.read('svid.pem'),
    key: workload.read('svid.key'),
    ca: workload.read('bundle.pem'),
    crl,
    minVersion: 'TLSv1.3',
  };
}

/** One handshake with certificates on both sides; what each side said of the other, '' where it accepted. */
async function handshake(
  client: Workload,
  server: Workload,
  crls: string | string[],
): Promise<{ client: string; server: string }> {
  const listener = tls.createServer({
    ...optionsOf(server, crls),
    requestCert: true,
    rejectUnauthorized: false,
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const accepted = once(listener, 'secureConnection') as Promise<[TLSSocket]>;
  const { port } = listener.address() as AddressInfo;
  const servername = `${server.delivery.spiffeId.split('/').at(-1)}.test.example`;
  const socket = tls.connect({
    ...optionsOf(client, crls),
    host: '127.0.0.1',
    port,
    servername,
    rejectUnauthorized: false,
  });
  try {
    const [[far]] = await Promise.all([accepted, once(socket, 'secureConnect')]);
    const said = {
      client: String(socket.authorizationError ?? ''),
      server: String(far.authorizationError ?? ''),
    };
    far.destroy();
    return said;
  } finally {
    socket.destroy();
    listener.close();
  }
}

it('accepts both ends with the delivered CRLs', async () => {
  expect(await handshake(orders, billing, crlsOf(orders))).toEqual({ client: '', server: '' });
  expect(await handshake(billing, orders, crlsOf(billing))).toEqual({ client: '', server: '' });
});

it('needs the CRL of every CA: with the issuer’s alone, or with all in one text, it accepts nobody', async () => {
  const [issuers = ''] = crlsOf(orders);
  const nobody = { client: 'UNABLE_TO_GET_CRL', server: 'UNABLE_TO_GET_CRL' };
  expect(await handshake(orders, billing, issuers)).toEqual(nobody);
  expect(await handshake(orders, billing, orders.read('crl.pem'))).toEqual(nobody);
});

it('refuses what was revoked at either end, and nothing else', async () => {
  (await authority.vouch('revoke', '--serial', billing.serial, '--reason', 'keyCompromise')).json();
  const witness = await authority.enroll('witness', '--dns', 'witness.test.example');
  const crls = crlsOf(witness);
  expect(await handshake(billing, orders, crls)).toEqual({ client: '', server: 'CERT_REVOKED' });
  expect(await handshake(orders, billing, crls)).toEqual({ client: 'CERT_REVOKED', server: '' });
  expect(await handshake(orders, witness, crls)).toEqual({ client: '', server: '' });
});
