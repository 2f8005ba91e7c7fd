// The load generator: built from test/bench/load, run with one plan at a time.
import { join } from 'node:path';
import { run } from './processes.mjs';

const buildTimeoutMs = 180_000;
const planSlackMs = 60_000;

/** Builds it with the Go of this machine, nothing fetched; returns the program's path. */
export async function buildLoad(root, folder) {
  const program = join(folder, 'load');
  const env = {
    ...process.env,
    GO111MODULE: 'on',
    GOFLAGS: '-mod=mod',
    GOPROXY: 'off',
    GOTOOLCHAIN: 'local',
    GOWORK: 'off',
  };
  const options = { cwd: join(root, 'test/bench/load'), env, timeoutMs: buildTimeoutMs };
  try {
    await run('go', ['build', '-o', program, '.'], options);
  } catch (error) {
    throw new Error(
      `the load generator needs Go 1.19 or newer (scripts/setup installs it): ${error.message}`,
    );
  }
  return program;
}

/** Runs one plan; the members of plan and report are those of load/main.go. */
export async function runLoad(program, plan) {
  const timeoutMs = (plan.warmupSeconds + plan.seconds) * 1000 + planSlackMs;
  return JSON.parse(await run(program, [], { input: JSON.stringify(plan), timeoutMs }));
}
