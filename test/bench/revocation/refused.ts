import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { freePort } from '../../../src/http/free-port.ts';
import { placeProxy, type ProxyName, sbin } from '../../support/proxy.ts';
import { type Target, TlsPeer, ways } from '../../support/tls-peer.ts';
import { type Bed, dist, eventually, type Started } from './bed.ts';

const billing = resolve(import.meta.dirname, '../../../examples/billing/main.mjs');
const vouch = [process.execPath, join(dist, 'vouch.js')];

/** Milliseconds from the operator's request until a peer was refused on new, resumed and open connections, all in one list. */
export async function measureRefusals(bed: Bed, target: Target, rounds: number): Promise<number[]> {
  const measured: number[] = [];
  const victims = await bed.enroll('caller', rounds);
  for (const victim of victims) {
    const peer = new TlsPeer(victim, target);
    const refusal = await peer.ask();
    if (refusal !== undefined) throw new Error(`a good peer was refused: ${refusal}`);
    const stayed = await peer.stay();
    await stayed.request();
    const { startMs, answered } = bed.revoke(victim.serial);
    const refusals = await peer.refusals(stayed, startMs, 60_000);
    await answered;
    measured.push(...ways.map((way) => refusals[way]));
  }
  return measured;
}

/** A service that uses `vouch/client`, under `vouch exec`. */
export async function startClientService(
  bed: Bed,
): Promise<{ target: Target; dir: string; service: Started }> {
  const dir = bed.folder('billing');
  const keeping = ['exec', '--join-file', await bed.join('billing'), '--out', dir];
  const service = bed.start([...vouch, ...keeping, '--', process.execPath, billing]);
  const port = await service.until((output) => {
    const found = /"url":"https:\/\/127\.0\.0\.1:(\d+)"/.exec(output)?.[1];
    return found === undefined ? undefined : Number(found);
  }, 300_000);
  return { target: { host: '127.0.0.1', port }, dir, service };
}

/** nginx or haproxy as delivered, under `vouch exec`, before a service of this process. */
export async function startProxy(
  bed: Bed,
  name: ProxyName,
): Promise<{ target: Target; end: () => Promise<void> }> {
  const service = createServer((_request, response) => response.end('served'));
  await new Promise<void>((done) => service.listen(0, '127.0.0.1', done));
  const target = { host: '127.0.0.1', port: await freePort('127.0.0.1') };
  const servicePort = (service.address() as AddressInfo).port;
  const place = { etc: bed.folder(name), run: bed.folder('run'), joinFile: await bed.join(name) };
  const script = placeProxy(name, { ...place, vouch, servicePort, port: target.port });
  const started = bed.start(['sh', '-c', script], sbin);
  const [probe] = await bed.enroll('probe', 1);
  const good = probe && new TlsPeer(probe, target);
  await started.until(() => true);
  await eventually(async () => (await good?.ask()) === undefined, 60_000);
  return {
    target,
    end: async () => {
      await started.end();
      service.close();
    },
  };
}

/**
 * The same for `openssl s_client` with the files that an agent keeps in `dir`: a server shows the certificate, and each
 * attempt is a process of its own.
 */
export async function measureOpenssl(bed: Bed, dir: string, rounds: number): Promise<number[]> {
  const measured: number[] = [];
  for (const victim of await bed.enroll('server', rounds)) {
    const server = createTlsServer(victim, (socket) => socket.on('error', () => undefined).end());
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as AddressInfo;
    const refusal = await verifyWithOpenssl(dir, port);
    if (refusal !== undefined) throw new Error(`openssl refuses a good server: ${refusal}`);
    const { startMs, answered } = bed.revoke(victim.serial);
    await eventually(async () => (await verifyWithOpenssl(dir, port)) !== undefined, 60_000);
    measured.push(performance.now() - startMs);
    await answered;
    server.close();
  }
  return measured;
}

/** Why `openssl s_client` turns away, or undefined. Its `-CRL` takes one CRL; the file of CAs may hold them all. */
function verifyWithOpenssl(dir: string, port: number): Promise<string | undefined> {
  const trust = join(dir, 'trust.pem');
  const read = (name: string): string => readFileSync(join(dir, 'current', name), 'utf8');
  writeFileSync(trust, read('bundle.pem') + read('crl.pem'));
  const checks = ['-CAfile', trust, '-crl_check_all', '-verify_return_error', '-brief'];
  return new Promise((done) => {
    const child = execFile('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...checks], (error) =>
      done(error ? error.message : undefined),
    );
    child.stdin?.end();
  });
}
