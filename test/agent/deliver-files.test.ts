import { X509Certificate } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readDelivered } from '../../src/client/delivered.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import { eventually } from '../support/running.ts';
import { unusedUids } from '../support/users.ts';
import { workloadId } from '../x509/authority.ts';
import { CurrentAuthority, runTool } from '../x509/oracle-tools.ts';
import { temporaryFolder } from './support/harness.ts';
import { access, current, deliverTo, FakeServed } from './support/served.ts';

const generation = (dir: string): string => readlinkSync(join(dir, 'current'));
const serialIn = (dir: string): string =>
  new X509Certificate(current(dir, 'svid.pem')).serialNumber.toLowerCase();

describe('a target', () => {
  test('holds what vouch exec delivers, as vouch/client reads it, for its own identity', async () => {
    const dir = join(temporaryFolder(), 'a', 'b');
    const fake = new FakeServed();
    const [other, ours] = [fake.svid({ spiffeId: parseSpiffeId('spiffe://example.org/other') }), fake.svid()];
    const { deliver, settled, notices, told } = deliverTo({ dir });
    deliver.take(fake.served([other, ours]));
    const status = await settled();
    expect(told.at(-1), 'whoever shows it was told of the last change').toEqual([status]);
    expect(status).toMatchObject({ of: workloadId, dir, isServed: true, serial: ours.serial });
    const read = readDelivered(dir);
    expect(read.leaf.serial).toBe(ours.serial);
    expect(read.peers).toEqual({ version: 1, allowedClients: ['spiffe://example.org/gateway'] });
    expect(read.roots.map((root) => root.der)).toEqual([fake.authority.root.der]);
    expect(JSON.parse(current(dir, 'proof.json'))).toMatchObject({ index: 7, treeSize: 8 });
    expect(readdirSync(join(dir, 'current')).sort()).toEqual([
      'bundle.pem',
      'crl.pem',
      'peers.json',
      'proof.json',
      'svid.key',
      'svid.pem',
    ]);
    expect(access(dir, 'svid.key').mode).toBe('600');
    expect(notices).toEqual([expect.stringContaining(`${dir}: ${workloadId}, serial ${ours.serial}`)]);
    const at = (name: string): string => join(dir, 'current', name);
    const chain = ['-CAfile', at('bundle.pem'), '-untrusted', at('svid.pem')];
    const verified = runTool(
      'openssl',
      'verify',
      '-crl_check_all',
      '-CRLfile',
      at('crl.pem'),
      ...chain,
      at('svid.pem'),
    );
    expect(verified).toMatchObject({ status: 0 });
  });

  test('is found by its entry where the configuration names one', async () => {
    const dir = temporaryFolder();
    const fake = new FakeServed();
    const second = fake.svid({ entryId: 'e_0000000000000002' });
    const { deliver, settled } = deliverTo({ dir, id: undefined, entry: 'e_0000000000000002' });
    deliver.take(fake.served([fake.svid(), second]));
    await settled();
    expect(serialIn(dir)).toBe(second.serial);
  });

  test('has another generation for another certificate, root, issuer or allow list, and for nothing else', async () => {
    const dir = temporaryFolder();
    const fake = new FakeServed();
    const svid = fake.svid();
    const { deliver, settled } = deliverTo({ dir });
    const take = async (over: object, trust: object): Promise<string> => {
      const rotated = 'rotated' in over ? fake.svid() : svid;
      deliver.take(fake.served([{ ...rotated, ...over }], trust));
      await settled();
      return generation(dir);
    };
    expect(await take({}, {})).toBe('000001');
    expect(await take({}, {}), 'newer CRLs alone').toBe('000001');
    expect(await take({ allowedClients: ['spiffe://example.org/*'] }, {})).toBe('000002');
    expect(JSON.parse(current(dir, 'peers.json'))).toMatchObject({
      allowedClients: ['spiffe://example.org/*'],
    });
    const { root, issuer } = new CurrentAuthority();
    expect(await take({}, { roots: [fake.authority.root.der, root.der] })).toBe('000003');
    expect(await take({}, { issuers: [fake.authority.issuer.der, issuer.der] })).toBe('000004');
    expect(current(dir, 'issuers.pem')).toContain('CERTIFICATE');
    expect(await take({ rotated: true }, {})).toBe('000005');
    expect(readdirSync(dir).sort()).toEqual(['000004', '000005', 'current']);
  });

  test('gets newer CRLs in place, also while its certificate cannot be delivered', async () => {
    const folder = temporaryFolder();
    const dir = join(folder, 'out');
    const passwordFile = join(folder, 'password');
    writeFileSync(passwordFile, 'password\n', { mode: 0o600 });
    const fake = new FakeServed();
    const { deliver, settled, failed } = deliverTo({ dir, formats: ['pkcs12'], pkcs12: { passwordFile } });
    deliver.take(fake.served());
    await settled();
    const before = current(dir, 'crl.pem');
    chmodSync(passwordFile, 0o644);
    deliver.take(fake.served());
    expect(await failed()).toMatch(/password can be read by others \(mode 0644\): chmod 600/);
    expect(await eventually(() => current(dir, 'crl.pem') !== before)).toBe(true);
    expect(generation(dir)).toBe('000001');
  });

  test('is left as it is by an agent that starts again and serves the same, unless somebody changed it', async () => {
    const folder = temporaryFolder();
    const dir = join(folder, 'out');
    const passwordFile = join(folder, 'password');
    const password = (text: string): void => writeFileSync(passwordFile, text, { mode: 0o600 });
    password('password\n');
    const target = { dir, formats: ['pkcs12'], pkcs12: { passwordFile } };
    const served = new FakeServed().served();
    const restart = async (change: object = {}): Promise<string> => {
      const { deliver, settled } = deliverTo({ ...target, ...change });
      deliver.take(served);
      await settled();
      await deliver.close();
      return generation(dir);
    };
    expect(await restart()).toBe('000001');
    const { ino } = statSync(join(dir, 'current', 'crl.pem'));
    expect(await restart()).toBe('000001');
    expect(statSync(join(dir, 'current', 'crl.pem')).ino, 'not written again').toBe(ino);
    expect(await restart({ mode: '0640' })).toBe('000002');
    expect(await restart({ mode: '0640', formats: ['pkcs12', 'combined'] })).toBe('000003');
    expect(await restart()).toBe('000004');
    password('another password\n');
    expect(await restart()).toBe('000005');
    rmSync(join(dir, 'current', 'bundle.pem'));
    expect(await restart()).toBe('000006');
    writeFileSync(join(dir, 'current', 'svid.key'), 'damaged');
    expect(await restart()).toBe('000007');
    rmSync(join(dir, 'current', 'crl.pem'));
    expect(await restart()).toBe('000007');
    expect(current(dir, 'crl.pem')).toContain('X509 CRL');
  });

  test('stays when its entry goes, which is said once', async () => {
    const dir = temporaryFolder();
    const fake = new FakeServed();
    const { deliver, settled, status, notices } = deliverTo({ dir });
    deliver.take(fake.served([]));
    await settled();
    expect(status().isServed).toBe(false);
    const svid = fake.svid();
    deliver.take(fake.served([svid]));
    await settled();
    for (let times = 0; times < 2; times += 1) {
      deliver.take(fake.served([]));
      await settled();
    }
    expect(status()).toMatchObject({ isServed: false, serial: svid.serial });
    expect(serialIn(dir)).toBe(svid.serial);
    expect(notices).toEqual([
      expect.stringMatching(/waits for an entry that gives .* to this agent/),
      expect.stringContaining(svid.serial),
      expect.stringMatching(/no longer given to this agent: its entry is gone\..* stay, valid until /),
    ]);
  });

  test('is said with why the agent does not serve it', async () => {
    const fake = new FakeServed();
    const { deliver, settled, notices, withheld } = deliverTo({ dir: temporaryFolder() });
    const { entryId, spiffeId, selectors, notAfterMs } = fake.svid();
    withheld.push({ entryId, spiffeId, selectors, why: 'the server has not given one yet' });
    deliver.take(fake.served([]));
    await settled();
    const ended = { ...fake.svid(), notAfterMs: Date.now() - 1 };
    for (const svid of [fake.svid(), ended]) {
      deliver.take(fake.served([svid]));
      await settled();
      withheld[0]!.why = 'the entry is suspended';
      deliver.take(fake.served([]));
      await settled();
    }
    expect(notAfterMs).toBeGreaterThan(Date.now());
    expect(notices.filter((line) => !line.includes(', serial '))).toEqual([
      expect.stringContaining(`(entry ${entryId}): the server has not given one yet`),
      expect.stringMatching(/is not served now: the entry is suspended\. The files in .* stay, valid until /),
      expect.stringContaining('has expired, and there is no other yet: the entry is suspended. The files'),
    ]);
  });

  test('takes the newest of what comes faster than it is written', async () => {
    const dir = temporaryFolder();
    const fake = new FakeServed();
    const { deliver, settled } = deliverTo({ dir });
    const svids = Array.from({ length: 20 }, () => fake.svid());
    for (const svid of svids) deliver.take(fake.served([svid]));
    await settled();
    expect(serialIn(dir)).toBe(svids.at(-1)?.serial);
    expect(Number(generation(dir))).toBeLessThanOrEqual(2);
  });
});

