import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import tls from 'node:tls';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, joinContent, writeJoin } from '../support/daemon.ts';
import { type Ran, start } from '../support/running.ts';
import { runTool } from '../x509/oracle-tools.ts';

const script = resolve(import.meta.dirname, '../../scripts/enroll.sh');
/** Shells that are no bash: what they run, POSIX has. */
const shells = [['dash'], ['busybox', 'sh']];

let authority: Authority;
beforeAll(async () => {
  authority = await bootAuthority();
});

function enroll(joinFile: string, out: string, shell = shells[0] ?? [], ...more: string[]): Promise<Ran> {
  return start([...shell, script, '--join-file', joinFile, '--out', out, ...more]).ended();
}

const serialIn = (out: string): string =>
  runTool('openssl', 'x509', '-in', join(out, 'current/svid.pem'), '-noout', '-serial').output;

describe.each(shells.map((shell) => ({ name: shell.join(' '), shell })))(
  'enroll.sh by $name',
  ({ shell }) => {
    it('enrolls, and at the next run renews with a fresh key', async () => {
      const { path } = await authority.join('plain');
      const out = authority.path('out');
      const first = await enroll(path, out, shell);
      expect({ ...first }).toMatchObject({ code: 0, stderr: '' });
      expect(first.stdout).toContain(`${authority.id('plain')} in ${out}/current, valid until `);
      const folder = realpathSync(join(out, 'current'));
      expect(readdirSync(folder).toSorted()).toEqual(['bundle.pem', 'crl.pem', 'svid.key', 'svid.pem']);
      expect(readdirSync(out).filter((name) => name.startsWith('.'))).toEqual([]);
      const [key, serial] = [readFileSync(join(folder, 'svid.key'), 'utf8'), serialIn(out)];
      expect({ ...(await enroll(path, out, shell)) }).toMatchObject({ code: 0, stderr: '' });
      expect(serialIn(out)).not.toBe(serial);
      expect(readFileSync(join(out, 'current/svid.key'), 'utf8')).not.toBe(key);
      const ours = await authority.vouch('explain', serialIn(out).trim().replace('serial=', ''));
      expect(ours.code).toBe(0);
    });

    it('shows its token nowhere', async () => {
      const { path } = await authority.join('quiet');
      const { token } = joinContent(path);
      const trace = authority.path('trace');
      const out = authority.path('out');
      const command = ['strace', '-f', '-s', '4096', '-e', 'trace=execve', '-o', trace, ...shell, script];
      const ran = await start([...command, '--join-file', path, '--out', out]).ended();
      expect(ran.code).toBe(0);
      expect(readFileSync(trace, 'utf8')).toContain('execve');
      expect(ran.stdout + ran.stderr + readFileSync(trace, 'utf8')).not.toContain(token);
    });
  },
);

describe('enroll.sh refuses, without having sent the token,', () => {
  const refused = async (change: Record<string, unknown>): Promise<Ran> => {
    const { path } = await authority.join('victim');
    writeJoin(path, { ...joinContent(path), ...change });
    const out = authority.path('out');
    const ran = await enroll(path, out, undefined, '--timeout', '2');
    expect(existsSync(join(out, 'current'))).toBe(false);
    return ran;
  };

  it('another root than the pinned one', async () => {
    const ran = await refused({ pin: `sha256:${'0'.repeat(64)}` });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/does not show the root that the pin names.*No secret was sent/);
  });

  it('another trust domain', async () => {
    const ran = await refused({ trustDomain: 'other.example' });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/a workload poses as the server/);
  });

  it('a workload that poses as the server', async () => {
    const workload = await authority.enroll('poser', '--ip', '127.0.0.1', '--dns', 'localhost');
    const heard: Buffer[] = [];
    const cert = workload.read('svid.pem') + readFileSync(workload.path('bundle.pem'), 'utf8');
    const server = tls.createServer({ cert, key: workload.read('svid.key') }, (socket) => {
      socket.on('data', (data: Buffer) => heard.push(data)).on('error', () => undefined);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const ran = await refused({ server: `https://127.0.0.1:${(server.address() as { port: number }).port}` });
    server.close();
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/a workload poses as the server.*No secret was sent/);
    expect(heard).toEqual([]);
  });
});

describe('enroll.sh says what to do', () => {
  it('where others can read the join file', async () => {
    const { path } = await authority.join('open');
    chmodSync(path, 0o640);
    const ran = await enroll(path, authority.path('out'));
    expect(ran).toMatchObject({ code: 78, stderr: expect.stringMatching(/chmod 600/) as unknown });
  });

  it('where the token is used up, or the certificate revoked', async () => {
    const { path } = await authority.join('twice');
    const out = authority.path('out');
    expect((await enroll(path, out)).code).toBe(0);
    expect(await enroll(path, authority.path('out'))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/used up/) as unknown,
    });
    (await authority.vouch('revoke', '--id', authority.id('twice'), '--reason', 'superseded')).json();
    const before = serialIn(out);
    expect(await enroll(path, out)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/revoked/) as unknown,
    });
    expect(serialIn(out)).toBe(before);
  });

  it('where the server is away: 75, and the key stays for the next try', async () => {
    const { path } = await authority.join('away');
    const content = joinContent(path);
    writeJoin(path, { ...content, server: 'https://127.0.0.1:1' });
    const out = authority.path('out');
    expect(await enroll(path, out, undefined, '--timeout', '0')).toMatchObject({
      code: 75,
      stderr: expect.stringMatching(/does not answer; gave up/) as unknown,
    });
    writeJoin(path, content);
    expect((await enroll(path, out)).code).toBe(0);
  });
});
