import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from './cache-folder.ts';

const run = promisify(execFile);

/** What is fetched where the machine's own Go is older than a module wants. */
const toolchain = 'go1.24.11';
/** Old ones do not read a go.mod of today, and none changes one. */
const environment = {
  ...process.env,
  GO111MODULE: 'on',
  GOFLAGS: '-buildvcs=false',
  GOTOOLCHAIN: 'local',
  GOWORK: 'off',
};

/** Under the lock of its folder: several tests may want the same one at once. */
const buildScript = `
set -e
[ -e program ] && exit 0
"$1" build -C "$2" -o "$PWD/program.new" .
mv program.new program`;

/**
 * Builds the program whose module lies in `folder` with the Go of this machine or, where that is too old, with a newer one that
 * it fetches as a module. Resolves to the program, which is kept in the user's cache folder. Rejects with what Go said.
 */
export async function buildGo(folder: string): Promise<string> {
  const go = await goFor(readFileSync(join(folder, 'go.mod'), 'utf8'));
  const sources = readdirSync(folder).sort();
  const texts = sources.map((name) => `${name}\n${readFileSync(join(folder, name), 'utf8')}`);
  const cache = cacheFolder('go', [go, ...texts]);
  const options = { cwd: cache, env: environment };
  await run('flock', ['lock', 'sh', '-c', buildScript, 'sh', go, folder], options);
  return join(cache, 'program');
}

/** Path of a Go that is as new as the line `go` of a go.mod asks for. */
async function goFor(module: string): Promise<string> {
  const wanted = /^go ([\d.]+)$/m.exec(module)?.[1] ?? '';
  const { stdout } = await run('go', ['version'], { env: environment });
  const found = / go([\d.]+)/.exec(stdout)?.[1] ?? '';
  return isAtLeast(found, wanted) ? 'go' : fetchedGo();
}

function isAtLeast(found: string, wanted: string): boolean {
  const [have, need] = [found, wanted].map((version) => version.split('.').map(Number));
  for (const [index, least] of (need ?? []).entries()) {
    const part = have?.[index] ?? 0;
    if (part !== least) return part > least;
  }
  return true;
}

/** By the module proxy, which `go` holds against the checksum database. A module's files are not executable: Go makes these so, too. */
async function fetchedGo(): Promise<string> {
  const machine = arch() === 'x64' ? 'amd64' : arch();
  const module = `golang.org/toolchain@v0.0.1-${toolchain}.linux-${machine}`;
  const folder = cacheFolder('toolchain', [module]);
  const options = { cwd: folder, env: environment };
  const { stdout } = await run('go', ['mod', 'download', '-json', module], options);
  const { Dir: root } = JSON.parse(stdout) as { Dir: string };
  await run('sh', ['-c', 'chmod a+x "$0"/bin/* "$0"/pkg/tool/*/*', root]);
  return join(root, 'bin', 'go');
}
