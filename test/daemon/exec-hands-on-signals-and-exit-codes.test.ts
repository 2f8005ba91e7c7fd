import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, startVouch, vouchEntry } from '../support/daemon.ts';
import { eventually, type Running, start } from '../support/running.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

/** `vouch exec` of a Node script, with a join file and a folder of its own. */
async function exec(script: string, ...flags: readonly string[]): Promise<{ running: Running; dir: string }> {
  const { path } = await authority.join('exec');
  const dir = authority.path('exec');
  const command = ['exec', '--join-file', path, '--out', dir, ...flags, '--', process.execPath, '-e', script];
  return { running: startVouch(command), dir };
}

it('the workload starts when its files are there, told where by VOUCH_DIR, and its exit code is ours', async () => {
  const { running, dir } = await exec(`
    const { X509Certificate } = require('node:crypto');
    const read = (name) => require('node:fs').readFileSync(process.env.VOUCH_DIR + '/current/' + name, 'utf8');
    const certificate = new X509Certificate(read('svid.pem'));
    console.log(process.env.VOUCH_DIR, certificate.subjectAltName, read('crl.pem').split('BEGIN').length - 1);
    process.exit(42);`);
  const ran = await running.ended();
  expect(ran.code).toBe(42);
  expect(ran.stdout).toBe(`${dir} URI:${authority.id('exec')} 2\n`);
});

it.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGQUIT'] as const)(
  '%s reaches the workload',
  async (signal) => {
    const { running } = await exec(`
    process.on('${signal}', () => { console.log('got ${signal}'); process.exit(7); });
    setInterval(() => {}, 1000); console.log('up');`);
    await running.until(({ stdout }) => stdout.includes('up'));
    running.signal(signal);
    const ran = await running.ended();
    expect(ran.stdout).toContain(`got ${signal}`);
    expect(ran.code).toBe(7);
  },
);

describe('exit codes', () => {
  it('128 + n where signal n ended the workload', async () => {
    const { running } = await exec(`process.kill(process.pid, 'SIGKILL')`);
    expect((await running.ended()).code).toBe(137);
    const unhandled = await exec(`setInterval(() => {}, 1000); console.log('up')`);
    await unhandled.running.until(({ stdout }) => stdout.includes('up'));
    unhandled.running.signal('SIGTERM');
    expect((await unhandled.running.ended()).code).toBe(143);
  });

  it('the workload’s, as soon as it has ended, whatever is still pending in ours', async () => {
    const { path } = await authority.join('exec');
    const pending = ['--import', 'data:text/javascript,setInterval(() => {}, 1000)'];
    const flags = ['--join-file', path, '--out', authority.path('exec')];
    const exec = [vouchEntry, 'exec', ...flags, '--', 'sh', '-c', 'exit 7'];
    const running = start([process.execPath, ...pending, ...exec]);
    await eventually(() => running.code !== undefined);
    expect(running.code).toBe(7);
  });

  it.each([
    ['nothing of that name', () => '/nowhere/at/all', 127],
    ['what cannot be run', (joinFile: string) => joinFile, 126],
  ])('%s', async (_name, commandFor, code) => {
    const { path } = await authority.join('exec');
    const command = commandFor(path);
    const flags = ['--join-file', path, '--out', authority.path('exec')];
    const ran = await startVouch(['exec', ...flags, '--', command]).ended();
    expect(ran.code).toBe(code);
    expect(ran.stderr).toContain(command);
  });

  it('a signal that comes before there is a certificate ends the start', async () => {
    const { path } = await authority.join('exec');
    await authority.server.end();
    const running = startVouch([
      'exec',
      '--join-file',
      path,
      '--out',
      authority.path('exec'),
      '--',
      'echo',
      'ran',
    ]);
    await running.until(({ stderr }) => stderr.includes('trying again'));
    running.signal('SIGTERM');
    const ran = await running.ended();
    expect(ran.code).toBe(143);
    expect(ran.stdout).toBe('');
    await authority.start();
  });
});
