import { readFileSync } from 'node:fs';

/**
 * Does `once(n)` for at least `ms` and returns the mean time of one in microseconds: on the clock, less what this
 * process waited while others had the core; and of the CPU.
 */
export function timeOf(once, ms) {
  const start = performance.now();
  const waited = waitedMs();
  const used = process.cpuUsage();
  let count = 0;
  let passed = 0;
  do {
    for (let more = 0; more < 16; more += 1) once(count + more);
    count += 16;
    passed = performance.now() - start;
  } while (passed < ms);
  const { user, system } = process.cpuUsage(used);
  return { wall: ((passed - waitedMs() + waited) * 1000) / count, cpu: (user + system) / count };
}

/** How long this thread was ready to run and did not (proc(5), schedstat); 0 where the kernel does not say. */
function waitedMs() {
  try {
    return Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}

/** Answers each message `{ part, ms, … }` of the parent with the part's times, until the parent is gone. */
export function serveParts(parts) {
  process.once('disconnect', () => process.exit(0));
  process.on('message', (request) => process.send(parts[request.part](request)));
  process.send({ ready: true });
}
