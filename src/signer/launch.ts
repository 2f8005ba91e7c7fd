import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { Duplex, type Readable } from 'node:stream';
import { assert, VouchError } from '../core/errors.ts';
import type { SignerLog } from './signer-log.ts';

/** How the signer's program is started. */
export interface Program {
  /** The built entry point (`dist/vouch.js`). */
  entry: string;
  /** Its arguments, from `signer` on. */
  args: readonly string[];
  /** What the PKCS#11 module wants in its environment. */
  environment: Readonly<Record<string, string>>;
}

/** A signer that one can talk to. */
export interface Launched {
  stream: Duplex;
  /** Of a spawned signer. */
  pid: number | undefined;
  /** How a spawned signer ended; undefined for one that was only connected to. */
  exited: Promise<Exit> | undefined;
  /** Ends a spawned signer at once, or the connection. */
  kill: () => void;
}

/** Exit code or signal of a process. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

const shell = '/bin/sh';
/** All that is handed on; nothing of the server's own environment, which may hold what the signer need not know. */
const handedOn = ['PATH', 'TZ', 'CREDENTIALS_DIRECTORY', 'NODE_COMPILE_CACHE'];
const logLineMaxChars = 4096;

/**
 * Starts the program with a socket pair as its descriptor 3. It dumps no core (I8: the PIN and what it protects are in
 * its memory), takes no inspector, and ends when the socket does.
 * Throws `unavailable-signer` where no process can be started.
 */
export function launch(program: Program, log: SignerLog): Launched {
  const node = [
    process.execPath,
    '--disable-sigusr1',
    '--max-semi-space-size=8',
    program.entry,
    ...program.args,
  ];
  // ulimit is the shell's own; exec keeps the process id. Images without a shell must limit core dumps themselves.
  const wrapped = existsSync(shell) ? [shell, '-c', 'ulimit -c 0; exec "$@"', 'vouch-signer', ...node] : node;
  const [command, ...args] = wrapped;
  assert(command, 'a command to start');
  const child = spawn(command, args, {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    env: environmentFor(program),
  });
  // Before anything that may throw: an error event that nobody hears ends the server.
  const exited = exitOf(child);
  // Without a descriptor for it there is neither a child nor what its type promises.
  const stream = (child.stdio as ChildProcess['stdio'] | undefined)?.[3];
  if (!(stream instanceof Duplex))
    throw new VouchError(
      'unavailable-signer',
      'the signer cannot be started; are there too many open files?',
      {
        retryAfterSeconds: 1,
      },
    );
  if (child.stderr) relayLog(child.stderr, log);
  return { stream, pid: child.pid, exited, kill: () => child.kill('SIGKILL') };
}

/** Connects to a signer that runs by itself. Rejects with `unavailable-signer`. */
export async function dial(socketPath: string): Promise<Launched> {
  const stream = connect(socketPath);
  await new Promise<void>((resolve, reject) => {
    stream.once('connect', resolve);
    stream.once('error', (cause) => {
      reject(new VouchError('unavailable-signer', `no signer listens on ${socketPath}`, { cause }));
    });
  });
  return { stream, pid: undefined, exited: undefined, kill: () => stream.destroy() };
}

function environmentFor(program: Program): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const name of handedOn) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return { ...environment, ...program.environment };
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: null, signal: null }));
  });
}

function relayLog(stderr: Readable, log: SignerLog): void {
  createInterface({ input: stderr }).on('line', (line) => {
    const { level, message, fields } = logLine(line.slice(0, logLineMaxChars));
    log(level, message, fields);
  });
}

function logLine(line: string): {
  level: 'info' | 'warn' | 'error';
  message: string;
  fields: Record<string, string>;
} {
  try {
    const { level, message, ...rest } = JSON.parse(line) as Record<string, unknown>;
    const known = level === 'info' || level === 'warn' ? level : 'error';
    const fields = Object.entries(rest).map(([name, value]) => [name, String(value)] as const);
    return { level: known, message: String(message), fields: Object.fromEntries(fields) };
  } catch {
    return { level: 'warn', message: 'the signer wrote', fields: { line } };
  }
}
