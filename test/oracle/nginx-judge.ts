import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { eventually, start } from '../support/running.ts';
import type { Judge } from './verifiers.ts';

/** An nginx that checks a client's certificate by one file with all the CRLs, as its `ssl_crl` takes them. */
export const nginx: Judge = async (folder) => {
  const at = (name: string) => join(folder, name);
  const running = start(nginxCommand(folder));
  // The socket stands in the folder a moment before nginx listens on it.
  await eventually(() => running.code === undefined && takesConnections(at('socket')));
  const [cert, key] = ['chain.pem', 'key.pem'].map((name) => readFileSync(at(name), 'utf8'));
  const socket = tls.connect({ path: at('socket'), cert, key, rejectUnauthorized: false });
  let said = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => (said += chunk));
  socket.write('GET / HTTP/1.0\r\n\r\n');
  await once(socket, 'close');
  await running.end();
  const verdict = said.split('\r\n\r\n')[1] ?? '';
  return verdict === 'SUCCESS' ? 'good' : verdict.replace('FAILED:certificate revoked', 'revoked');
};

async function takesConnections(path: string): Promise<boolean> {
  const socket = connect(path);
  const isOpen = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  return isOpen;
}

/** Writes its configuration; gives the command that starts it. */
export function nginxCommand(folder: string): string[] {
  const file = join(folder, 'nginx.conf');
  writeFileSync(file, configuration(folder));
  return ['/usr/sbin/nginx', '-p', folder, '-c', file, '-e', 'stderr'];
}

/** One process, for nobody but who can reach the folder; it answers with what it thinks of the client's certificate. */
function configuration(folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `daemon off; master_process off; pid ${folder}/nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
  server {
    listen unix:${folder}/socket ssl;
    ssl_certificate ${folder}/chain.pem;
    ssl_certificate_key ${folder}/key.pem;
    ssl_client_certificate ${folder}/root.pem;
    ssl_verify_depth 2;
    ssl_verify_client optional;
    ssl_crl ${folder}/crls.pem;
    error_page 495 = @said;
    location / { return 200 $ssl_client_verify; }
    location @said { return 200 $ssl_client_verify; }
  }
}
`;
}
