// What entries ask for that only the host can know to be misspelt.
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HostLacks } from '../../src/agent/host-lacks.ts';
import { createLacks } from '../../src/attestation/workload/unix/lacks.ts';

let folder: string;
let lackOf: ReturnType<typeof createLacks>;
const passwd = (): string => join(folder, 'passwd');

beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'vouch-l-')));
  writeFileSync(passwd(), 'root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\nst-web:x:7:7::/:/bin/sh\n');
  writeFileSync(join(folder, 'group'), 'ssl:x:27:\n');
  writeFileSync(join(folder, 'program'), '\x7fELF');
  writeFileSync(join(folder, 'script'), '#!/bin/sh\n');
  writeFileSync(join(folder, 'empty'), '');
  mkdirSync(join(folder, 'dir'));
  symlinkSync('program', join(folder, 'link'));
  symlinkSync('dir', join(folder, 'linked'));
  writeFileSync(join(folder, 'dir', 'program'), '\x7fELF');
  lackOf = createLacks({ passwd: passwd(), group: join(folder, 'group') });
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ['user:st-web', undefined],
  ['user:st-wbe', 'no number goes by this name'],
  // Its number is shown as root.
  ['user:toor', 'no number goes by this name'],
  ['group:ssl', undefined],
  ['group:st-web', 'no number goes by this name'],
  ['supplementary_group:ssh', 'no number goes by this name'],
  ['uid:12345', undefined],
  ['path:DIR/program', undefined],
  ['path:DIR/empty', undefined],
  ['path:DIR/prgoram', 'no such file'],
  ['path:DIR/program/x', 'no such file'],
  ['path:DIR/link', 'a link'],
  ['path:DIR/linked/program', 'a link'],
  ['path:DIR/dir', 'no program'],
  ['path:DIR/script', 'a script'],
  ['constructor:x', undefined],
])('unix:%s: %s', async (selector, lack) => {
  const said = await lackOf(`unix:${selector.replace('DIR', folder)}`);
  if (lack === undefined) expect(said).toBeUndefined();
  else expect(said).toContain(lack);
});

test('each is said once, in one line, and again where an entry asks for it anew', async () => {
  const lines: string[] = [];
  const looked: string[] = [];
  const look = (selector: string): Promise<string | undefined> => {
    looked.push(selector);
    return lackOf(selector);
  };
  const lacks = new HostLacks(look, (line) => lines.push(line));
  const asking = (...users: string[]) =>
    users.map((user, at) => ({ entryId: `e_${at}`, selectors: [`unix:user:${user}`] }));
  const five = asking('st-web', 'a', 'b', 'c', 'd');
  await lacks.take(five);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(
    /^no process of this host fits: unix:user:a \(entry e_1; no number [^)]*\), [^,]*, [^,]* and 1 more$/,
  );
  await lacks.take([...five]);
  expect(looked).toHaveLength(5);
  await lacks.take(asking('a', 'st-web'));
  expect(lines).toHaveLength(1);
  await lacks.take(asking('b', 'a'));
  expect(lines.slice(1)).toEqual([expect.stringContaining('fits: unix:user:b (entry e_0; ')]);
});
