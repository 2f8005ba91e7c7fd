import { X509Certificate } from 'node:crypto';
import type { Serial } from '../../../src/core/serial.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { parseCrl } from '../../../src/x509/crl.ts';
import { decodePem } from '../../../src/x509/pem.ts';
import { bundled, type Running, start } from './bundle.ts';
import type { FakeAuthority } from './fake-authority.ts';
import type { FakeServer } from './fake-server.ts';
import { workload } from './harness.ts';

/** A script that goes on until it is ended. */
export const forever = 'setInterval(() => {}, 1000);';

/** The serial of a certificate that nobody here holds. */
export function strangerOf(authority: FakeAuthority): Serial {
  return parseCertificate(authority.issue(authority.root.spki, { uris: ['spiffe://example.org/x'] })).serial;
}

/** Whether a CRL of crl.pem has a serial on it. */
export function isListed(pem: string, serial: Serial): boolean {
  return decodePem(pem, 'X509 CRL').some((der) => parseCrl(der).has(serial));
}

/** A workload with its folder, and `vouch exec` of a Node script, or of any command, for it. */
export async function executable(server: FakeServer, over: Parameters<FakeServer['joinLine']>[0] = {}) {
  const agent = await bundled('src/agent.ts', 'vouch-agent.js');
  const one = workload(server, over);
  const execCommand = (command: readonly string[], ...flags: string[]): Running => {
    const args = ['--join-file', one.joinFile, '--out', one.dir, '--timeout', '5', ...flags];
    return start(process.execPath, [agent, 'exec', ...args, '--', ...command]);
  };
  const exec = (script: string, ...flags: string[]): Running =>
    execCommand([process.execPath, '-e', script], ...flags);
  const serial = (): string => new X509Certificate(one.read('svid.pem')).serialNumber;
  return { ...one, agent, exec, execCommand, serial };
}
