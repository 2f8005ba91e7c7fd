import { accessSync, constants } from 'node:fs';
import { isSea } from 'node:sea';

/**
 * What runs as PID 1 in our place. The kernel hands every orphan of a container to PID 1, which must wait for it; Node
 * waits only for children it started itself, a POSIX shell in `wait` for any. It starts the agent beside it, passes on
 * signals (PID 1 gets none that it does not handle), and ends with the agent's code. `wait` returns early when a trap
 * runs, hence the loop; the last `wait` finds the code of an agent that the shell had reaped in between.
 */
export const initScript = `
{ "$@" <&3 3<&- & } 3<&0
agent=$!
for name in HUP INT QUIT USR1 USR2 TERM WINCH CONT; do trap "kill -$name $agent 2>/dev/null" "$name"; done
exec <&- 3<&-
while wait "$agent"; code=$?; [ "$code" -gt 128 ] && kill -0 "$agent" 2>/dev/null; do :; done
wait "$agent" 2>/dev/null; late=$?
[ "$late" -eq 127 ] || code=$late
exit "$code"
`;

const shells = ['/bin/sh', '/usr/bin/sh', '/busybox/sh'];

/**
 * As PID 1: replaces this process by `initScript`, which starts it again as a child; does not return then. Anywhere else,
 * and where there is no shell or Node is too old to be replaced, returns; for PID 1 after saying what that means.
 */
export function becomeChildOfInit(warn: (text: string) => void): void {
  if (process.pid !== 1) return;
  const shell = shells.find(isExecutable);
  const script = process.argv[1];
  if (shell !== undefined && script !== undefined && typeof process.execve === 'function') {
    // A single-file executable is its own script.
    const program = isSea() ? [process.execPath] : [process.execPath, ...process.execArgv, script];
    const again = [...program, ...process.argv.slice(2)];
    process.execve(shell, [shell, '-c', initScript, 'vouch-init', ...again], process.env);
  }
  warn(
    'vouch: PID 1 without a /bin/sh to reap orphans: processes that the workload abandons stay zombies until the container ends; start it with an init (docker run --init)\n',
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
