import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { cacheFolder } from './cache-folder.ts';

/** Under the lock of its folder: several tests may want the same one at once. The mark says that pip has ended well. */
const script = `
set -e
[ -e ready ] && exit 0
rm -rf venv
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --no-input "$@"
touch ready`;

/**
 * The Python of a virtual environment with these packages (`name==version`). It is made by pip the first time and kept in
 * the user's cache folder. Throws with what pip said where it cannot be made.
 */
export function pythonWith(...packages: readonly string[]): string {
  const version = execFileSync('python3', ['--version'], { encoding: 'utf8' });
  const folder = cacheFolder('python', [version, ...packages]);
  const command = ['lock', 'sh', '-c', script, 'sh', ...packages];
  execFileSync('flock', command, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  return join(folder, 'venv', 'bin', 'python');
}
