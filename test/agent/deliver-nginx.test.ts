import { readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { eventually, start } from '../support/running.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { temporaryFolder } from './support/harness.ts';
import { deliverTo, FakeServed } from './support/served.ts';

const rotations = 8;

function configuration(folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `daemon off; pid ${folder}/nginx.pid; error_log stderr; user root; worker_processes 1;
events {}
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
  server {
    listen unix:${folder}/socket ssl;
    ssl_certificate ${folder}/vouch/current/svid.pem;
    ssl_certificate_key ${folder}/vouch/current/svid.key;
    location / { return 200 ok; }
  }
}
`;
}

test('nginx takes each rotation by a reload, and no handshake fails meanwhile', async () => {
  const folder = temporaryFolder();
  const fake = new FakeServed();
  const dir = join(folder, 'vouch');
  const pidFile = join(folder, 'nginx.pid');
  const { deliver, status } = deliverTo({ dir, reload: { signal: 'HUP', pidFile } });
  let svid = fake.svid();
  deliver.take(fake.served([svid]));
  await eventually(() => status().serial === svid.serial);
  writeFileSync(join(folder, 'nginx.conf'), configuration(folder));
  start(['/usr/sbin/nginx', '-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr']);
  await eventually(async () => (await serialShown(folder, fake).catch(() => '')) === svid.serial);

  let isOver = false;
  let handshakes = 0;
  const failures: unknown[] = [];
  const hammer = async (): Promise<void> => {
    while (!isOver) {
      await serialShown(folder, fake).then(
        () => (handshakes += 1),
        (error: unknown) => failures.push(error),
      );
    }
  };
  const hammers = [hammer(), hammer()];
  for (let times = 0; times < rotations; times += 1) {
    svid = fake.svid();
    deliver.take(fake.served([svid]));
    await eventually(async () => (await serialShown(folder, fake)) === svid.serial);
  }
  isOver = true;
  await Promise.all(hammers);
  expect(failures).toEqual([]);
  expect(handshakes).toBeGreaterThan(rotations * 10);
  expect(readFileSync(pidFile, 'utf8').trim()).toMatch(/^\d+$/);
}, 60_000);

/** Serial of the certificate that nginx shows to a new connection and proves by a whole handshake and an answer. */
async function serialShown(folder: string, fake: FakeServed): Promise<string> {
  const ca = encodePem('CERTIFICATE', fake.authority.root.der);
  const socket = tls.connect({ path: join(folder, 'socket'), ca, servername: 'localhost' });
  let said = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => (said += chunk));
  socket.write('GET / HTTP/1.0\r\n\r\n');
  await once(socket, 'secureConnect');
  const serial = socket.getPeerX509Certificate()?.serialNumber.toLowerCase() ?? '';
  await once(socket, 'close');
  if (!said.endsWith('ok')) throw new Error(`no answer: ${said}`);
  return serial;
}
