import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { eventually } from './support/bundle.ts';
import { executable, forever, isListed, strangerOf } from './support/executable.ts';
import { problem } from './support/fake-server.ts';
import { startAuthority, writeJoinFile } from './support/harness.ts';

describe('the workload', () => {
  test('gets its files before it starts, and its code is the exit code', async () => {
    const { server } = await startAuthority();
    const one = await executable(server);
    const running = one.exec(`
      const { readFileSync } = require('node:fs');
      console.log(process.env.VOUCH_DIR, readFileSync(process.env.VOUCH_DIR + '/current/svid.pem', 'utf8').length > 100);
      process.exit(42);`);
    expect(await running.exited).toBe(42);
    expect(running.stdout()).toBe(`${one.dir} true\n`);
    expect(running.stderr()).toBe('');
  });

  test('ended by a signal is 128 + n; not there is 127; not a program is 126', async () => {
    const { server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec("process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000)").exited).toBe(
      137,
    );
    expect(await one.execCommand(['/no/such/program']).exited).toBe(127);
    expect(await one.execCommand([one.joinFile]).exited).toBe(126);
    for (const file of [`${one.joinFile}/x`, 'x'.repeat(5000)]) {
      const running = one.execCommand([file]);
      expect(await running.exited).toBe(126);
      expect(running.stderr().slice(file.length)).toMatch(/cannot be started: E[A-Z]+\n$/);
    }
  });

  test('gets the signals that this process gets', async () => {
    const { server } = await startAuthority();
    const running = (await executable(server)).exec(`
      for (const name of ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGINT', 'SIGQUIT', 'SIGWINCH'])
        process.on(name, () => console.log(name));
      process.on('SIGTERM', () => process.exit(7));
      console.log('up'); ${forever}`);
    await running.seen('stdout', /up\n/);
    for (const name of ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGINT', 'SIGQUIT', 'SIGWINCH'] as const) {
      running.child.kill(name);
      await running.seen('stdout', new RegExp(`${name}\n`));
    }
    running.child.kill('SIGTERM');
    expect(await running.exited).toBe(7);
    expect(running.stderr()).not.toContain('Debugger');
  });

  test('a signal before it starts ends the start', async () => {
    const { server } = await startAuthority();
    server.intercept = () => problem(503, 'unavailable-overloaded', 'busy', { 'retry-after': '1' });
    const one = await executable(server);
    const running = one.exec('console.log("started")');
    await running.seen('stderr', /trying again/);
    running.child.kill('SIGTERM');
    expect(await running.exited).toBe(143);
    expect(running.stdout()).toBe('');
  });
});

