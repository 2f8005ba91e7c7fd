/** How a command is run. */
export interface CommandOptions {
  /** Added to our own environment. */
  env: Readonly<Record<string, string>>;
  limitMs: number;
  signal: AbortSignal;
  /** `inherit`: it writes where we do. `kept`: the end of what it writes stands in the problem. */
  output: 'inherit' | 'kept';
}

const keptCharacters = 500;

/**
 * Runs a program with its arguments, or a line of shell, in a process group of its own, so that it can be ended with all
 * that it started, whatever it ignores: when its time is over, or ours. Resolves to why it failed, or to undefined.
 */
export async function runCommand(
  command: string | readonly string[],
  { env, limitMs, signal, output }: CommandOptions,
): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  // Not imported: enroll and renew, in the same bundle, would load it at their start.
  const { spawn } = process.getBuiltinModule('node:child_process');
  const [file = '', ...args] = typeof command === 'string' ? [command] : command;
  const to = output === 'kept' ? 'pipe' : 'inherit';
  const child = spawn(file, args, {
    shell: typeof command === 'string',
    detached: true,
    stdio: ['ignore', to, to],
    env: { ...process.env, ...env },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (chunk: string) => (said = (said + chunk).slice(-keptCharacters)));
  child.once('error', (error) => resolve(error.message));
  child.once('exit', (code, by) =>
    resolve(code === 0 ? undefined : by === null ? `exit code ${code}` : `ended by ${by}`),
  );
  const over = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  const end = (): void => killGroup(child.pid);
  over.addEventListener('abort', end);
  const problem = await promise;
  over.removeEventListener('abort', end);
  // What goes on in the background keeps its ends of the pipes.
  for (const stream of [child.stdout, child.stderr]) stream?.destroy();
  if (problem === undefined) return undefined;
  const why = over.aborted ? `it took longer than ${limitMs / 1000} s` : problem;
  return said.trim() === '' ? why : `${why}: ${oneLine(said)}`;
}

/** Without line breaks or anything that a terminal obeys. */
export function oneLine(text: string): string {
  return text.replace(/[\s\p{Cc}]+/gu, ' ').trim();
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // All of it has ended.
  }
}
