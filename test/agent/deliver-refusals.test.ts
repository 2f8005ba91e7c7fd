import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Stage, give, unusedUids } from '../support/users.ts';
import { temporaryFolder } from './support/harness.ts';
import { current, deliverTo, FakeServed } from './support/served.ts';

const [stranger = 0] = unusedUids(1);

describe('nothing is delivered', () => {
  test('into a folder of somebody else, who could swap what is in it', async () => {
    const dir = join(temporaryFolder(), 'theirs');
    mkdirSync(dir);
    chownSync(dir, stranger, stranger);
    const { deliver, failed } = deliverTo({ dir });
    deliver.take(new FakeServed().served());
    expect(await failed()).toMatch(
      new RegExp(`${dir} belongs to uid ${stranger}, who could put another.*chown root`),
    );
    expect(readdirSync(dir)).toEqual([]);
  });

  test('below a folder of somebody else', async () => {
    const above = join(temporaryFolder(), 'theirs');
    mkdirSync(join(above, 'ours'), { recursive: true });
    chownSync(above, stranger, stranger);
    const { deliver, failed } = deliverTo({ dir: join(above, 'ours') });
    deliver.take(new FakeServed().served());
    expect(await failed()).toMatch(`${above} belongs to uid ${stranger}`);
    expect(readdirSync(join(above, 'ours'))).toEqual([]);
  });

  test.each([0o775, 0o777, 0o1777])('into a folder that others can write, mode %o', async (mode) => {
    const dir = join(temporaryFolder(), 'open');
    mkdirSync(dir);
    chmodSync(dir, mode);
    const { deliver, failed } = deliverTo({ dir });
    deliver.take(new FakeServed().served());
    expect(await failed()).toMatch(/open can be written by others .*chmod go-w/);
    expect(readdirSync(dir)).toEqual([]);
  });

  test('through a link that somebody else has put in the way, though where it leads is ours', async () => {
    const folder = temporaryFolder();
    const [shared, ours] = [join(folder, 'shared'), join(folder, 'ours')];
    mkdirSync(ours);
    mkdirSync(shared);
    chmodSync(shared, 0o1777);
    const stage = new Stage(folder);
    const link = join(shared, 'web');
    expect(await stage.run({ uid: stranger, groups: [] }, ['ln', '-s', ours, link])).toMatchObject({
      code: 0,
    });
    const { deliver, failed } = deliverTo({ dir: link }, { dir: join(link, 'below') });
    deliver.take(new FakeServed().served());
    expect(await failed('files', 0)).toMatch(`${link} belongs to uid ${stranger}`);
    expect(await failed('files', 1)).toMatch(`${link} belongs to uid ${stranger}`);
    expect(readdirSync(ours)).toEqual([]);
  });

  test('where a file stands in the way', async () => {
    const dir = join(temporaryFolder(), 'file');
    writeFileSync(dir, '');
    const { deliver, failed } = deliverTo({ dir });
    deliver.take(new FakeServed().served());
    expect(await failed()).toMatch(`${dir} is no folder`);
  });

  test('through links that lead round in a circle', async () => {
    const dir = join(temporaryFolder(), 'loop');
    symlinkSync(dir, dir);
    const { deliver, failed } = deliverTo({ dir });
    deliver.take(new FakeServed().served());
    expect(await failed()).toMatch(/is one symbolic link too many/);
  });

  test.each([
    [{ owner: 'no-such-user' }, /no user no-such-user in .etc.passwd: make it, or write its number/],
    [{ group: 'no-such-group' }, /no group no-such-group in .etc.group/],
    [
      { formats: ['pkcs12'], pkcs12: { passwordFile: '/nowhere/p' } },
      /password file .nowhere.p is not there; write/,
    ],
  ])('with %j, and the other targets get theirs', async (wrong, said) => {
    const folder = temporaryFolder();
    const { deliver, failed, settled } = deliverTo(
      { dir: join(folder, 'a'), ...wrong },
      { dir: join(folder, 'b') },
    );
    deliver.take(new FakeServed().served());
    expect(await failed()).toMatch(said);
    expect((await settled(1)).serial).toBeDefined();
    expect(existsSync(join(folder, 'a', 'current'))).toBe(false);
  });

  test.each(['short', 'with\nsecond line', 'pässword', ''])('with the password %j', async (password) => {
    const folder = temporaryFolder();
    const passwordFile = join(folder, 'p');
    writeFileSync(passwordFile, password, { mode: 0o600 });
    const { deliver, failed } = deliverTo({
      dir: join(folder, 'a'),
      formats: ['pkcs12'],
      pkcs12: { passwordFile },
    });
    deliver.take(new FakeServed().served());
    const problem = await failed();
    expect(problem).toMatch(/must hold one line of 6 to 128 printable ASCII/);
    if (password !== '') expect(problem).not.toContain(password);
  });
});

test('a link of root’s is followed', async () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'real'));
  symlinkSync('real', join(folder, 'link'));
  const { deliver, settled } = deliverTo({ dir: join(folder, 'link', 'web') });
  deliver.take(new FakeServed().served());
  await settled();
  expect(current(join(folder, 'real', 'web'), 'svid.pem')).toContain('CERTIFICATE');
});

test('what is mended is delivered without a restart, and that is said', async () => {
  const dir = join(temporaryFolder(), 'theirs');
  mkdirSync(dir);
  give(dir, { uid: stranger, groups: [] });
  const { deliver, failed, settled, notices } = deliverTo({ dir });
  deliver.take(new FakeServed().served());
  await failed();
  chownSync(dir, process.getuid?.() ?? 0, 0);
  expect(await settled()).toMatchObject({
    isServed: true,
    files: { lastFailure: {}, lastSuccess: expect.any(String) },
  });
  expect(notices.filter((line) => /^delivery of spiffe.*succeeded again/.test(line))).toHaveLength(1);
});
