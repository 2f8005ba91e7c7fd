// Software that takes no CRL: nginx staples and asks about clients, Java asks about servers.
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { ocspAnswers } from '../support/ocsp.ts';
import { freePort } from '../support/ports.ts';
import { eventually, type Running, start } from '../support/running.ts';
import { runTool } from '../x509/oracle-tools.ts';

let authority: Authority;
let server: Workload;
let client: Workload;
let ended: Workload;

beforeAll(async () => {
  const configure = (config: Record<string, unknown>): void => {
    config.ocsp = { enabled: true, inCertificates: true };
  };
  authority = await bootAuthority({ init: ['--ocsp'], configure });
  [server, client, ended] = await Promise.all([
    authority.enroll('server'),
    authority.enroll('client'),
    authority.enroll('ended'),
  ]);
  await ocspAnswers(authority, server);
});

/** An nginx that listens on a port of the loopback network with these directives of a `server`. */
async function nginx(
  ...directives: readonly string[]
): Promise<{ port: number; running: Running; errors(): string }> {
  const port = await freePort();
  const folder = authority.path('nginx');
  mkdirSync(folder);
  const chain = join(folder, 'chain.pem');
  writeFileSync(chain, `${server.read('svid.pem')}${server.read('bundle.pem')}`);
  const file = join(folder, 'nginx.conf');
  const log = join(folder, 'error.log');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(folder, name)};`,
  );
  const listening = [
    `listen 127.0.0.1:${port} ssl;`,
    `ssl_certificate ${server.path('svid.pem')};`,
    `ssl_certificate_key ${server.path('svid.key')};`,
    `ssl_trusted_certificate ${chain};`,
    'ssl_session_cache off; ssl_session_tickets off;',
    'location / { return 200 "welcome"; }',
  ];
  writeFileSync(
    file,
    `daemon off; master_process off; pid ${join(folder, 'pid')}; error_log ${log} info; events {}
     http { access_log off; ${temporary.join(' ')} server { ${[...listening, ...directives].join(' ')} } }`,
  );
  const running = start(['/usr/sbin/nginx', '-c', file, '-e', log]);
  const errors = (): string => readFileSync(log, 'utf8');
  await eventually(() =>
    runTool('openssl', 's_client', '-connect', `127.0.0.1:${port}`, '-brief').output.includes('TLS'),
  );
  return { port, running, errors };
}

/** What the server staples, as a client of OpenSSL that verifies it sees it. */
function stapled(port: number): string {
  const trust = ['-CAfile', server.path('bundle.pem'), '-status', '-servername', 'server'];
  return runTool('openssl', 's_client', '-connect', `127.0.0.1:${port}`, ...trust).output;
}

/** Status of a request with a workload's certificate. */
async function statusFor(port: number, workload: Workload): Promise<number | undefined> {
  const asked = request({
    ...{ host: '127.0.0.1', port, agent: false, checkServerIdentity: () => undefined },
    ...{ ca: workload.read('bundle.pem'), cert: workload.read('svid.pem'), key: workload.read('svid.key') },
  }).end();
  const [response] = (await once(asked, 'response')) as [{ statusCode?: number; resume(): void }];
  response.resume();
  return response.statusCode;
}

describe('nginx', () => {
  it('staples an answer that it has verified, with the URL from the certificate', async () => {
    const { port, running } = await nginx('ssl_stapling on; ssl_stapling_verify on;');
    const text = await eventually(() => {
      const output = stapled(port);
      return output.includes('OCSP Response Status: successful') && output;
    });
    expect(text).toMatch(/Cert Status: good/);
    expect(text).toMatch(/Verify return code: 0/);
    await running.end();
  });

  it('asks about its clients, and refuses the revoked', async () => {
    const trust = `ssl_verify_client on; ssl_verify_depth 2; ssl_client_certificate ${server.path('bundle.pem')};`;
    const { port, running, errors } = await nginx(trust, 'ssl_ocsp leaf;');
    expect(await statusFor(port, client), errors()).toBe(200);
    expect(await statusFor(port, ended), errors()).toBe(200);
    (await authority.vouch('revoke', '--serial', ended.serial, '--reason', 'keyCompromise')).json();
    expect(await statusFor(port, ended)).toBe(400);
    expect(errors()).toMatch(/certificate status "revoked"|revoked/);
    expect(await statusFor(port, client)).toBe(200);
    await running.end();
  });
});

describe('Java', () => {
  it('asks by OCSP alone, with the URL from the certificate or its own', async () => {
    (await authority.vouch('revoke', '--serial', ended.serial, '--reason', 'keyCompromise')).json();
    const program = join(import.meta.dirname, 'java/AskOcsp.java');
    const chains = [client, ended].map((workload) => workload.path('svid.pem'));
    for (const responder of ['-', `${authority.server.ready.publicationUrl}/ocsp`]) {
      const asked = start([
        'java',
        '-XX:TieredStopAtLevel=1',
        program,
        client.path('bundle.pem'),
        responder,
        ...chains,
      ]);
      const { stdout, stderr } = await asked.ended();
      expect(stdout.trim().split('\n'), stderr).toEqual(['good', 'revoked KEY_COMPROMISE']);
    }
  });
});