describe('the files', () => {
  test('belong to owner and group, folders to the agent, and only keys have the mode', async () => {
    const dir = temporaryFolder();
    const [uid = 0, gid = 0] = unusedUids(2);
    const { deliver, settled } = deliverTo({
      dir,
      owner: uid,
      group: gid,
      mode: '0440',
      formats: ['combined'],
    });
    deliver.take(new FakeServed().served());
    await settled();
    for (const name of ['svid.key', 'svid-combined.pem'])
      expect(access(dir, name)).toEqual({ mode: '440', uid, gid });
    for (const name of ['svid.pem', 'crl.pem', 'peers.json'])
      expect(access(dir, name)).toEqual({ mode: '644', uid, gid });
    expect(statSync(join(dir, 'current'))).toMatchObject({ uid: process.getuid?.(), mode: 0o40755 });
  });

  test('belong to accounts by name, also crl.pem when it is another', async () => {
    const dir = temporaryFolder();
    const fake = new FakeServed();
    const { deliver, settled } = deliverTo({ dir, owner: 'www-data', group: 'daemon' });
    const svid = fake.svid();
    for (let times = 0; times < 2; times += 1) {
      deliver.take(fake.served([svid]));
      await settled();
    }
    const number = (file: string, name: string): number =>
      Number(new RegExp(`^${name}:[^:]*:(\\d+)`, 'm').exec(readFileSync(file, 'utf8'))?.[1]);
    const ids = { uid: number('/etc/passwd', 'www-data'), gid: number('/etc/group', 'daemon') };
    expect(access(dir, 'svid.key')).toEqual({ mode: '600', ...ids });
    expect(access(dir, 'crl.pem')).toEqual({ mode: '644', ...ids });
  });

  test('with a key are nobody’s but ours until they have owner and mode; then they are written', () => {
    const folder = temporaryFolder();
    const path = join(folder, 'svid.key');
    const module = join(import.meta.dirname, '../../src/agent/deliver/durable-file.ts');
    const script = `const { writeDurably } = await import(process.argv[1]);
      await writeDurably(process.argv[2], 'secret', 0o640, { uid: 12345, gid: 12346 });`;
    const trace = ['-f', '-qq', '-y', '-e', 'trace=openat,fchown,fchmod,write,pwrite64'];
    const node = [process.execPath, '--input-type=module', '-e', script, module, path];
    const { status, output } = runTool('strace', ...trace, ...node);
    expect(status).toBe(0);
    const calls = output.split('\n').filter((line) => line.includes(path));
    expect(calls).toEqual([
      expect.stringMatching(/openat\(.*O_CREAT\|O_EXCL.*, 0600\)/),
      expect.stringMatching(/fchown\(.*, 12345, 12346\)/),
      expect.stringMatching(/fchmod\(.*, 0640\)/),
      expect.stringMatching(/write.*"secret"/),
    ]);
  });

  test('are in one file for haproxy, and in stores for Java, where they are asked for', async () => {
    const folder = temporaryFolder();
    const dir = join(folder, 'out');
    const passwordFile = join(folder, 'password');
    writeFileSync(passwordFile, 'correct horse\n', { mode: 0o600 });
    const formats = ['pem', 'combined', 'pkcs12'];
    const { deliver, settled } = deliverTo({ dir, formats, pkcs12: { passwordFile } });
    const fake = new FakeServed();
    const svid = fake.svid();
    deliver.take(fake.served([svid]));
    await settled();
    expect(current(dir, 'svid-combined.pem')).toBe(current(dir, 'svid.key') + current(dir, 'svid.pem'));
    const at = (name: string): string => join(dir, 'current', name);
    const bind = `bind unix@${folder}/socket ssl crt ${at('svid-combined.pem')} ca-file ${at('bundle.pem')}`;
    const config = `frontend f\n mode http\n timeout client 1s\n ${bind} crl-file ${at('crl.pem')} verify required\n`;
    writeFileSync(join(folder, 'haproxy.cfg'), config);
    expect(runTool('haproxy', '-c', '-f', join(folder, 'haproxy.cfg'))).toMatchObject({ status: 0 });
    for (const name of ['svid.p12', 'truststore.p12']) expect(access(dir, name).mode).toBe('600');
    const read = runTool(
      'openssl',
      'pkcs12',
      '-in',
      at('svid.p12'),
      '-passin',
      `file:${passwordFile}`,
      '-nokeys',
      '-clcerts',
    );
    const { serialNumber } = new X509Certificate(/-----BEGIN[^]*/.exec(read.output)?.[0] ?? '');
    expect(serialNumber.toLowerCase()).toBe(svid.serial);
  });
});
