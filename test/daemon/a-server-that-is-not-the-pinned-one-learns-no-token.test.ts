import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import tls from 'node:tls';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, joinContent, writeJoin } from '../support/daemon.ts';

let ours: Authority;
let theirs: Authority;

beforeAll(async () => {
  [ours, theirs] = await Promise.all([bootAuthority(), bootAuthority()]);
});

/** Enrolls with a changed join file; what the agent said. */
async function enrollWith(change: Record<string, unknown>) {
  const { path } = await ours.join('victim');
  const { token } = joinContent(path);
  writeJoin(path, { ...joinContent(path), ...change });
  const ran = await ours.vouch('enroll', '--join-file', path, '--out', ours.path('out'), '--timeout', '2');
  expect(ran.stdout + ran.stderr).not.toContain(token);
  return ran;
}

it('a wrong pin', async () => {
  const ran = await enrollWith({ pin: `sha256:${'0'.repeat(64)}` });
  expect(ran.code).toBe(1);
  expect(ran.problem).toMatchObject({
    code: 'denied-server',
    detail: expect.stringMatching(/does not show the root that the pin names.*No secret was sent/) as unknown,
  });
});

it('another authority of the same trust domain at our URL', async () => {
  const ran = await enrollWith({ server: theirs.server.ready.enrollmentUrl });
  expect(ran.code).toBe(1);
  expect(ran.problem.code).toBe('denied-server');
  expect(theirs.server.log().filter((line) => line.route === '/v1/enroll')).toEqual([]);
});

it('their pin with our token: their server is believed, and does not know the token', async () => {
  const { path } = await theirs.join('x');
  const { pin, server } = joinContent(path);
  const ran = await enrollWith({ pin, server });
  expect(ran.problem.code).toBe('denied-evidence');
});

it('another trust domain than the pinned root’s', async () => {
  const ran = await enrollWith({ trustDomain: 'other.example' });
  expect(ran.code).toBe(1);
  expect(ran.problem.code).toBe('denied-server');
});

/** A TLS server with what one workload was delivered; what clients sent once they trusted it. */
async function impostor(certificate: string, key: string) {
  const heard: Buffer[] = [];
  const server = tls.createServer(
    { cert: certificate, key, minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: false },
    (socket) => {
      socket.on('data', (data: Buffer) => heard.push(data));
      socket.on('error', () => undefined);
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  return { heard, url: `https://127.0.0.1:${port}`, close: () => server.close() };
}

it('a workload with our host’s name and address in its certificate, posing as the server', async () => {
  const workload = await ours.enroll('poser', '--ip', '127.0.0.1', '--dns', 'localhost');
  const root = readFileSync(workload.path('bundle.pem'), 'utf8');
  const fake = await impostor(workload.read('svid.pem') + root, workload.read('svid.key'));
  const ran = await enrollWith({ server: fake.url });
  expect(ran.code).toBe(1);
  expect(ran.problem).toMatchObject({
    code: 'denied-server',
    detail: expect.stringMatching(/a workload poses as the server.*No secret was sent/) as unknown,
  });
  expect(fake.heard).toEqual([]);
  fake.close();
});

it('the control: the server’s own certificate at another port is believed, and hears the request', async () => {
  // It has the address of the authority, not 127.0.0.1: the agent says so before it sends anything.
  const read = (name: string) => readFileSync(join(ours.state, 'server', name), 'utf8');
  const fake = await impostor(read('svid.pem'), read('svid.key'));
  const elsewhere = await enrollWith({ server: fake.url });
  expect(elsewhere.problem).toMatchObject({
    code: 'denied-server',
    detail: expect.stringContaining('use a URL with one of those') as unknown,
  });
  expect(fake.heard).toEqual([]);
  fake.close();
});

it('nobody there: it is tried again until the time is up, and then it is not the operator who must act', async () => {
  const ran = await enrollWith({ server: 'https://127.0.0.1:1' });
  expect(ran.code).toBe(75);
  expect(ran.problem).toMatchObject({
    code: 'unavailable-server',
    detail: expect.stringMatching(
      /cannot be reached \(ECONNREFUSED\).*gave up after \d+ attempts/,
    ) as unknown,
  });
});
