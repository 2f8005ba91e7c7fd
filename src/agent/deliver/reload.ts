import type { Reload } from '../../config/deliver-config.ts';
import { runCommand } from './command.ts';
import { signalContainer } from './container.ts';
import { type Change, commandTimeoutMs, meantToEnd } from './hook.ts';
import { signalByPidFile } from './pid-file.ts';

const engineTimeoutMs = 10_000;

/** Tells software that the files in `dir` are others. Resolves to why it could not be told, or to undefined. */
export function reloadOnce(
  reload: Reload,
  { dir, change, signal }: { dir: string; change: Change; signal: AbortSignal },
): Promise<string | undefined> {
  const run = (command: readonly string[]): Promise<string | undefined> => {
    const env = { VOUCH_DIR: dir, VOUCH_CHANGE: change };
    return runCommand(command, { env, limitMs: commandTimeoutMs, signal, output: 'kept' });
  };
  switch (reload.type) {
    case 'signal':
      return Promise.resolve(signalByPidFile(reload.pidFile, reload.signal, meantToEnd));
    case 'command':
      return run(reload.command);
    case 'systemd':
      return run(['systemctl', '--no-ask-password', 'reload', reload.unit]);
    case 'container':
      return signalContainer(reload, AbortSignal.any([signal, AbortSignal.timeout(engineTimeoutMs)]));
  }
}
