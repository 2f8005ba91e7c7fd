/** Signals one process. Without a pid it throws: pid 0 would be the whole process group, this test run included. */
export function signalTo(pid: number | null | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined || pid === null || pid <= 1) throw new Error(`no process to send ${signal} to`);
  process.kill(pid, signal);
}
