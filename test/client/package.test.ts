import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../agent/support/harness.ts';

const consumer = `import { createServer, request } from 'node:https';
import { openVouch, VouchError, type ErrorCode, type Peer, type Vouch, type VouchEvent } from 'vouch/client';

const log = (event: VouchEvent): string => (event.type === 'cut' ? event.peer.spiffeId : event.type);
const vouch: Vouch = await openVouch({ dir: '/nowhere', onEvent: log }).catch((error: unknown) => {
  const code: ErrorCode | undefined = error instanceof VouchError ? error.code : undefined;
  console.log(code);
  process.exit(0);
});
const server = vouch.secure(
  createServer(vouch.serverOptions(), (incoming, outgoing) => {
    const peer: Peer | undefined = vouch.peerOf(incoming.socket);
    outgoing.end(peer?.spiffeId);
  }),
);
server.listen(0);
request('https://billing', vouch.clientOptions({ serverId: 'spiffe://example.org/billing' }));
// @ts-expect-error: the types are there, or nothing would be wrong with this.
vouch.clientOptions({ server: 1 });
`;

const compilerOptions = {
  target: 'es2024',
  lib: ['es2024'],
  module: 'nodenext',
  types: ['node'],
  strict: true,
  skipLibCheck: false,
};

/** A project that installed the package: with the types of Node, and with nothing else that it did not bring. */
function installed(): string {
  const folder = temporaryFolder();
  const modules = join(folder, 'node_modules');
  const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], {
    encoding: 'utf8',
  });
  mkdirSync(join(modules, 'vouch'), { recursive: true });
  const tarball = join(folder, packed.trim().split('\n').at(-1) ?? '');
  execFileSync('tar', ['-xzf', tarball, '-C', join(modules, 'vouch'), '--strip-components=1']);
  for (const name of ['@types/node', 'undici-types']) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(resolve('node_modules', name), join(modules, name));
  }
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
  writeFileSync(join(folder, 'main.ts'), consumer);
  return folder;
}

test('a TypeScript project that installs the package compiles against vouch/client, and runs', () => {
  const folder = installed();
  const { stdout, status } = spawnSync('tsc', ['-p', folder], { encoding: 'utf8' });
  expect({ stdout, status }).toEqual({ stdout: '', status: 0 });
  const run = execFileSync(process.execPath, [join(folder, 'main.js')], { encoding: 'utf8' });
  expect(run).toBe('config-state\n');
});
