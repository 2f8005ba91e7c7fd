import { spawnSync } from 'node:child_process';

/**
 * Builds dist/ and the HSM simulator where their sources are newer: tests that start the binary test what stands in src/.
 */
export default function setup(): void {
  build('dist/', process.execPath, ['scripts/build.mjs', '--if-changed']);
  build('the HSM simulator', 'make', ['-s', '-C', 'hsm-sim/shim']);
}

function build(what: string, program: string, args: string[]): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status === 0) return;
  const complaint = `${what} cannot be built: ${stderr?.trim() || String(error)}`;
  if (process.env.CI !== undefined) throw new Error(complaint);
  console.warn(`${complaint}\ntests that need it see an old one, or none`);
}
