import {
  chmodSync,
  chownSync,
  existsSync,
  readFileSync,
  renameSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { runCommand } from '../../src/agent/deliver/command.ts';
import { signalContainer } from '../../src/agent/deliver/container.ts';
import { eventually, type Running, start } from '../support/running.ts';
import { Stage, unusedUids } from '../support/users.ts';
import { runTool } from '../x509/oracle-tools.ts';
import { temporaryFolder } from './support/harness.ts';
import { deliverTo, FakeServed } from './support/served.ts';

const [stranger = 0] = unusedUids(1);
const handler = `process.on('SIGHUP', () => console.log('HUP')); console.log('up'); setInterval(() => {}, 1000);`;

/** A folder with a running service that tells of each HUP, its pid file, and a target beside. */
async function service(reload: object = {}, run = start) {
  const folder = temporaryFolder();
  const pidFile = join(folder, 'pid');
  const begin = async (script = handler): Promise<Running> => {
    const running = run([process.execPath, '-e', script]);
    await running.until(({ stdout }) => stdout.includes('up'));
    writeFileSync(pidFile, `${running.pid}\n`);
    return running;
  };
  const dir = join(folder, 'out');
  const target = deliverTo({ dir, reload: { pidFile, ...reload } });
  const hups = (running: Running): number => running.stdout.match(/HUP/g)?.length ?? 0;
  return { folder, dir, pidFile, begin, hups, ...target };
}

describe('a signal', () => {
  test('is sent after another certificate and other CRLs to the process that the pid file names then', async () => {
    const { begin, deliver, hups, settled } = await service();
    const fake = new FakeServed();
    const svid = fake.svid();
    const one = await begin();
    deliver.take(fake.served([svid]));
    await one.until(() => hups(one) === 1);
    const unchanged = fake.served([svid]);
    deliver.take(unchanged);
    await one.until(() => hups(one) === 2);
    await settled();
    deliver.take({ ...unchanged });
    const other = await begin();
    deliver.take(fake.served());
    await other.until(() => hups(other) === 1);
    const { reload } = await settled();
    expect(reload).toEqual({ lastSuccess: expect.any(String) });
    expect(hups(one)).toBe(2);
  });

  test('is sent after another certificate alone where the configuration says so', async () => {
    const { begin, deliver, hups, settled } = await service({ on: ['certificate'] });
    const fake = new FakeServed();
    const svid = fake.svid();
    const one = await begin();
    for (const served of [fake.served([svid]), fake.served([svid]), fake.served()]) {
      deliver.take(served);
      await settled();
    }
    await one.until(() => hups(one) === 2);
  });

  test('waits for the service and its handler, and says so once', async () => {
    const { begin, deliver, hups, failed, notices, pidFile } = await service();
    deliver.take(new FakeServed().served());
    expect(await failed('reload')).toBe(`${pidFile} is not there`);
    const later = handler
      .replace("process.on('SIGHUP'", "process.on('SIGUSR2', () => process.on('SIGHUP'")
      .replace('; console', '); console');
    const one = await begin(later);
    await eventually(() => notices.find((line) => line.endsWith('does not handle SIGHUP yet; trying again')));
    one.signal('SIGUSR2');
    await one.until(() => hups(one) === 1);
    await eventually(() =>
      notices.find(
        (line) => line.startsWith('reload after') && line.includes('succeeded again; it had failed'),
      ),
    );
    expect(new Set(notices).size).toBe(notices.length);
  });

  test('never reaches a stranger who has the number of a service that has ended', async () => {
    const { begin, deliver, hups, failed, pidFile } = await service();
    const one = await begin();
    const before = Date.now() / 1000 - 60;
    utimesSync(pidFile, before, before);
    deliver.take(new FakeServed().served());
    expect(await failed('reload')).toMatch(
      `${pidFile} is older than process ${one.pid}, which must be another`,
    );
    expect(hups(one)).toBe(0);
  });

  test.each([
    [
      'belongs to somebody else',
      /belongs to uid \d+ and names process \d+ of uid 0/,
      (file: string) => chownSync(file, stranger, stranger),
    ],
    ['can be written by others', /can be written by others/, (file: string) => chmodSync(file, 0o666)],
    [
      'is a link to another',
      /is a symbolic link/,
      (file: string) => {
        renameSync(file, `${file}.real`);
        symlinkSync(`${file}.real`, file);
      },
    ],
    [
      'is a pipe',
      /is not a file/,
      (file: string) => {
        renameSync(file, `${file}.real`);
        runTool('mkfifo', file);
      },
    ],
    ['is no number', /holds no process number/, (file: string) => writeFileSync(file, '-1\n')],
    ['names us', /holds no process number/, (file: string) => writeFileSync(file, `${process.pid}\n`)],
    [
      'names nobody',
      /names process 4194999, which does not run/,
      (file: string) => writeFileSync(file, '4194999'),
    ],
  ])('is not sent by a pid file that %s', async (_what, said, change) => {
    const { begin, deliver, hups, failed, pidFile } = await service();
    const one = await begin();
    change(pidFile);
    deliver.take(new FakeServed().served());
    expect(await failed('reload')).toMatch(said);
    expect(hups(one)).toBe(0);
  });

  test('is sent to a service of another user by a pid file of that user', async () => {
    const stage = new Stage(temporaryFolder());
    const node = stage.vouch()[0] ?? '';
    const run = ([, ...args]: readonly string[]): Running =>
      stage.as({ uid: stranger, groups: [] }, [node, ...args]);
    const { begin, deliver, hups, pidFile } = await service({}, run);
    const one = await begin();
    chownSync(pidFile, stranger, stranger);
    deliver.take(new FakeServed().served());
    await one.until(() => hups(one) === 1);
  });
});

describe('a command', () => {
  const script = (folder: string, text: string): string => {
    const file = join(folder, 'reload');
    writeFileSync(file, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    return file;
  };

  test('gets its arguments as they are, the folder and what changed', async () => {
    const folder = temporaryFolder();
    const log = join(folder, 'log');
    const file = script(folder, `echo "$1|$VOUCH_DIR|$VOUCH_CHANGE" >> ${log}`);
    const dir = join(folder, 'out');
    const { deliver, settled } = deliverTo({ dir, reload: { command: [file, `$(touch ${folder}/x); *`] } });
    const fake = new FakeServed();
    const svid = fake.svid();
    for (let times = 0; times < 2; times += 1) {
      deliver.take(fake.served([svid]));
      await settled();
    }
    const said = ['certificate', 'crl'].map((change) => `$(touch ${folder}/x); *|${dir}|${change}\n`);
    expect(readFileSync(log, 'utf8')).toBe(said.join(''));
  });

  test('that fails is run again until it succeeds; the log has the end of what it wrote, once', async () => {
    const folder = temporaryFolder();
    const ok = join(folder, 'ok');
    const fails = `head -c 100000 /dev/zero | tr '\\0' x; printf 'last\\n\\033[31mline' >&2; exit 3`;
    const file = script(folder, `test -e ${ok} || { echo again >> ${ok}.log; ${fails}; }`);
    const { deliver, settled, failed, notices, status } = deliverTo({
      dir: join(folder, 'out'),
      reload: { command: [file] },
    });
    deliver.take(new FakeServed().served());
    const problem = await failed('reload');
    expect(problem).toMatch(/^exit code 3: x+last \[31mline$/);
    expect(problem.length).toBeLessThan(600);
    await eventually(
      () => existsSync(`${ok}.log`) && readFileSync(`${ok}.log`, 'utf8').length > 'again\n'.length * 2,
    );
    expect(status().reload?.waitingSince).toBeDefined();
    writeFileSync(ok, '');
    const { reload } = await settled();
    expect(reload).toEqual({
      lastSuccess: expect.any(String),
      lastFailure: { at: expect.any(String), problem },
    });
    expect(notices.filter((line) => line.includes('exit code 3'))).toHaveLength(1);
  });

  test('that never ends is ended, with all that it started', async () => {
    const options = { env: {}, limitMs: 200, signal: new AbortController().signal, output: 'kept' } as const;
    const said = await runCommand(['sh', '-c', `trap '' TERM; echo started; sleep 1000; true`], options);
    expect(said).toBe('it took longer than 0.2 s: started');
  });

  test('that is not there fails', async () => {
    const { deliver, failed } = deliverTo({ dir: temporaryFolder(), reload: { command: ['/nowhere/x'] } });
    deliver.take(new FakeServed().served());
    expect(await failed('reload')).toBe('spawn /nowhere/x ENOENT');
  });

  test('is run for changes together that come faster than every 200 ms', async () => {
    const folder = temporaryFolder();
    const log = join(folder, 'log');
    const command = [script(folder, `date +%s%N >> ${log}`)];
    const { deliver, settled } = deliverTo({ dir: join(folder, 'out'), reload: { command } });
    const fake = new FakeServed();
    for (let times = 0; times < 12; times += 1) {
      deliver.take(fake.served());
      await eventually(() => deliver.status()[0]?.files.waitingSince === undefined);
    }
    await settled();
    const runs = readFileSync(log, 'utf8')
      .trim()
      .split('\n')
      .map((line) => Number(line) / 1e6);
    expect(runs.length).toBeLessThan(12);
    for (const [index, at] of runs.slice(1).entries()) expect(at - (runs[index] ?? 0)).toBeGreaterThan(195);
  });

  test('that an agent did not come to run is run by the next one, and by none after that', async () => {
    const folder = temporaryFolder();
    const [dir, log] = [join(folder, 'out'), join(folder, 'log')];
    const served = new FakeServed().served();
    const broken = deliverTo({ dir, reload: { command: ['/nowhere/x'] } });
    broken.deliver.take(served);
    await broken.failed('reload');
    await broken.deliver.close();
    const command = [script(folder, `echo run >> ${log}`)];
    for (let times = 0; times < 3; times += 1) {
      const { deliver, settled } = deliverTo({ dir, reload: { command } });
      deliver.take(served);
      await settled();
      await deliver.close();
    }
    expect(readFileSync(log, 'utf8')).toBe('run\n');
  });
});

describe('a container', () => {
  async function engine(answer: RequestListener) {
    const folder = temporaryFolder();
    const socket = join(folder, 'engine.sock');
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      answer(request, response);
    });
    server.listen(socket);
    await once(server, 'listening');
    onTestFinished(() => server.close().closeAllConnections());
    return { folder, socket, asked };
  }

  test('gets the signal through its engine', async () => {
    const { folder, socket, asked } = await engine((_, response) => response.writeHead(204).end());
    const reload = { container: 'web_1', signal: 'USR1', engine: socket };
    const { deliver, settled } = deliverTo({ dir: join(folder, 'out'), reload });
    deliver.take(new FakeServed().served());
    await settled();
    expect(asked).toEqual(['POST /containers/web_1/kill?signal=SIGUSR1']);
  });

  const signalled = (socket: string, over = AbortSignal.timeout(10_000)) =>
    signalContainer({ container: 'web', signal: 'SIGHUP', engine: socket }, over);

  test('that does not run is a failure in the engine’s words', async () => {
    const { socket } = await engine((_, response) =>
      response.writeHead(409).end(JSON.stringify({ message: 'container web is\n not running' })),
    );
    expect(await signalled(socket)).toBe('the container engine answers 409: container web is not running');
  });

  test('whose engine answers without end, without a word or not at all is a failure in time', async () => {
    const endless = await engine((_, response) => {
      response.writeHead(500);
      const more = (): void => void (response.destroyed || response.write('x'.repeat(10_000), more));
      more();
    });
    expect(await signalled(endless.socket, AbortSignal.timeout(300))).toMatch(/takes too long$/);
    const silent = await engine(() => undefined);
    expect(await signalled(silent.socket, AbortSignal.timeout(300))).toMatch(/takes too long$/);
    expect(await signalled('/nowhere/engine.sock')).toBe('/nowhere/engine.sock does not answer: ENOENT');
  });
});
