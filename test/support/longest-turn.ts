/**
 * Milliseconds of CPU that the longest turn of the event loop took of this thread, until `work` settles. Not of the wall clock,
 * in which neighbours of a shared machine would show.
 */
export async function longestTurn(work: Promise<unknown>): Promise<number> {
  let [isDone, longest] = [false, 0];
  const ended = work.finally(() => {
    isDone = true;
  });
  while (!isDone) {
    const before = process.threadCpuUsage();
    await new Promise(setImmediate);
    const { user, system } = process.threadCpuUsage(before);
    longest = Math.max(longest, (user + system) / 1000);
  }
  await ended;
  return longest;
}
