import { spawnSync } from 'node:child_process';

/** Builds dist/ where the sources are newer: tests that start the binary test what stands in src/. */
export default function setup(): void {
  const build = spawnSync(process.execPath, ['scripts/build.mjs', '--if-changed'], { encoding: 'utf8' });
  if (build.status === 0) return;
  const complaint = `dist/ cannot be built: ${build.stderr.trim() || String(build.error)}`;
  if (process.env.CI !== undefined) throw new Error(complaint);
  console.warn(`${complaint}\ntests that start the binary see an old one, or none`);
}
