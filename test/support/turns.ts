/** Longest processor time in milliseconds that one turn of the event loop took while something ran; neighbours do not count. */
export async function longestTurnMs(run: () => Promise<unknown>): Promise<number> {
  let isOver = false;
  const done = run().finally(() => {
    isOver = true;
  });
  let longest = 0;
  while (!isOver) {
    const before = process.threadCpuUsage();
    await new Promise(setImmediate);
    const { user, system } = process.threadCpuUsage(before);
    longest = Math.max(longest, (user + system) / 1000);
  }
  await done;
  return longest;
}
