import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { runAgentVerb } from '../../../src/agent.ts';
import { FakeAuthority } from './fake-authority.ts';
import { FakeServer } from './fake-server.ts';

/** What a verb left behind. */
export interface VerbResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** A temporary folder that goes with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'vouch-agent-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A running fake authority that goes with the test. */
export async function startAuthority(
  authority = new FakeAuthority(),
): Promise<{ authority: FakeAuthority; server: FakeServer }> {
  const server = await FakeServer.start(authority);
  onTestFinished(() => server.stop());
  return { authority, server };
}

/** Runs a verb in this process. */
export async function run(...argv: string[]): Promise<VerbResult> {
  let stdout = '';
  let stderr = '';
  const code = await runAgentVerb(argv, {
    stdout: (text) => {
      stdout += text;
    },
    stderr: (text) => {
      stderr += text;
    },
  });
  return { code, stdout, stderr };
}

/** Writes a join file as `vouch token create` does. */
export function writeJoinFile(folder: string, line: string, mode = 0o600): string {
  const path = join(folder, `join-${readdirSync(folder).length}`);
  writeFileSync(path, `${line}\n`, { mode });
  return path;
}

/** A workload folder, a join file for the server, and `vouch enroll` with both. */
export function workload(server: FakeServer, over: Parameters<FakeServer['joinLine']>[0] = {}) {
  const folder = temporaryFolder();
  const dir = join(folder, 'out');
  const joinFile = writeJoinFile(folder, server.joinLine(over));
  const enroll = (...more: string[]) =>
    run('enroll', '--join-file', joinFile, '--out', dir, '--timeout', '3', '--json', ...more);
  const renew = (...more: string[]) => run('renew', '--dir', dir, '--timeout', '3', '--json', ...more);
  const read = (file: string): string => readFileSync(join(dir, 'current', file), 'utf8');
  return { folder, dir, joinFile, enroll, renew, read };
}
