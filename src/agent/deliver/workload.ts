import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';

/** What PID 1 passes on: everything that asks a program for something and that can be caught. */
const forwarded = [
  'SIGTERM',
  'SIGINT',
  'SIGHUP',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGWINCH',
  'SIGCONT',
] as const;

/** A terminal sends these to its whole foreground group: they reach the workload by themselves. */
const fromTerminal: readonly string[] = ['SIGINT', 'SIGQUIT', 'SIGWINCH', 'SIGCONT'];

/** Signals that end a program which does not handle them. */
const ending: readonly string[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'];

/** A running command. */
export interface Workload {
  kill(signal: NodeJS.Signals): boolean;
  /** Whether it has a handler for a signal; true where nothing tells. */
  handles(signal: NodeJS.Signals): boolean;
  /** Its exit code, 128 + n where signal n ended it, 127 where it is not there, 126 where it cannot be run. */
  exited: Promise<number>;
}

/** Starts the command with our stdio and environment, and `VOUCH_DIR`. */
export function startWorkload(
  command: readonly string[],
  dir: string,
  notice: (line: string) => void,
): Workload {
  const [file = '', ...args] = command;
  // Not imported: enroll and renew, in the same bundle, would load it at their start.
  const { spawn } = process.getBuiltinModule('node:child_process');
  const failed = (error: NodeJS.ErrnoException): number => {
    notice(`${file} cannot be started: ${error.code ?? error.message}`);
    return error.code === 'ENOENT' ? 127 : 126;
  };
  try {
    const child = spawn(file, args, { stdio: 'inherit', env: { ...process.env, VOUCH_DIR: dir } });
    return {
      kill: (signal) => child.kill(signal),
      handles: (signal) => hasHandler(child.pid, signal),
      exited: exitOf(child, failed),
    };
  } catch (error) {
    // Node tells some failures by an event and throws the others.
    const kill = (): boolean => false;
    return { kill, handles: kill, exited: Promise.resolve(failed(error as NodeJS.ErrnoException)) };
  }
}

/** Signals of this process: before there is a workload they end the start, from then on they are passed on. */
export class SignalRelay {
  readonly #listeners: [NodeJS.Signals, () => void][] = [];
  #workload: Workload | undefined;

  /** `ended` is told of a signal that comes before there is a workload. */
  constructor(ended: (signal: NodeJS.Signals) => void) {
    for (const signal of forwarded) {
      const listener = (): void => {
        if (this.#workload === undefined) {
          if (ending.includes(signal)) ended(signal);
        } else if (!fromTerminal.includes(signal) || !isForeground()) this.#workload.kill(signal);
      };
      process.on(signal, listener);
      this.#listeners.push([signal, listener]);
    }
  }

  passTo(workload: Workload): void {
    this.#workload = workload;
  }

  /** Gives the signals back. */
  close(): void {
    for (const [signal, listener] of this.#listeners) process.off(signal, listener);
  }
}

/**
 * Whether the terminal signals our process group, and the workload in it, itself. Not asked as PID 1 or its child: what
 * ends a container is sent to PID 1 alone, and must not be lost; what comes twice from a terminal there does less harm.
 */
function isForeground(): boolean {
  if (process.pid === 1 || process.ppid === 1) return false;
  try {
    const stat = readFileSync('/proc/self/stat', 'utf8');
    // proc(5), after the command in parentheses: state, ppid, pgrp, session, tty_nr, tpgid.
    const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return group === foreground;
  } catch {
    return false;
  }
}

/** 128 + n, as shells have it. */
export function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** By the mask that proc(5) calls SigCgt: bit n - 1 for signal n. True where nothing tells. */
export function hasHandler(pid: number | undefined, signal: NodeJS.Signals): boolean {
  try {
    const [, mask] = /^SigCgt:\t([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return mask === undefined || ((BigInt(`0x${mask}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
  } catch {
    return true;
  }
}

function exitOf(child: ChildProcess, failed: (error: NodeJS.ErrnoException) => number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  child.once('exit', (code, signal) => resolve(signal === null ? (code ?? 1) : signalExitCode(signal)));
  child.once('error', (error: NodeJS.ErrnoException) => resolve(failed(error)));
  return promise;
}
