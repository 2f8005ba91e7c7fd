import { join } from 'node:path';
import { writeFileSync, renameSync, readlinkSync } from 'node:fs';
import { request, Server as HttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:tls';
import { onTestFinished } from 'vitest';
import { crlPem, deliverGeneration } from '../../src/agent/deliver/files.ts';
import { openVouch, type Vouch, type VouchEvent, type VouchOptions } from '../../src/client/main.ts';
import { type Clock, systemClock } from '../../src/core/clock.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import type { CertificateTemplate } from '../../src/x509/certificate-tbs.ts';
import { type FakeAuthority, type FakeCa, newKey } from '../agent/support/fake-authority.ts';
import { temporaryFolder } from '../agent/support/harness.ts';

/** The machine's clocks, `ahead` milliseconds on. */
export class MovedClock implements Clock {
  ahead = 0;
  now = (): number => systemClock.now() + this.ahead;
  monotonicMs = (): number => systemClock.monotonicMs() + this.ahead;
}

/** A service with files as the agent delivers them. */
export interface Service {
  dir: string;
  /** Serial of the newest certificate. */
  serial: () => ReturnType<typeof parseCertificate>['serial'];
  /** A new generation. */
  rotate: (over?: Partial<CertificateTemplate>, crls?: readonly Buffer[]) => Promise<void>;
  /** Replaces crl.pem in the current generation, as the agent does. */
  publish: (crls?: readonly Buffer[], file?: 'crl.pem' | 'crl-delta.pem') => void;
  open: (options?: VouchOptions) => Promise<{ vouch: Vouch; events: VouchEvent[] }>;
}

/** Delivers a certificate for `spiffe://example.org/<name>`. */
export async function service(
  authority: FakeAuthority,
  name: string,
  allowedClients: string[] = ['spiffe://example.org/*'],
  issuer: FakeCa = authority.issuer,
): Promise<Service> {
  const dir = temporaryFolder();
  let newest: Buffer = Buffer.alloc(0);
  const others = [authority.issuer, ...authority.otherIssuers].filter((one) => one !== issuer);
  const crlsNow = (): Buffer[] => [issuer, authority.root, ...others].map((ca) => authority.crl(ca));
  const rotate: Service['rotate'] = async (over = {}, crls = crlsNow()) => {
    const key = newKey();
    newest = authority.issue(key.spki, { uris: [`spiffe://example.org/${name}`], ...over }, issuer);
    await deliverGeneration(dir, {
      chain: [newest, issuer.der],
      otherIssuers: others.map((other) => other.der),
      keyPem: key.pem,
      roots: [authority.root.der],
      crls,
      proof: { index: 0, treeSize: 1, time: 0, context: '00'.repeat(32), path: [], checkpoint: 'x' },
      peers: { version: 1, allowedClients },
    });
  };
  await rotate();
  return {
    dir,
    serial: () => parseCertificate(newest).serial,
    rotate,
    publish: (crls = crlsNow(), file = 'crl.pem') => {
      const target = join(dir, readlinkSync(join(dir, 'current')), file);
      writeFileSync(`${target}.new`, crlPem(crls));
      renameSync(`${target}.new`, target);
    },
    open: async (options = {}) => {
      const events: VouchEvent[] = [];
      const vouch = await openVouch({ dir, onEvent: (event) => events.push(event), ...options });
      onTestFinished(() => vouch.close());
      return { vouch, events };
    },
  };
}

/** What a caller sees whom the other side cut off: TLS 1.3 refuses a client after its handshake. */
export const cutOff = /socket hang up|ECONNRESET|EPIPE|disconnected/;

/** Listens on a free loopback port until the test ends. */
export async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    if (server instanceof HttpsServer) server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** One GET; resolves to the body, rejects with the connection's failure. */
export function get(port: number, options: Parameters<typeof request>[1], path = '/'): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const asked = request({ host: '127.0.0.1', port, path, ...options }, (response) => {
    let body = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk;
    });
    response.on('end', () => resolve(body));
    response.on('error', reject);
  });
  asked.on('error', reject);
  asked.end();
  return promise;
}