describe('a restart', () => {
  test('with a used join file starts with the certificate it finds, renewed', async () => {
    const { server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    const first = one.serial();
    expect(await one.exec('').exited).toBe(0);
    expect(one.serial()).not.toBe(first);
    expect(server.requests.filter((path) => path === '/v1/enroll')).toHaveLength(1);
    expect(server.requests.filter((path) => path === '/v1/renew')).toHaveLength(1);
  });

  test('while the server is away starts with what it finds, and without a join file too', async () => {
    const { server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    const first = one.serial();
    const comeBack = await server.goAway();
    rmSync(one.joinFile);
    const running = one.exec('console.log("started")');
    expect(await running.exited).toBe(0);
    expect(running.stdout()).toBe('started\n');
    expect(running.stderr()).toContain('starting with the certificate in');
    expect(one.serial()).toBe(first);
    await comeBack();
  });

  test('while the server is away and no fresh CRL can be had does not start; with --crl allow-stale it does', async () => {
    const { authority, server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    const { issuer } = authority;
    const now = Math.floor(Date.now() / 1000);
    const stale = authority.crl(issuer, {
      crlNumber: 5n,
      thisUpdateSeconds: now - 7200,
      nextUpdateSeconds: now - 3600,
    });
    server.crlInstead = (keyId) => (keyId === issuer.keyId ? { der: stale } : undefined);
    await server.goAway();
    const refused = one.exec('console.log("started")');
    expect(await refused.exited).toBe(1);
    expect(refused.stderr()).toMatch(/ended at .*\[policy-not-fresh\]/);
    expect(refused.stdout()).toBe('');
    const lenient = one.exec('console.log("started")', '--crl', 'allow-stale');
    expect(await lenient.exited).toBe(0);
  });

  test('with a used token and nothing there is exit 78 and says what to do', async () => {
    const { server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    rmSync(one.dir, { recursive: true });
    const running = one.exec('console.log("started")');
    expect(await running.exited).toBe(78);
    expect(running.stderr()).toMatch(/used with another key.*vouch token create/);
    expect(running.stdout()).toBe('');
  });

  test('with a certificate that has expired enrolls again', async () => {
    const { server } = await startAuthority();
    const one = await executable(server);
    server.lifetimeMs = 2000;
    expect(await one.exec('').exited).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    server.lifetimeMs = 3_600_000;
    const used = one.exec('');
    expect(await used.exited).toBe(78);
    writeFileSync(one.joinFile, `${server.joinLine()}\n`);
    expect(await one.exec('').exited).toBe(0);
    expect(Date.parse(new X509Certificate(one.read('svid.pem')).validTo)).toBeGreaterThan(
      Date.now() + 3_000_000,
    );
  });

  test('of a revoked workload does not start, but with a new join file does', async () => {
    const { authority, server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    authority.revoke(
      parseCertificate(decodePem(one.read('svid.pem'), 'CERTIFICATE')[0] ?? Buffer.alloc(0)).serial,
    );
    const refused = one.exec('console.log("started")');
    expect(await refused.exited).toBe(1);
    expect(refused.stderr()).toContain('denied-revoked');
    const comeBack = await server.goAway();
    const alone = one.exec('console.log("started")');
    expect(await alone.exited, 'its CRL says so without the server').toBe(1);
    expect(alone.stderr()).toContain('denied-revoked');
    await comeBack();
    writeFileSync(one.joinFile, `${server.joinLine()}\n`);
    expect(await one.exec('').exited).toBe(0);
  });

  test('that the server refuses as revoked before any CRL says so does not start', async () => {
    const { server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    server.intercept = (kind) =>
      kind === 'renew' ? problem(403, 'denied-revoked', 'the certificate is revoked') : undefined;
    const running = one.exec('console.log("started")');
    expect(await running.exited).toBe(1);
    expect(running.stdout()).toBe('');
  });

  test('with a join file of another authority enrolls there', async () => {
    const { server } = await startAuthority();
    const other = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    writeFileSync(one.joinFile, `${other.server.joinLine()}\n`);
    expect(await one.exec('').exited).toBe(0);
    expect(new X509Certificate(one.read('bundle.pem')).raw.equals(other.authority.root.der)).toBe(true);
  });

  test('with a join file that others can read is exit 78, whatever is there', async () => {
    const { server } = await startAuthority();
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    rmSync(one.joinFile);
    writeJoinFile(one.folder, server.joinLine(), 0o644);
    writeFileSync(one.joinFile, 'x', { mode: 0o644 });
    const running = one.exec('');
    expect(await running.exited).toBe(78);
    expect(running.stderr()).toContain('config-secret-readable');
  });
});

describe('while the workload runs', () => {
  test('certificates are renewed in the window the server names, and the hook runs', async () => {
    const { authority, server } = await startAuthority();
    server.renewal = { earliestSeconds: 1, latestSeconds: 1 };
    const one = await executable(server);
    const running = one.exec(
      `process.on('SIGHUP', () => console.log('HUP')); console.log('up'); ${forever}`,
      '--on-change',
      'signal:HUP',
    );
    await running.seen('stdout', /up\n/);
    const first = one.serial();
    await running.seen('stdout', /HUP\n(?:.|\n)*HUP\n/, 15_000);
    expect(one.serial()).not.toBe(first);
    expect(running.stderr()).toMatch(/renewed: serial 11/);
    server.renewal = { earliestSeconds: 1000, latestSeconds: 1000 };
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const other = strangerOf(authority);
    authority.revoke(other);
    expect(
      await eventually(() => (isListed(one.read('crl.pem'), other) ? true : undefined)),
      'in the newest generation',
    ).toBe(true);
    running.child.kill('SIGTERM');
    expect(await running.exited).toBe(143);
  });

  test('revocations reach crl.pem within the refresh, and exec:CMD runs with what changed', async () => {
    const { authority, server } = await startAuthority();
    const one = await executable(server);
    const log = join(one.folder, 'hook.log');
    const running = one.exec(
      `console.log('up'); ${forever}`,
      '--on-change',
      `exec:echo "$VOUCH_CHANGE $VOUCH_DIR" >> ${log}`,
    );
    await running.seen('stdout', /up\n/);
    const other = strangerOf(authority);
    authority.revoke(other);
    expect(await eventually(() => (isListed(one.read('crl.pem'), other) ? true : undefined))).toBe(true);
    // The shell makes the file before it writes.
    const heard = () => (existsSync(log) && readFileSync(log, 'utf8')) || undefined;
    expect(await eventually(heard)).toBe(`crl ${one.dir}\n`);
    expect(decodePem(one.read('crl.pem'), 'X509 CRL')).toHaveLength(2);
    running.child.kill('SIGTERM');
    await running.exited;
  });

  test('an old CRL, or one of somebody else, does not replace the newer one; it is said once', async () => {
    const { authority, server } = await startAuthority();
    authority.crlNumber = 9n;
    const one = await executable(server);
    const running = one.exec(`console.log('up'); ${forever}`, '--crl-refresh', '0.1');
    await running.seen('stdout', /up\n/);
    const before = one.read('crl.pem');
    authority.crlNumber = 8n;
    await running.seen('stderr', /has number 8, below 9/);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(one.read('crl.pem')).toBe(before);
    expect(running.stderr().match(/has number 8, below 9/g)?.length).toBeLessThanOrEqual(2);
    authority.crlNumber = 10n;
    await running.seen('stderr', /can be had again/);
    await eventually(() => (one.read('crl.pem') === before ? undefined : true));
    expect(one.read('crl.pem')).not.toBe(before);
  });

  test('a hook that fails is reported and tried again', async () => {
    const { authority, server } = await startAuthority();
    const one = await executable(server);
    const marker = join(one.folder, 'marker');
    const running = one.exec(
      `console.log('up'); ${forever}`,
      '--on-change',
      `exec:test -e ${marker} && echo fine || { touch ${marker}; exit 3; }`,
    );
    await running.seen('stdout', /up\n/);
    authority.revoke(strangerOf(authority));
    await running.seen('stderr', /hook failed: exit code 3; trying again/);
    await running.seen('stdout', /fine\n/);
  });

  test('a server that is away does no harm: the workload and its files stay, and it renews when it is back', async () => {
    const { server } = await startAuthority();
    server.renewal = { earliestSeconds: 1, latestSeconds: 1 };
    const one = await executable(server);
    const running = one.exec(`console.log('up'); ${forever}`);
    await running.seen('stdout', /up\n/);
    const comeBack = await server.goAway();
    await running.seen('stderr', /cannot renew: .*ECONNREFUSED.*what is held is valid until 20/);
    const serial = one.serial();
    expect(running.child.exitCode).toBeNull();
    server.renewal = { earliestSeconds: 1000, latestSeconds: 1000 };
    await comeBack();
    await running.seen('stderr', /the server is back/, 20_000);
    expect(one.serial()).not.toBe(serial);
  });

  test.each([
    ['keep', 'it goes on running', 143],
    ['stop', 'it is stopped', 143],
  ])('revoked with --on-revoked %s', async (choice, words, code) => {
    const { authority, server } = await startAuthority();
    const one = await executable(server);
    const running = one.exec(`console.log('up'); ${forever}`, '--on-revoked', choice, '--crl-refresh', '0.2');
    await running.seen('stdout', /up\n/);
    authority.revoke(
      parseCertificate(decodePem(one.read('svid.pem'), 'CERTIFICATE')[0] ?? Buffer.alloc(0)).serial,
    );
    await running.seen('stderr', new RegExp(`REVOKED: our certificate .*${words}`));
    if (choice === 'keep') {
      await new Promise((resolve) => setTimeout(resolve, 600));
      expect(running.child.exitCode).toBeNull();
      expect(running.stderr().match(/REVOKED/g)).toHaveLength(1);
      running.child.kill('SIGTERM');
    }
    expect(await running.exited).toBe(code);
  });

  test('a new join file is picked up within seconds where renewal is refused', async () => {
    const { authority, server } = await startAuthority();
    server.renewal = { earliestSeconds: 2, latestSeconds: 2 };
    const one = await executable(server);
    const running = one.exec(`console.log('up'); ${forever}`);
    await running.seen('stdout', /up\n/);
    const serial = one.serial();
    authority.revoke(
      parseCertificate(decodePem(one.read('svid.pem'), 'CERTIFICATE')[0] ?? Buffer.alloc(0)).serial,
    );
    await running.seen('stderr', /cannot renew: /, 15_000);
    writeFileSync(one.joinFile, `${server.joinLine()}\n`);
    server.renewal = { earliestSeconds: 1000, latestSeconds: 1000 };
    await running.seen('stderr', /enrolling with the new join file/, 5000);
    await running.seen('stderr', /renewed: serial/);
    expect(one.serial()).not.toBe(serial);
  });
});
