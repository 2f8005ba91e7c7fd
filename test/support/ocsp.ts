import { readFileSync } from 'node:fs';
import { runTool } from '../x509/oracle-tools.ts';
import type { Authority, Workload } from './daemon.ts';
import { eventually } from './running.ts';

/** What `openssl ocsp` says of a workload's certificate, asking the responder of a running authority. */
export function askOcsp(authority: Authority, workload: Workload, ...flags: readonly string[]): string {
  const svid = workload.path('svid.pem');
  const issuer = authority.path('issuer.pem');
  runTool('sh', '-c', `awk '/BEGIN/{n++} n==2' '${svid}' > '${issuer}'`);
  const chain = authority.path('chain.pem');
  runTool('sh', '-c', `cat '${workload.path('bundle.pem')}' '${issuer}' > '${chain}'`);
  const names = ['-issuer', issuer, '-cert', svid, '-CAfile', chain];
  return runTool(
    'openssl',
    'ocsp',
    ...flags,
    ...names,
    '-url',
    `${authority.server.ready.publicationUrl}/ocsp`,
  ).output;
}

/** An OCSPRequest for a workload's certificate as OpenSSL writes it, without nonce. */
export function ocspRequest(authority: Authority, workload: Workload, ...flags: readonly string[]): Buffer {
  const svid = workload.path('svid.pem');
  const [issuer, out] = [authority.path('issuer.pem'), authority.path('request.der')];
  runTool('sh', '-c', `awk '/BEGIN/{n++} n==2' '${svid}' > '${issuer}'`);
  runTool('openssl', 'ocsp', ...flags, '-no_nonce', '-issuer', issuer, '-cert', svid, '-reqout', out);
  return readFileSync(out);
}

/** Waits until the responder has its certificate, which it gets within a second or two of the server's start. */
export async function ocspAnswers(authority: Authority, workload: Workload): Promise<void> {
  await eventually(() => /: (?:good|revoked)\n/.test(askOcsp(authority, workload, '-no_nonce')));
}
