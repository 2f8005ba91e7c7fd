import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodePem, encodePem } from '../../src/x509/pem.ts';
import { runVouch, startVouch } from '../support/daemon.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';
import { type Requested, twoMachines, type TwoMachines } from '../support/two-machines.ts';

const key = { key: { use: { label: 'vouch-root' } } };
let machines: TwoMachines;
let requested: Requested & { carried: string };
let result: string;

beforeAll(async () => {
  machines = await twoMachines();
  requested = await machines.request('--next-issuers', '1');
  result = await machines.root.hold({ request: { file: requested.carried } });
}, 60_000);

/** The result with one file changed. */
function changed(name: string, change: (bytes: Buffer) => Buffer): string {
  const copy = machines.root.path('changed');
  cpSync(result, copy, { recursive: true });
  writeFileSync(join(copy, name), change(readFileSync(join(copy, name))));
  return copy;
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

describe('the machine of the root', () => {
  it('refuses a request whose CSR has a broken signature', async () => {
    const { root } = machines;
    const json = JSON.parse(readFileSync(requested.carried, 'utf8')) as { issuers: { csr: string }[] };
    const [first] = json.issuers;
    const der = decodePem(first?.csr ?? '', 'CERTIFICATE REQUEST')[0] ?? Buffer.alloc(0);
    const broken = encodePem('CERTIFICATE REQUEST', flipped(der, der.length - 2));
    const file = root.path('broken.json');
    writeFileSync(
      file,
      readFileSync(requested.carried, 'utf8').replace(JSON.stringify(first?.csr), JSON.stringify(broken)),
    );
    const held = root.file({ request: { file }, root: { key: { use: { label: 'vouch-root' } } } });
    const refused = await root.vouch(['ceremony', '--file', held.file, '--json']);
    expect([refused.code, refused.problem.code]).toEqual([78, 'config-invalid']);
    expect(refused.problem.detail).toContain('not signed with its own key');
  });

  it('refuses a request other than the one whose hash was read out', async () => {
    const { root } = machines;
    const held = root.file({ request: { file: requested.carried, sha256: 'ab'.repeat(32) } });
    const refused = await root.vouch(['ceremony', '--file', held.file, '--json']);
    expect(refused.problem.detail).toContain(requested.sha256);
  });

  it('lists every mistake in the file of a ceremony at once', async () => {
    const { root } = machines;
    const held = root.file({
      request: { file: requested.carried, hash: 'x' },
      operators: [],
      isuers: {},
      root: { key: { use: { ckaId: 12 } } },
    });
    const refused = await root.vouch(['ceremony', '--file', held.file, '--json']);
    for (const path of ['operators', 'isuers', 'request.hash', 'root.key: must be {create: '])
      expect(refused.problem.detail).toContain(path);
  });

  it('refuses a name that would move the cursor where people compare', async () => {
    const { root } = machines;
    const held = root.file({ request: { file: requested.carried }, operators: ['Ada\u001b[8m'] });
    const refused = await root.vouch(['ceremony', '--file', held.file, '--json']);
    expect(refused.problem.detail).toContain('operators.0: must be one printable line');
  });

  it('refuses to date anything by a clock that stands before the request, and asks about one far after it', async () => {
    const { root } = machines;
    const clock = new ShiftedClock(root.path('time'));
    const held = root.file({ request: { file: requested.carried }, root: key });
    const dryRun = ['ceremony', '--file', held.file, '--json'];
    clock.set('-1h');
    const refused = await root.vouch(dryRun, { env: clock.env });
    expect(refused.problem.detail).toMatch(/by the clock of this machine it is .* set the clock/);
    clock.set('+3d');
    const { warnings } = (await root.vouch(dryRun, { env: clock.env })).json<{ warnings: string[] }>();
    expect(warnings).toContainEqual(expect.stringContaining('is the clock right?'));
  });

  it('reads no pipe and no device that stands where a file should', async () => {
    const { root } = machines;
    const held = root.file({ request: { file: '/dev/zero' }, root: key });
    const refused = await root.vouch(['ceremony', '--file', held.file, '--json']);
    expect(refused.problem.detail).toContain('/dev/zero is no file');
  });

  it('signs no plan whose serials are not those of a dry run', async () => {
    const { root } = machines;
    const held = root.file({ request: { file: requested.carried }, root: key });
    const plan = `${held.out}.plan.json`;
    const serialsOf = (change: (serials: string[]) => string[]): void => {
      const json = JSON.parse(readFileSync(plan, 'utf8')) as { serials: string[] };
      writeFileSync(plan, JSON.stringify({ ...json, serials: change(json.serials) }));
    };
    for (const change of [
      (serials: string[]) => serials.map(() => serials[0] ?? ''),
      (serials: string[]) => serials.map((serial) => `00${serial.slice(2)}`),
      (serials: string[]) => serials.slice(1),
      (serials: string[]) => serials.map(() => '01'),
    ]) {
      (await root.vouch(['ceremony', '--file', held.file, '--json'])).json();
      serialsOf(change);
      const refused = await root.vouch(['ceremony', '--file', held.file, '--yes', '--json']);
      expect(refused.problem.code).toBe('usage-confirm');
      expect(existsSync(held.out)).toBe(false);
    }
  }, 30_000);

  it('presents a refused PIN once, whatever the result is to be called', async () => {
    const { root } = machines;
    const pinFile = root.path('pin');
    writeFileSync(pinFile, 'wrong-1\n', { mode: 0o600 });
    const attempt = async (): Promise<string> => {
      const held = root.file({
        request: { file: requested.carried },
        root: { ...key, hsm: { ...root.token, pinFile } },
      });
      return (await root.vouch(['ceremony', '--file', held.file, '--json'])).problem.detail;
    };
    expect(await attempt()).toContain('the token refused the PIN in');
    expect(await attempt()).toContain('it is not presented again');
  });

  it('signs nothing whose announcement is not whole on disk', async () => {
    const { root } = machines;
    const [certificate, last] = [join(result, 'root.cer'), join(result, 'root.crl')];
    const held = root.file({
      request: { file: requested.carried },
      root: { ...key, certificate },
      crl: { last },
    });
    (await root.vouch(['ceremony', '--file', held.file, '--json'])).json();
    // Room for the CRL and its line, and for a part of the next line; SoftHSM rewrites a file of 320 bytes.
    const wrapper = ['prlimit', `--fsize=${Math.max(statSync(last).size, 320) + 16}`];
    const full = await root.vouch(['ceremony', '--file', held.file, '--yes', '--json'], { wrapper });
    expect(full.problem).toMatchObject({
      code: 'config-state',
      detail: expect.stringMatching(
        /cannot write .*write-ahead\.jsonl: is the disk full\? Nothing more is signed/,
      ),
    });
    expect(readdirSync(held.out).sort()).toEqual(['root.crl', 'write-ahead.jsonl']);
  });

  it('refuses issuers that would outlive the root', async () => {
    const { root } = machines;
    const held = root.file({
      request: { file: requested.carried },
      root: { lifetime: '100d', key: { create: 'ec-p256', label: 'another' } },
      issuers: { lifetime: '90d', overlap: '30d' },
      crl: { lifetime: '50d' },
      statement: { lifetime: '50d' },
    });
    const refused = await root.vouch(['ceremony', '--file', held.file, '--json']);
    expect(refused.problem.detail).toMatch(/issuer certificate, next 1 would end at .*, after the root/);
  });
});

describe('the authority', () => {
  it('refuses the result of another request', async () => {
    const others = await twoMachines();
    const other = await others.request();
    const foreign = await others.root.hold({ request: { file: other.carried } });
    const refused = await machines.takeIn(foreign, '--yes');
    expect([refused.code, refused.problem.code]).toEqual([1, 'policy-conflict']);
    expect(refused.problem.detail).toContain(requested.sha256);
  }, 30_000);

  it('refuses a result with any file changed by one byte, or swapped', async () => {
    const files = readdirSync(result).filter((name) => name !== 'write-ahead.jsonl');
    for (const name of files) {
      const refused = await machines.takeIn(
        changed(name, (bytes) => flipped(bytes, bytes.length >> 1)),
        '--yes',
      );
      expect(refused.code, name).toBe(1);
      expect(refused.problem.code, name).toMatch(/^(?:integrity-|request-malformed)/);
    }
    const [first = '', second = ''] = requested.issuerKeyIds.map((keyId) => `issuer-${keyId}.cer`);
    const swapped = await machines.takeIn(
      changed(first, () => readFileSync(join(result, second))),
      '--yes',
    );
    expect(swapped.problem.code).toBe('integrity-signature');
  }, 60_000);

  it('reads no pipe that stands where a file should', async () => {
    const copy = changed('root.cer', (bytes) => bytes);
    execFileSync('mkfifo', [join(copy, 'more.json')]);
    const { state } = machines.authority;
    const refused = await runVouch(['init', '--state', state, '--ceremony-in', copy, '--yes', '--json']);
    expect(refused.problem.detail).toContain('more.json is no file');
  });

  it('still waits after all that, with nothing half done, and begins where an attempt was killed', async () => {
    const { authority } = machines;
    expect(readdirSync(authority.state).sort()).toEqual(['lock.db', 'pending.json', 'vouch.yaml']);
    const unfinished = join(authority.state, 'init.unfinished');
    const args = ['init', '--state', authority.state, '--ceremony-in', result, '--yes', '--json'];
    for (const moment of ['vouch.db', 'begun', 'signer/floor.json']) {
      const running = startVouch(args);
      await running.until(
        () => existsSync(join(unfinished, moment)) || existsSync(join(authority.state, 'vouch.db')),
      );
      running.signal('SIGKILL');
      await running.ended();
      if (existsSync(join(authority.state, 'vouch.db'))) break;
      expect((await authority.refusal()).problem.detail, moment).toContain('waits for its ceremony');
    }
    (await machines.takeIn(result, '--yes')).json();
    expect(await machines.logProblems()).toEqual([]);
    await authority.start();
    const { delivery } = await authority.enroll('orders');
    expect(delivery.issuerKeyId).toBe(requested.issuerKeyIds[0]);
    await authority.server.end();
  }, 60_000);
});
