import { execFile, spawn, type ChildProcessByStdio } from 'node:child_process';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';
import { newFolder } from '../support/running.ts';

/** Compiles Java's judge; gives its command. */
export async function javaJudge(): Promise<string[]> {
  const classes = newFolder();
  await promisify(execFile)('javac', ['-d', classes, join(import.meta.dirname, 'java/Judge.java')]);
  return ['java', '-XX:+UseSerialGC', '-cp', classes, 'Judge'];
}

/** The same of Go's; in a copy, so that nothing is written beside the source, and with nothing fetched. */
export async function goJudge(): Promise<string[]> {
  const cwd = newFolder();
  cpSync(join(import.meta.dirname, 'go'), cwd, { recursive: true });
  const env = { ...process.env, GOPROXY: 'off', GOTOOLCHAIN: 'local', GOWORK: 'off', GOFLAGS: '-mod=mod' };
  await promisify(execFile)('go', ['build', '-o', 'judge', '.'], { cwd, env, timeout: 180_000 });
  return [join(cwd, 'judge')];
}

/** Java and Go judge in a program that is compiled and started once: it answers each line with one. */
export class LineProgram {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #waiting: PromiseWithResolvers<string>[] = [];
  #complaint = '';

  /** It ends when its input does: with this process at the latest. */
  constructor([file = '', ...args]: readonly string[]) {
    this.child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stderr.setEncoding('utf8').on('data', (chunk: string) => (this.#complaint += chunk));
    createInterface(this.child.stdout).on('line', (line) => this.#waiting.shift()?.resolve(line));
    this.child.once('close', () => {
      const ended = new Error(`${file} ended: ${this.#complaint}`);
      for (const { reject } of this.#waiting.splice(0)) reject(ended);
    });
  }

  /** The line that it answers with. */
  ask(line: string): Promise<string> {
    const answer = Promise.withResolvers<string>();
    this.#waiting.push(answer);
    this.child.stdin.write(`${line}\n`);
    return answer.promise;
  }

  end(): void {
    this.child.stdin.end();
  }
}
