import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { HsmConfig } from '../../src/signer/hsm.ts';

/** A client in a process of its own. */
export interface ChildClient {
  child: ChildProcess;
  /** What it wrote so far: `open`, then the outcome of each signature. */
  lines: () => string[];
  /** Signal or exit code with which it ended. */
  ended: Promise<string | number | null>;
  /** Lets it end in order. */
  finish: () => void;
}

const children: ChildProcess[] = [];

/** Starts a client whose threads each sign `signatures` times and then keep their session. */
export function childClient(hsm: HsmConfig, ckaId: string, signatures: number, threads = 1): ChildClient {
  const program = fileURLToPath(new URL('./child.ts', import.meta.url));
  const child = spawn(process.execPath, [program, JSON.stringify({ hsm, ckaId, signatures, threads })], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: process.env.PATH },
  });
  if (children.length === 0)
    process.once('exit', () => {
      for (const one of children) one.kill('SIGKILL');
    });
  children.push(child);
  let said = '';
  child.stdout.on('data', (bytes) => {
    said += String(bytes);
  });
  return {
    child,
    lines: () => said.split('\n').filter((line) => line !== ''),
    ended: new Promise((done) => child.once('close', (code, signal) => done(signal ?? code))),
    finish: () => void child.stdin.end(),
  };
}
