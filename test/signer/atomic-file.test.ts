import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { writeAtomically } from '../../src/signer/atomic-file.ts';
import { temporaryFolder } from '../support/hsm.ts';

it('has the text on disk before the file bears its name, and the name before it returns', async () => {
  const folder = temporaryFolder('atomic');
  const file = join(folder, 'floor.json');
  writeFileSync(file, 'old');
  const synced: string[] = [];
  const handles = await prototypeOf(folder);
  const { sync } = handles;
  onTestFinished(() => void Object.assign(handles, { sync }));
  handles.sync = async function (this: FileHandle) {
    const isFolder = (await this.stat()).isDirectory();
    synced.push(`${isFolder ? 'folder' : 'file'} while the name shows ${readFileSync(file, 'utf8')}`);
    await sync.call(this);
  };
  await writeAtomically(file, 'new');
  expect(synced).toEqual(['file while the name shows old', 'folder while the name shows new']);
  expect(existsSync(`${file}.${process.pid}.tmp`)).toBe(false);
});

/** Where every handle's methods are. */
async function prototypeOf(folder: string): Promise<FileHandle> {
  await using handle = await open(folder, 'r');
  return Object.getPrototypeOf(handle) as FileHandle;
}
